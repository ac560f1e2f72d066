"""NeuCODEX's Table I from our bundles: each configuration beside the paper's figure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neucodex_lava.evaluation.paper.families import (
    Cell,
    Family,
    find_families,
    measured_family,
    order,
    recorded_family,
)
from neucodex_lava.evaluation.paper.figures import PaperTable, table1
from neucodex_lava.progress import Progress, silent


@dataclass(frozen=True)
class TableRow:
    """One configuration of one kind of network, ours and theirs.

    Attributes:
        split, configuration: which; split None where the network is not cut.
        code_shape: (C', H', W') of the bottleneck's code; None without one.
        seeds: how many.
        samples: test samples, of each seed.
        accuracy: share of right answers; the mean over the seeds.
        accuracy_interval: 95 % Wilson interval; None with several seeds.
        accuracy_spread: standard deviation over the seeds (n - 1); None with one.
        mean_timesteps, syn_ops, macs, payload_bits: means per sample (and over the seeds); None where
            not measured.
        source: who measured it.
        paper_accuracy, paper_timesteps: the paper's; None where not known to us.
        paper_source: where those are from.
        difference_points: ours less theirs in percentage points.
    """

    split: str | None
    configuration: str
    code_shape: tuple[int, ...] | None
    seeds: int
    samples: int
    accuracy: float
    accuracy_interval: tuple[float, float] | None
    accuracy_spread: float | None
    mean_timesteps: float | None
    syn_ops: float | None
    macs: float | None
    payload_bits: float | None
    source: str
    paper_accuracy: float | None
    paper_timesteps: float | None
    paper_source: str | None
    difference_points: float | None


@dataclass(frozen=True)
class TableGroup:
    """One kind of network: architecture, width, dataset, T_max and coding, in one or more seeds.

    Attributes:
        architecture, width, head, dataset, t_max, coding: which; head is empty unless the edge head
            has a width of its own.
        seeds: of the training runs.
        folders: of the families.
        differs: how its conditions differ from the paper's, and what we do not know of them.
        rows: its configurations.
    """

    architecture: str
    width: float
    head: str
    dataset: str
    t_max: int
    coding: str
    seeds: tuple[int, ...]
    folders: tuple[str, ...]
    differs: tuple[str, ...]
    rows: tuple[TableRow, ...]

    @property
    def title(self) -> str:
        """In one line."""
        seeds = ", ".join(map(str, self.seeds))
        many = "seeds" if len(self.seeds) > 1 else "seed"
        width = f"width {self.width:g}" + (f", {self.head}" if self.head else "")
        return (
            f"{self.architecture}, {width}, {self.dataset}, T_max {self.t_max},"
            f" {self.coding} input, {many} {seeds}"
        )


@dataclass(frozen=True)
class Table1:
    """The whole table.

    Attributes:
        paper: what it is compared with.
        groups: one for each kind of network.
        missing: what the paper measured and no bundle of ours does.
        notes: where figures were not measured in this run, and why.
        command: that made it.
    """

    paper: PaperTable
    groups: tuple[TableGroup, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    command: str = ""
    report: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def make_table1(
    exports: Path,
    *,
    samples: int = 0,
    alpha: float | None = None,
    data_root: Path | None = None,
    run: bool = True,
    command: str = "",
    progress: Progress = silent,
) -> Table1:
    """The table of every family of bundles in a folder.

    Args:
        exports: folder of families, ``netx_exports`` say, or one family.
        samples: test samples, 0 for all.
        alpha: confidence to reach; None takes the bundles'.
        data_root: where datasets other than the embedded one lie.
        run: False takes what the manifests keep.
        command: recorded in the table.
        progress: called as batches finish.

    Raises:
        BundleError: no bundles, or a damaged one.
    """
    paper = table1()
    found: list[tuple[Family, list[Cell]]] = []
    notes: list[str] = []
    for family in find_families(exports):
        if run:
            cells, why = measured_family(
                family, samples=samples, alpha=alpha, data_root=data_root, progress=progress
            )
            notes += [why] if why else []
        else:
            cells = recorded_family(family)
        found.append((family, cells))
    groups = grouped(found, paper)
    have = {(g.architecture, g.dataset) for g in groups}
    wanted = dict.fromkeys((f.architecture, f.dataset) for f in paper.figures)
    missing = tuple(f"{a} on {d}: no bundle of ours" for a, d in wanted if (a, d) not in have)
    return Table1(paper, groups, missing, tuple(notes), command)


def grouped(
    families: Iterable[tuple[Family, list[Cell]]], paper: PaperTable
) -> tuple[TableGroup, ...]:
    """Families with what was measured on each, those that differ in their seed only taken together.

    Two of one kind and one seed are no two seeds: each goes into a group of its own.
    """
    kinds: dict[tuple[object, ...], list[tuple[Family, list[Cell]]]] = {}
    met: Counter[tuple[object, ...]] = Counter()
    for family, cells in families:
        one = (*family.kind, family.base.manifest.seed)
        kinds.setdefault((*family.kind, met[one]), []).append((family, cells))
        met[one] += 1
    return tuple(_group(members, paper) for members in kinds.values())


def _group(members: Sequence[tuple[Family, list[Cell]]], paper: PaperTable) -> TableGroup:
    family = members[0][0]
    manifest = family.base.manifest
    by_key: dict[tuple[object, ...], list[Cell]] = {}
    for cell in sorted((c for _, own in members for c in own), key=order):
        by_key.setdefault(cell.key, []).append(cell)
    rows = [_row(cells, family, paper) for cells in by_key.values()]
    return TableGroup(
        family.architecture,
        family.width,
        family.head,
        manifest.dataset,
        manifest.t_max,
        family.coding,
        tuple(member.base.manifest.seed for member, _ in members),
        tuple(member.folder.name for member, _ in members),
        tuple(_differs(family, paper)),
        tuple(rows),
    )


def _row(cells: Sequence[Cell], family: Family, paper: PaperTable) -> TableRow:
    one = cells[0]
    accuracy = statistics.fmean(c.accuracy for c in cells)
    theirs = paper.find(family.architecture, family.base.manifest.dataset, one.configuration)
    return TableRow(
        one.split,
        one.configuration,
        one.code_shape,
        len(cells),
        one.samples,
        accuracy,
        one.accuracy_interval if len(cells) == 1 else None,
        statistics.stdev(c.accuracy for c in cells) if len(cells) > 1 else None,
        _mean([c.mean_timesteps for c in cells]),
        _mean([c.syn_ops for c in cells]),
        _mean([c.macs for c in cells]),
        _mean([c.payload_bits for c in cells]),
        one.source,
        theirs.accuracy if theirs else None,
        theirs.mean_timesteps if theirs else None,
        theirs.source if theirs else None,
        100 * (accuracy - theirs.accuracy) if theirs else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _differs(family: Family, paper: PaperTable) -> list[str]:
    """How a family's conditions differ from the paper's, as far as those are known."""
    manifest = family.base.manifest
    found: list[str] = []
    if family.width != paper.width:
        found.append(f"width {family.width:g} (paper: full)")
    if family.head:
        found.append(f"{family.head} (paper: full)")
    name = manifest.encoding["name"]
    if name == "direct":
        found.append(f"direct input of {manifest.input_bits} bits (paper: {paper.encoding} coding)")
    elif name == "deterministic":
        found.append("equally spaced spikes (paper: rate coding, of a kind we do not know)")
    if manifest.t_max != paper.t_max:
        found.append(f"T_max {manifest.t_max} (paper: {paper.t_max})")
    papers = manifest.training
    epochs = f"trained for {len(papers['log'])} epochs" if papers else "epochs not recorded"
    found.append(f"{epochs} (paper: not known to us)")
    return found
