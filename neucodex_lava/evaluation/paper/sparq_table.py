"""SPARQ's table as data, and as it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from neucodex_lava.evaluation.paper.figures import PaperWords
from neucodex_lava.evaluation.paper.sheet import Sheet, SheetGroup
from neucodex_lava.evaluation.paper.variants import Variant
from neucodex_lava.report.si import DASH, count, interval, percent, si
from neucodex_lava.statistics import wilson_interval

NAME = "sparq"
HEAD = "SPARQ's table: ours, and the paper's"
NETWORKS: Mapping[str, str] = {"mlp": "mnist", "lenet5": "mnist", "alexnet": "cifar10"}
"""SPARQ's networks and the dataset of each."""
COLUMNS = (
    "variant", "T", "accuracy", "operations", "energy", "without memory", "fewer ops", "less energy",
    "at exit, %", "paper",
)  # fmt: skip
LEGEND = (
    "Accuracy: share of right test answers with its 95 % Wilson interval (measured). Operations, per"
    " sample: SynOps counted on real spikes (simulated), and MACs where the input has several bits;"
    " dense MACs of artificial networks. Energy: SPARQ's 45 nm prices, per sample (modelled), FP32 ones"
    " of float weights, 8-bit ones else; each operation reads its weight from memory, which the next"
    " column leaves out. Fewer ops, less energy: by which factor against the SNN of the group,"
    " that of most timesteps, then of the smallest seed. At exit: share of the"
    " samples that each exit answered, in order. ANN, SNN and QSNN are counted without exit heads."
    " Paper: its accuracy, operations and energy. – : not known to us, or nothing to compare with."
)


@dataclass(frozen=True)
class SparqTable:
    """The whole table.

    Attributes:
        paper: what it is compared with.
        variants: ours, by network.
        notes: what is missing, and why.
        command: that made it.
        report: its files by kind.
    """

    paper: PaperWords
    variants: tuple[Variant, ...]
    notes: tuple[str, ...]
    command: str = ""
    report: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def sheet(self) -> Sheet:
        """As it is shown."""
        groups: list[SheetGroup] = []
        for (architecture, dataset), found in groupby(self.variants, key=lambda v: v.key):
            members = list(found)
            baseline = _baseline(members)
            rows = tuple(_cells(v, baseline, self.paper) for v in members)
            remarks = _remarks(members, baseline)
            groups.append(SheetGroup(f"{architecture} on {dataset}", rows, remarks))
        records = tuple(_record(v) for v in self.variants)
        notes = (*self.notes, *self.paper.notes(), LEGEND)
        return Sheet(NAME, HEAD, COLUMNS, tuple(groups), notes, records)


def _baseline(members: Sequence[Variant]) -> Variant | None:
    """The SNN that factors are against: of most timesteps, then of the smallest seed."""
    found = [v for v in members if v.variant == "SNN"]
    return min(found, key=lambda v: (-v.timesteps, v.seed, v.what), default=None)


def _cells(v: Variant, baseline: Variant | None, paper: PaperWords) -> tuple[str, ...]:
    share, bounds = v.correct / v.samples, wilson_interval(v.correct, v.samples)
    theirs = paper.find(architecture=v.architecture, dataset=v.dataset, variant=v.variant)
    known = [theirs.get(name) for name in ("accuracy", "operations", "energy_j")]
    total = sum(v.exit_histogram)
    return (
        v.variant,
        str(v.timesteps),
        f"{percent(share, 2)} ({interval(*bounds)})",
        " + ".join(_operations(v)),
        si(v.energy_j, "J"),
        si(v.energy_low_j, "J"),
        *_times_fewer(v, baseline),
        " / ".join(f"{100 * n / total:.0f}" for n in v.exit_histogram) if total else DASH,
        ", ".join(DASH if n is None else f"{n:g}" for n in known) if any(known) else DASH,
    )


def _operations(v: Variant) -> list[str]:
    macs = [f"{count(v.macs)} MACs"] if v.macs else []
    return [count(v.syn_ops), *macs] if v.syn_ops else macs


def _times_fewer(v: Variant, baseline: Variant | None) -> tuple[str, str]:
    if baseline is None or v is baseline:
        return DASH, DASH
    work = (baseline.syn_ops + baseline.macs) / (v.syn_ops + v.macs)
    return f"{work:.2f}x", f"{baseline.energy_j / v.energy_j:.2f}x"


def _remarks(members: Sequence[Variant], baseline: Variant | None) -> tuple[str, ...]:
    """Which of our runs each row is, what factors are against, exits by name, and who measured it."""
    lines = [
        f"{v.variant}, T {v.timesteps}, seed {v.seed}: {v.what}; {v.samples:,} test samples"
        for v in members
    ]
    if baseline is not None:
        lines.append(
            f"Factors are against the SNN of T {baseline.timesteps}, seed {baseline.seed}:"
            f" {baseline.what}"
        )
    exits = dict.fromkeys(v.exits for v in members if v.exits)
    lines += [f"Exits in order: {', '.join(names)}" for names in exits]
    sources = ", ".join(dict.fromkeys(v.source for v in members))
    return (*lines, f"Measured by: {sources}")


def _record(v: Variant) -> dict[str, Any]:
    return {name: value for name, value in vars(v).items() if name != "exit_histogram_by_class"}
