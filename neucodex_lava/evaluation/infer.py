"""Classify test samples with the edge here and the tail on a server: ``neucodex infer``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neucodex_lava.bundle import load_bundle
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.measured import connect, run_measured
from neucodex_lava.evaluation.pipelined import code_depth, fed_timesteps
from neucodex_lava.evaluation.policies import OWN, Numbers, choose_policy
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.summary import saves_nothing


@dataclass(frozen=True)
class InferredSample:
    """One sample's answer; times are measured, wire bytes modelled from message sizes.

    Attributes:
        sample: its place among those run, from 0.
        index: its place in the test split, from 0.
        label, prediction: classes.
        timesteps: after which the policy stopped.
        edge_timesteps: run on the edge; more than that where the pipeline had begun them already.
        payload_bits, wire_bytes: sent.
        syn_ops: of the edge part.
        edge_s, roundtrip_s, cloud_s: wall times of simulator, link and cloud, and of cloud alone.
    """

    sample: int
    index: int
    label: int
    prediction: int
    timesteps: int
    edge_timesteps: int
    payload_bits: int
    wire_bytes: int
    syn_ops: int
    edge_s: float
    roundtrip_s: float
    cloud_s: float


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
    """

    target: str
    model: str
    t_max: int
    schedule: Schedule
    policy: str
    edge_depth: int
    samples: list[InferredSample]

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return sum(s.label == s.prediction for s in self.samples) / len(self.samples)

    @property
    def mean_timesteps(self) -> float:
        """Timesteps run per sample."""
        return sum(s.timesteps for s in self.samples) / len(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"accuracy": self.accuracy, "mean_timesteps": self.mean_timesteps}

    def table(self, show: int) -> Any:
        """A rich table of the first `show` samples, and a line for all."""
        from rich.console import Group
        from rich.table import Table

        table = Table(title=f"edge in Lava (fused, {self.schedule}), cloud at {self.target}")
        names = ["index", "label", "answer", "timesteps", "payload", "SynOps", "edge", "link"]
        if self.edge_depth:
            names.insert(4, "fed to edge")
        for name in names:
            table.add_column(name, justify="right")
        for s in self.samples[:show]:
            answer = str(s.prediction) if s.prediction == s.label else f"[red]{s.prediction}[/]"
            fed = [f"{s.edge_timesteps} of {self.t_max}"] if self.edge_depth else []
            table.add_row(
                str(s.index),
                str(s.label),
                answer,
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


def infer(
    folder: Path,
    target: str,
    *,
    split: str | None = None,
    samples: int = 20,
    policy: str = "confidence",
    numbers: Numbers = OWN,
    timeout_s: float = 5.0,
    schedule: Schedule = "gated",
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Inference:
    """Run samples through Lava and a server, one after the other.

    Args:
        folder: the bundle that the server serves.
        target: HOST:PORT.
        split: cut of a base bundle.
        samples: test samples, 0 for all.
        policy, numbers: the exit policy; samples that it was calibrated on are left out.
        timeout_s: longest wait for one answer, in seconds.
        schedule: of the edge part: ``gated`` or ``pipelined``.
        dataset, data_root: as `load_samples`.
        progress: called after every sample.

    Raises:
        NeucodexError: whatever stands in the way, with the way out.
    """
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split)
    c = Configuration("infer", split, bundle, net, dynamic=True)
    numbers.require_use((policy,), net.timesteps)
    choice = choose_policy(bundle, policy, numbers)
    inputs, labels, index = load_indexed_samples(
        bundle,
        samples,
        data_root=data_root,
        dataset=dataset,
        leave_out=[choice.half] if choice.half else [],
    )
    # Made before Lava starts, so that a wrong address is told at once; connected after it: Lava forks,
    # and a fork does not carry gRPC's threads over.
    client = connect(c, target, timeout_s)
    with ExitStack() as stack:
        session = None
        if c.has_edge:
            session = EdgeSession(net, schedule=schedule, keep_ledger=True)
            stack.enter_context(session)
        stack.enter_context(client)
        found = run_measured(
            inputs, choice.policy, session, client, task="infer", progress=progress
        )
    per_sample = found.ledger.per_sample("syn_ops") if found.ledger else [0] * len(inputs)
    depth = code_depth(net) if c.has_edge and schedule == "pipelined" else 0
    fed = fed_timesteps(net, found.exits.timesteps) if depth else found.exits.timesteps
    rows = [
        InferredSample(
            sample=n,
            index=int(index[n]),
            label=int(labels[n]),
            prediction=int(found.exits.predictions[n]),
            timesteps=int(found.exits.timesteps[n]),
            edge_timesteps=int(fed[n]) if c.has_edge else 0,
            payload_bits=int(found.payload_bits[n]),
            wire_bytes=int(found.wire_bytes[n]),
            syn_ops=int(per_sample[n]),
            edge_s=float(found.edge_s[n]),
            roundtrip_s=float(found.roundtrip_s[n]),
            cloud_s=float(found.cloud_s[n]),
        )
        for n in range(len(inputs))
    ]
    return Inference(target, c.model_id, net.timesteps, schedule, policy, depth, rows)
