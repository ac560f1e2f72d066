"""What `infer` found, sample by sample; as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.report.summary import saves_nothing


@dataclass(frozen=True)
class InferredSample:
    """One sample's answer; times are measured, wire bytes modelled from message sizes.

    Attributes:
        sample: its place among those run, from 0.
        index: its place in the test split, from 0.
        label, prediction: classes; a prediction of None is an abstention.
        timesteps: after which the policy stopped, or that the answer is of when time was up.
        edge_timesteps: run on the edge; more than that where the pipeline had begun them already, the
            edge ran ahead, or it waited in vain.
        payload_bits, wire_bytes: sent.
        syn_ops: of the edge part.
        edge_s, roundtrip_s, cloud_s: wall times of simulator, link and cloud, and of cloud alone.
        source: who answered: ``cloud``; ``cloud-earlier``: the latest that had come when time was up;
            ``local``: an exit head on the edge; or ``abstained``.
        extra_syn_ops, extra_bits: of `syn_ops` and `payload_bits`, what the answer did not need.
    """

    sample: int
    index: int
    label: int
    prediction: int | None
    timesteps: int
    edge_timesteps: int
    payload_bits: int
    wire_bytes: int
    syn_ops: int
    edge_s: float
    roundtrip_s: float
    cloud_s: float
    source: str = "cloud"
    extra_syn_ops: int = 0
    extra_bits: int = 0


@dataclass(frozen=True)
class Inference:
    """What `infer` found.

    Attributes:
        target: HOST:PORT of the server.
        model: what edge and cloud agreed on.
        t_max: T_max.
        schedule: of the edge part.
        policy: exit policy.
        edge_depth: Lava steps from a frame to its code, 0 where nothing is pipelined.
        samples: one by one.
        link_lost: number of the first sample for which there was no link; None where it held.
        problem: why there was none, or why the cloud failed.
        deadline_ms: of a sample; None for none.
        link: what the sessions sent and met on the way (`host_bridge.client.LinkCounts`).
        failed: samples that the cloud failed at, while the link held.
    """

    target: str
    model: str
    t_max: int
    schedule: Schedule
    policy: str
    edge_depth: int
    samples: list[InferredSample]
    link_lost: int | None = None
    problem: str = ""
    deadline_ms: float | None = None
    link: dict[str, int] = field(default_factory=dict)
    failed: int = 0

    @property
    def accuracy(self) -> float:
        """Share of right answers; an abstention is none."""
        return sum(s.label == s.prediction for s in self.samples) / len(self.samples)

    @property
    def mean_timesteps(self) -> float:
        """Timesteps run per sample."""
        return sum(s.timesteps for s in self.samples) / len(self.samples)

    @property
    def local_share(self) -> float:
        """Share of samples that an exit head on the edge answered."""
        return sum(s.source == "local" for s in self.samples) / len(self.samples)

    @property
    def sources(self) -> dict[str, int]:
        """How many samples were answered by whom."""
        return dict(Counter(s.source for s in self.samples))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        means = {"accuracy": self.accuracy, "mean_timesteps": self.mean_timesteps}
        return asdict(self) | means | {"local_share": self.local_share, "sources": self.sources}

    def table(self, show: int) -> Any:
        """A rich table of the first `show` samples, and a line for all."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"edge in Lava (fused, {self.schedule}), cloud at {self.target}")
        names = ["index", "label", "answer", "timesteps", "payload", "SynOps", "edge", "link"]
        if self.edge_depth:
            names.insert(4, "fed to edge")
        placed = self.policy == "place"
        by = placed or self.deadline_ms is not None
        if by:
            names.insert(3, "by")
        for name in names:
            table.add_column(name, justify="right")
        for s in self.samples[:show]:
            given = "none" if s.prediction is None else str(s.prediction)
            answer = given if s.prediction == s.label else f"[red]{given}[/]"
            fed = [f"{s.edge_timesteps} of {self.t_max}"] if self.edge_depth else []
            table.add_row(
                str(s.index),
                str(s.label),
                answer,
                *([s.source] if by else []),
                f"{s.timesteps} of {self.t_max}",
                *fed,
                f"{s.payload_bits} bit",
                f"{s.syn_ops:,}",
                f"{1e3 * s.edge_s:.1f} ms",
                f"{1e3 * s.roundtrip_s:.1f} ms",
            )
        line = (
            f"{len(self.samples)} samples: accuracy {100 * self.accuracy:.1f} %,"
            f" mean timesteps {self.mean_timesteps:.2f} of {self.t_max}"
        )
        if placed:
            line += f", {100 * self.local_share:.1f} % answered on the edge"
        if self.deadline_ms is not None:
            shares = ", ".join(f"{n} {source}" for source, n in sorted(self.sources.items()))
            line += f"\nwithin {self.deadline_ms:g} ms: {shares}"
        extra = sum(s.extra_syn_ops for s in self.samples), sum(s.extra_bits for s in self.samples)
        if any(extra):
            line += f"\nnot needed in the end: {extra[0]:,} SynOps, {extra[1]:,} bit sent"
        if self.link.get("reconnects"):
            line += (
                f"\nthe link broke and was taken up again {self.link['reconnects']} times,"
                f" {self.link['replayed']} codes sent again"
            )
        if self.failed:
            line += f"\nthe cloud failed at {self.failed} samples"
            line += f": {escape(self.problem)}" if self.link_lost is None else ""
        if self.link_lost is not None:
            line += f"\nthe link failed, first at sample {self.link_lost}: {escape(self.problem)}"
        if not self.edge_depth:
            return Group(table, line)
        saved = sum(self.t_max - s.edge_timesteps for s in self.samples)
        early = sum(self.t_max - s.timesteps for s in self.samples)
        line += (
            f"\nthe pipeline is {self.edge_depth} steps deep: of {early:,} timesteps after a decision,"
            f" {saved:,} were not fed to the edge"
        )
        if saves_nothing(self.t_max, self.edge_depth):
            line += f"; with T = {self.t_max} an exit saves link and cloud but no edge energy"
        return Group(table, line)
