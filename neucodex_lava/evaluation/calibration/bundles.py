"""Calibrate the exit policies of bundles and keep them in their manifests: ``neucodex calibrate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle, amend, find_base, load_bundle
from neucodex_lava.bundle.manifest import MANIFEST_FILE
from neucodex_lava.bundle.paperwork import now
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import TwinResult, run_twin
from neucodex_lava.coding import KIND as CODING
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.evaluation.calibration import place as place_calibration
from neucodex_lava.evaluation.calibration.results import Calibrated, CalibratedBundle, Check
from neucodex_lava.evaluation.calibration.samples import (
    CalibrationSamples,
    split_for_calibration,
)
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.evaluation.cascade.rows import calibrate_structural
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.evaluation.place.placement import no_site, sites
from neucodex_lava.evaluation.policies import PLACE, STRUCTURAL, exit_name
from neucodex_lava.evaluation.sweep import find_sweep
from neucodex_lava.exits.calibration import KINDS, Calibration, CalibrationOptions, calibrate
from neucodex_lava.exits.metrics import optimal_cutoff
from neucodex_lava.exits.policy import OfflinePolicy, Sums, decide, predicted
from neucodex_lava.exits.table import policy_to_dict
from neucodex_lava.progress import Progress, silent

Labels = NDArray[np.int64]
NO_HEAD = "no exit head before its cut"


def calibrate_bundles(
    folder: Path,
    *,
    kinds: Sequence[str] = (),
    options: CalibrationOptions | None = None,
    samples: int = 0,
    base: Path | None = None,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
) -> list[CalibratedBundle]:
    """Calibrate one bundle, or a base and all its split bundles; their manifests keep the policies.

    A bundle's name and answers stay as they are. Of a split bundle, what `guaranteed` promises is
    counted against its base's answers at T_max: what the bottleneck loses is in it.

    Args:
        folder: of a bundle, or of a family.
        kinds: of `KINDS`, or ``place``; by default all, and those that are not possible on these
            samples are told. All together replace whatever was calibrated before; some must be
            calibrated on the same half of the test split as what stays.
        options: what policies have to keep to, and the seed that draws the samples.
        samples: at most so many to calibrate on, and to check on; 0 for all.
        base: of a split bundle; by default the sibling folder that fits.
        data_root: where datasets other than the embedded one lie.
        command: recorded.
        progress: called as batches finish.

    Raises:
        NeucodexError: whatever stands in the way, with the way out; no manifest was changed then.
    """
    options = options or CalibrationOptions()
    known = (*KINDS, place_calibration.KIND)
    for kind in kinds:
        if kind not in known:
            raise ConfigError(
                f"unknown calibration '{kind}'", f"choose one of {', '.join((*known, CODING))}"
            )
    bundles = targets(folder)
    root = find_base(bundles[0], base) if len(bundles) == 1 else bundles[0]
    where = {bundle.path: sites(bundle) for bundle in bundles}
    if place_calibration.KIND in kinds and not any(where.values()):
        raise no_site(folder, "any cut" if len(where) > 1 else "its cut")
    halves = split_for_calibration(root, options.seed, samples, data_root)
    if kinds:
        for bundle in bundles:
            _require_same_half(bundle, kinds, halves.how())
    runs = _Runs(halves, progress)
    reference = runs.answers(root)
    done: list[CalibratedBundle] = []
    for bundle in bundles:
        own = reference if bundle.manifest.kind == "split" else None
        of_policies = [kind for kind in kinds or KINDS if kind in KINDS]
        axes = _axes(bundle, runs, own, options)
        found = _calibrated(axes, of_policies, told=not kinds)
        if not kinds or place_calibration.KIND in kinds:
            own_run, check = zip(runs.results(bundle), runs.labels)
            names = halves.calibration.samples.classes
            found += place_calibration.calibrated_places(bundle, own_run, check, names)
            if kinds and not where[bundle.path]:
                found.append(Calibrated(place_calibration.KIND, "place", problem=NO_HEAD))
        done.append(CalibratedBundle(bundle, halves, found))
    how = halves.how() | {"date": now(), "command": command}
    return [_kept(one, how, afresh=not kinds) for one in done]


def _require_same_half(bundle: Bundle, kinds: Sequence[str], how: Mapping[str, Any]) -> None:
    """Raise ConfigError where what a manifest goes on keeping stands on another half of the test split.

    An evaluation leaves out what any policy was calibrated on: of two halves little would be left.
    """
    half = CalibrationHalf.of(how)
    again = {name(kind) for kind in kinds for name in (exit_name, STRUCTURAL.__add__)}
    others: dict[str, CalibrationHalf] = {}
    for name, entry in bundle.manifest.exits.items():
        made_again = name.startswith(PLACE) and place_calibration.KIND in kinds
        if "calibration" in entry and name not in again and not made_again:
            other = CalibrationHalf.of(entry["calibration"])
            if half is not None and other is not None and other != half:
                others[name] = other
    if others:
        name, other = next(iter(others.items()))
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ConfigError(
            f"bundle '{bundle.path}' keeps '{name}'{more}, calibrated on another half of the test"
            f" split (seed {other.seed}); evaluations would leave out both halves",
            f"calibrate with --seed {other.seed}, or every kind again: leave out --kind",
        )


def _kept(found: CalibratedBundle, how: Mapping[str, Any], *, afresh: bool) -> CalibratedBundle:
    """What was found, in the bundle's manifest; `afresh` in place of all that was calibrated before."""
    policies = [
        replace(c, entry=c.entry | {"calibration": {**c.entry["calibration"], **how}})
        if c.check is not None
        else c
        for c in found.policies
    ]
    entries = {c.name: c.entry for c in policies if c.check is not None}
    before = found.bundle.manifest.exits
    stay = {n: entry for n, entry in before.items() if not (afresh and "calibration" in entry)}
    bundle = amend(found.bundle, exits={**stay, **entries})
    removed = [name for name in before if name not in bundle.manifest.exits]
    return CalibratedBundle(bundle, found.samples, policies, removed)


