"""SNNCutoff's table from our bundles: what Top-K saves, beside the oracle that bounds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neucodex_lava.bundle import Bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import DataError, MissingDependencyError
from neucodex_lava.evaluation.calibration.samples import split_for_calibration
from neucodex_lava.evaluation.paper.cutoff_table import NAME, CutoffGroup, CutoffRow, CutoffTable
from neucodex_lava.evaluation.paper.families import Family, find_families
from neucodex_lava.evaluation.paper.figures import PaperWords, words
from neucodex_lava.evaluation.samples import EncodedSamples
from neucodex_lava.exits.calibration import CalibrationOptions, calibrate
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.oracle import OraclePolicy
from neucodex_lava.exits.policy import OfflinePolicy, Sums, decide
from neucodex_lava.progress import Progress, silent

OURS: Mapping[str, tuple[str, CalibrationOptions]] = {
    "Top-K(0)": ("topk-snncutoff", CalibrationOptions(epsilon=0.0)),
    "Top-K(0.05)": ("topk-snncutoff", CalibrationOptions(epsilon=0.05)),
    "Top-K of equal risk": ("topk", CalibrationOptions(drop=0.001)),
    "confidence": ("confidence", CalibrationOptions(drop=0.001)),
}


def training_of(bundle: Bundle) -> str:
    """How a bundle's network was trained, in the paper's words where it has them."""
    papers = bundle.manifest.training
    if papers is None:
        return "not recorded"
    if "conversion" in papers:
        return f"converted ({papers['conversion']['method']})"
    loss = papers["config"].get("loss", {})
    name = {
        "tet": "TET",
        "every-step": "cross-entropy at every t",
        "last-step": "cross-entropy at T",
    }
    found = name.get(loss.get("loss"), "not recorded")
    return found + (" + RCS" if loss.get("rcs_weight") else "")


def make_cutoff(
    exports: Path,
    *,
    samples: int = 0,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
) -> CutoffTable:
    """The table of every base bundle in a folder whose dataset is there, those trained by TET first.

    Args:
        exports: folder of families, or one family.
        samples: at most so many to calibrate on, and to test on; 0 for all.
        data_root: where datasets other than the embedded one lie.
        command: recorded in the table.
        progress: called as batches finish.

    Raises:
        BundleError: no bundles, or a damaged one.
    """
    paper = words(NAME)
    families = find_families(exports)
    families.sort(key=lambda family: "TET" not in training_of(family.base))
    groups: list[CutoffGroup] = []
    notes: list[str] = []
    for family in families:
        try:
            groups.append(_group(family, paper, samples, data_root, progress))
        except (DataError, MissingDependencyError) as problem:
            notes.append(f"{family.folder.name}: not run: {problem}")
    if not any("TET" in row.training for group in groups for row in group.rows):
        notes.append(
            "No bundle here was trained by TET, as the paper's were: train with --loss tet"
        )
    return CutoffTable(paper, tuple(groups), tuple(notes), command)


def _group(
    family: Family, paper: PaperWords, samples: int, data_root: Path | None, progress: Progress
) -> CutoffGroup:
    base, manifest = family.base, family.base.manifest
    parts = split_for_calibration(base, 0, samples, data_root)
    own, test = (
        _sums(base, part, f"{family.folder.name}, {what}", progress)
        for part, what in ((parts.calibration, "calibration"), (parts.check, "test"))
    )
    labels, t_max = parts.check.samples.labels, manifest.t_max
    policies: dict[str, OfflinePolicy] = {
        f"T = {t_max}": FixedPolicy(t_max), "OCT": OraclePolicy(t_max, labels),
    }  # fmt: skip
    for name, (kind, options) in OURS.items():
        own_labels = parts.calibration.samples.labels
        gain = base.readout_gain
        policies[name] = calibrate(kind, own, own_labels, gain=gain, options=options).policy
    rows: list[CutoffRow] = []
    for name, policy in policies.items():
        exits = decide(policy, test)
        of = {"architecture": family.architecture, "dataset": manifest.dataset}
        theirs = paper.find(**of, training=training_of(base), exit=name)
        rows.append(
            CutoffRow(
                training_of(base),
                name,
                len(labels),
                int((exits.predictions == labels).sum()),
                float(exits.timesteps.mean()),
                theirs.get("accuracy"),
                theirs.get("mean_timesteps"),
                theirs.get("source"),
            )
        )
    held = parts.calibration.samples.split == "holdout"
    what = "held-out training samples" if held else "test samples, tested on the others"
    return CutoffGroup(
        family.folder.name,
        family.architecture,
        family.width,
        manifest.dataset,
        t_max,
        family.coding,
        manifest.seed,
        f"{len(parts.calibration):,} {what}",
        tuple(rows),
    )


def _sums(bundle: Bundle, part: EncodedSamples, task: str, progress: Progress) -> Sums:
    found = run_twin(
        Executor(bundle.net),
        part.take(),
        count=False,
        progress=lambda done, total: progress(task, done, total),
    )
    assert found.sums is not None, "bundles end in a readout"
    return found.sums
