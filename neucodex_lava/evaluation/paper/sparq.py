"""SPARQ's table from our runs and bundles: ANN, dynamic ANN, SNN, QSNN and QDSNN of each network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from energy import price
from neucodex_lava.bundle import Bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import TwinResult, run_twin
from neucodex_lava.errors import BundleError, DataError, FormatError, MissingDependencyError
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.evaluation.cascade.rows import structural_choices
from neucodex_lava.evaluation.paper.families import find_families
from neucodex_lava.evaluation.paper.figures import words
from neucodex_lava.evaluation.paper.sparq_table import NAME, NETWORKS, SparqTable
from neucodex_lava.evaluation.paper.variants import (
    INT8,
    VARIANTS,
    Variant,
    body,
    histograms,
    read_variants,
    write_variants,
)
from neucodex_lava.evaluation.policies import Choice
from neucodex_lava.evaluation.samples import open_samples
from neucodex_lava.exits.policy import predicted
from neucodex_lava.progress import Progress, silent

POLICIES = {"qlearning": "QDSNN", "topk": "QDSNN, Top-K"}
"""Of the calibrated policies over exit heads, SPARQ's agent and the one that is best in time."""


def make_sparq(
    exports: Path,
    *,
    runs: Path | None = None,
    samples: int = 0,
    data_root: Path | None = None,
    run: bool = True,
    record: bool = False,
    command: str = "",
    progress: Progress = silent,
) -> SparqTable:
    """The table of every MLP, LeNet-5 and AlexNet.

    Args:
        exports: folder of families of bundles; ``sparq.json`` in it keeps what was measured before,
            which stands in for what is not here now.
        runs: folder of runs, for the float networks; none by default.
        samples: test samples of bundles, 0 for all; float networks always run all.
        data_root: where datasets other than the embedded one lie.
        run: False takes what was kept, and runs nothing.
        record: keep all of it in ``sparq.json``.
        command: recorded.
        progress: called as batches finish.

    Raises:
        FormatError: a damaged bundle, run or ``sparq.json``; or no folder to keep it in.
    """
    if record and not exports.is_dir():
        raise BundleError(f"'{exports}' is not a folder", "pass the folder of the bundles")
    notes: list[str] = []
    found: list[Variant] = []
    if run:
        found += _from_bundles(exports, samples, data_root, notes, progress)
        found += _from_runs(runs, data_root, notes, progress) if runs is not None else []
    here = {(v.key, v.variant, v.what) for v in found}
    found += [v for v in read_variants(exports) if (v.key, v.variant, v.what) not in here]
    found.sort(
        key=lambda v: (v.dataset, v.architecture, VARIANTS.index(v.variant), v.timesteps, v.seed)
    )
    if record:
        write_variants(exports, found, command)
    notes += _missing(found)
    return SparqTable(words(NAME), tuple(found), tuple(notes), command)


def _from_runs(
    runs: Path, data_root: Path | None, notes: list[str], progress: Progress
) -> list[Variant]:
    # Here: it needs SLAYER, which bundles do without.
    from neucodex_lava.evaluation.paper.float_runs import find_runs, run_variants

    if not runs.is_dir():
        raise FormatError(f"'{runs}' is not a folder", "pass the folder of the runs with --runs")
    found: list[Variant] = []
    for folder in find_runs(runs):
        try:
            found += run_variants(folder, data_root=data_root, progress=progress)
        except (DataError, FormatError) as problem:
            notes.append(f"run {folder.name}: not run: {problem}")
    return [v for v in found if _network(v.architecture) is not None]


def _network(architecture: str) -> str | None:
    """SPARQ's network that an architecture is, at whatever width."""
    name = architecture.partition("-w")[0]
    return name if name in NETWORKS else None


def _missing(found: Sequence[Variant]) -> list[str]:
    """What SPARQ has and we do not, network by network."""
    lines: list[str] = []
    for network, dataset in NETWORKS.items():
        here = {
            v.variant for v in found if _network(v.architecture) == network and v.dataset == dataset
        }
        missing = [v for v in ("ANN", "dynamic ANN", "SNN", "QSNN", "QDSNN") if v not in here]
        if missing:
            lines.append(f"{network} on {dataset}: no {', '.join(missing)} of ours here")
    return lines