def targets(folder: Path) -> list[Bundle]:
    """The bundle in a folder, or the family: its base first.

    Raises:
        NeucodexError: there is none.
    """
    if (folder / MANIFEST_FILE).is_file() or not folder.is_dir():
        return [load_bundle(folder)]
    root, splits = find_sweep(folder)
    return [root, *splits]


class _Runs:
    """Each network run once over the samples, to T_max."""

    def __init__(self, samples: CalibrationSamples, progress: Progress) -> None:
        self.samples, self._progress = samples, progress
        self._inputs = [part.take() for part in (samples.calibration, samples.check)]
        self._done: dict[str, list[TwinResult]] = {}

    @property
    def labels(self) -> tuple[Labels, Labels]:
        """Of the calibration samples, and of those to check on."""
        return self.samples.calibration.samples.labels, self.samples.check.samples.labels

    def results(self, bundle: Bundle) -> list[TwinResult]:
        """On the calibration samples, and on those to check on."""
        if bundle.sha256 not in self._done:
            found: list[TwinResult] = []
            name = bundle.manifest.split or "base"
            for inputs, what in zip(self._inputs, ("calibration", "check")):
                task = f"executor {name}, {what}"
                found.append(
                    run_twin(
                        Executor(bundle.net),
                        inputs,
                        progress=lambda done, total, task=task: self._progress(task, done, total),
                    )
                )
            self._done[bundle.sha256] = found
        return self._done[bundle.sha256]

    def answers(self, bundle: Bundle) -> tuple[Labels, Labels]:
        """What a network answers at T_max."""
        first, second = (predicted(_sums(r)[..., -1]) for r in self.results(bundle))
        return first, second


def _sums(result: TwinResult) -> NDArray[np.int64]:
    assert result.sums is not None, "a bundle's network ends in a readout"
    return result.sums


@dataclass(frozen=True)
class _Axis:
    """What policies stop along, timesteps or exit heads, on both parts of the samples.

    Attributes:
        fit: the calibration of a kind.
        name: of a kind, in the manifest.
        sums: to check on, (N, K, T) or logits of the exits.
        labels: of these, (N,).
        kept: which of these the reference gets right, (N,).
    """

    fit: Callable[[str], Calibration]
    name: Callable[[str], str]
    sums: Sums
    labels: Labels
    kept: NDArray[np.bool_]

    def check(self, policy: OfflinePolicy) -> Check:
        """A policy on samples that it was not calibrated on."""
        exits = decide(policy, self.sums)
        right = exits.predictions == self.labels
        return Check(
            samples=len(self.labels),
            accuracy_t_max=float((predicted(self.sums[..., -1]) == self.labels).mean()),
            accuracy=float(right.mean()),
            mean_timesteps=float(exits.timesteps.mean()),
            oct=float(optimal_cutoff(self.sums, self.labels).mean()),
            lost=float((self.kept & ~right).mean()),
        )


def _axes(
    bundle: Bundle,
    runs: _Runs,
    reference: tuple[Labels, Labels] | None,
    options: CalibrationOptions,
) -> list[_Axis]:
    own, check = runs.results(bundle)
    labels, check_labels = runs.labels
    names = runs.samples.calibration.samples.classes
    answers = predicted(_sums(check)[..., -1]) if reference is None else reference[1]
    timesteps = partial(
        calibrate,
        sums=_sums(own),
        labels=labels,
        gain=bundle.readout_gain,
        options=options,
        class_names=names,
        reference=None if reference is None else reference[0],
        syn_ops=_spent(bundle, own),
    )
    axes = [_Axis(timesteps, exit_name, _sums(check), check_labels, answers == check_labels)]
    if bundle.manifest.kind == "base" and bundle.net.exit_heads:
        cascade = Cascade.of(bundle)
        logits = cascade.logits(cascade.sums(check))
        axes.append(
            _Axis(
                lambda kind: calibrate_structural(bundle, kind, own, labels, options, names),
                lambda kind: STRUCTURAL + kind,
                logits,
                check_labels,
                predicted(logits[..., -1]) == check_labels,
            )
        )
    return axes


def _spent(bundle: Bundle, result: TwinResult) -> NDArray[np.int64]:
    """SynOps and MACs of the edge part up to each timestep, (N, T)."""
    edge = result.ledger.select([node.name for node in bundle.net.edge_nodes])
    work = edge.per_node("syn_ops").sum(axis=1) + edge.per_node("macs").sum(axis=1)
    return work.cumsum(axis=1)


def _calibrated(axes: Sequence[_Axis], kinds: Sequence[str], *, told: bool) -> list[Calibrated]:
    """Every kind on every axis; those that are not possible say why if `told`, else they raise."""
    found: list[Calibrated] = []
    problem: DataError | None = None
    for axis in axes:
        for kind in kinds:
            name = axis.name(kind)
            try:
                made = axis.fit(kind)
            except DataError as error:
                if not told:
                    raise
                problem = problem or error
                found.append(Calibrated(kind, name, problem=str(error)))
                continue
            # The agent's values are in the policy already, as what exiting is worth more.
            report = {k: v for k, v in made.report.items() if k != "value"}
            entry = {
                "policy": policy_to_dict(made.policy),
                "calibration": {"kind": kind} | report,
            }
            found.append(Calibrated(kind, name, entry, axis.check(made.policy)))
    if problem is not None and not any(one.check for one in found):
        raise problem
    return found