def _from_bundles(
    exports: Path, samples: int, data_root: Path | None, notes: list[str], progress: Progress
) -> list[Variant]:
    try:
        families = find_families(exports)
    except BundleError as problem:
        if any(exports.glob("**/manifest.json")):
            raise
        notes.append(f"no bundles: {problem}")
        return []
    found: list[Variant] = []
    for family in families:
        if _network(family.base.manifest.architecture) is None:
            continue
        try:
            found += bundle_variants(family.base, samples, data_root, progress)
        except (DataError, MissingDependencyError) as problem:
            notes.append(f"{family.folder.name}: not run: {problem}")
    return found


def bundle_variants(
    bundle: Bundle, samples: int, data_root: Path | None, progress: Progress = silent
) -> list[Variant]:
    """QSNN, all timesteps and no exit heads; and where calibrated QDSNN, answered at its exit heads.

    Args:
        bundle: a base.
        samples: of the test split, 0 for all; those that a policy was calibrated on are left out.
        data_root: where datasets other than the embedded one lie.
        progress: called as batches finish.

    Raises:
        DataError: the dataset is not there.
    """
    choices = [c for c in structural_choices(bundle) if c.name in POLICIES]
    halves = {c.half for c in choices if c.half is not None}
    seen = open_samples(bundle, samples, data_root=data_root, leave_out=halves)
    name = bundle.path.resolve().parent.name
    result = run_twin(
        Executor(bundle.net),
        seen.take(),
        progress=lambda done, total: progress(name, done, total),
    )
    labels, net = seen.samples.labels, bundle.net
    assert result.sums is not None, "bundles end in a readout"
    made = _made(bundle)
    ledger = result.ledger.select(body(net))
    correct = int((predicted(result.sums[..., -1]) == labels).sum())
    priced = price(ledger, INT8)
    found = [
        Variant(
            bundle.manifest.architecture,
            bundle.manifest.dataset,
            "QSNN",
            f"bundle {name}/{bundle.path.name}: {made}",
            net.timesteps,
            len(labels),
            correct,
            ledger.total("syn_ops") / len(labels),
            ledger.total("macs") / len(labels),
            priced.mean_j,
            priced.low_j,
            seed=bundle.manifest.seed,
        )
    ]
    found += [_at_exits(bundle, name, made, choice, result, labels) for choice in choices]
    return found


def _at_exits(
    bundle: Bundle,
    name: str,
    made: str,
    choice: Choice,
    result: TwinResult,
    labels: NDArray[np.int64],
) -> Variant:
    cascade = Cascade.of(bundle)
    outcome = cascade.read_off(result, choice.policy)
    priced, ledger = price(outcome.ledger, INT8), outcome.ledger
    shape = bundle.net.last.size, len(cascade.exits)
    histogram, by_class = histograms(outcome.exits.timesteps - 1, labels, shape)
    how = "SPARQ's agent" if choice.name == "qlearning" else "Top-K of equal risk"
    return Variant(
        bundle.manifest.architecture,
        bundle.manifest.dataset,
        POLICIES[choice.name],
        f"bundle {name}/{bundle.path.name}: {made}; {how} over its exit heads",
        bundle.net.timesteps,
        len(labels),
        int((outcome.exits.predictions == labels).sum()),
        ledger.total("syn_ops") / len(labels),
        ledger.total("macs") / len(labels),
        priced.mean_j,
        priced.low_j,
        cascade.exits,
        histogram,
        by_class,
        seed=bundle.manifest.seed,
    )


def _made(bundle: Bundle) -> str:
    """How a bundle's 8-bit network came about, in words."""
    papers = bundle.manifest.training
    if papers is None:
        return "8-bit weights, training not recorded"
    if "conversion" in papers:
        return f"converted ({papers['conversion']['method']}), then rounded to 8-bit weights"
    epochs = papers["config"].get("qat_epochs", 0)
    return f"8-bit weights, the last {epochs} epochs on the exact integers"
