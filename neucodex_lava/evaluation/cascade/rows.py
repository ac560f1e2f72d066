"""Rows of an evaluation for structural exits: the base on the edge, answered at its exit heads.

A policy over exits is kept in a manifest under its name with ``structural-`` before it, since its
timesteps are the exits and its sums are logits: it does not fit the readout's running sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from energy.devices import DeviceModel
from neucodex_lava.bundle import Bundle
from neucodex_lava.cloud.twin import TwinResult
from neucodex_lava.evaluation.cascade.offline import Cascade, CascadeOutcome, check_exits
from neucodex_lava.evaluation.cascade.session import CascadeSession, require_same
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.outcome import Outcome, TwinRuns
from neucodex_lava.evaluation.policies import NEED_NUMBERS, OWN, STRUCTURAL, Choice, Numbers
from neucodex_lava.evaluation.rows import make_row
from neucodex_lava.exits.calibration import Calibration, CalibrationOptions, calibrate
from neucodex_lava.exits.metrics import exit_histogram
from neucodex_lava.exits.table import POLICIES, policy_from_dict
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Row

EDGE_ONLY_EXITS = "edge-only exits"
READING = {"gain": 1.0, "logits": "sum"}
"""What a cascade hands to a policy are logits already."""


def structural_choices(
    bundle: Bundle, names: Sequence[str] = (), numbers: Numbers = OWN
) -> list[Choice]:
    """The policies over a base bundle's exit heads: calibrated ones, and others that were asked for.

    Args:
        bundle: without exit heads, or with a bottleneck, there are none.
        names: policies that need no calibration stop at exits as they stop at timesteps.
        numbers: for those.

    Raises:
        ConfigError: a calibrated one is for another number of exits.
    """
    if not bundle.net.exit_heads or bundle.manifest.kind != "base":
        return []
    cascade = Cascade.of(bundle)
    exits = len(cascade.segments)
    found: dict[str, Choice] = {}
    for name, entry in bundle.manifest.exits.items():
        if name.startswith(STRUCTURAL):
            policy = policy_from_dict(entry["policy"])
            check_exits(policy, cascade)
            short = name.removeprefix(STRUCTURAL)
            found[short] = Choice(short, policy, entry["calibration"])
    for name in names:
        if name not in POLICIES or name in found or name == "fixed":
            continue
        given = numbers.for_policy(name, exits)
        if given or name not in NEED_NUMBERS:
            fields = POLICIES[name].__dataclass_fields__
            reading = {key: value for key, value in READING.items() if key in fields}
            raw = {"name": name, "t_max": exits, **reading, **given}
            found[name] = Choice(name, policy_from_dict(raw))
    return list(found.values())


def calibrate_structural(
    bundle: Bundle,
    kind: str,
    result: TwinResult,
    labels: NDArray[np.int64],
    options: CalibrationOptions,
    class_names: tuple[str, ...] = (),
) -> Calibration:
    """A policy over the exit heads, to be kept under ``structural-`` and its kind.

    Args:
        bundle: a base with exit heads.
        kind: one of `KINDS`; for ``qlearning`` an exit costs the SynOps and MACs counted up to it.
        result: whole runs of calibration samples, counted.
        labels: their classes, (N,).
        options: what the policy has to keep to.
        class_names: for messages.

    Raises:
        ConfigError: no exit heads, or options that are not possible.
        DataError: too few samples, or a class without any.
    """
    cascade = Cascade.of(bundle)
    return calibrate(
        kind,
        cascade.logits(cascade.sums(result)),
        labels,
        gain=1.0,
        options=replace(options, logits="sum"),
        class_names=class_names,
        syn_ops=cascade.syn_ops(result.ledger),
    )


def structural_rows(
    bundle: Bundle,
    choices: Sequence[Choice],
    session: CascadeSession | None,
    chosen: NDArray[np.intp],
    twins: TwinRuns,
    labels: NDArray[np.int64],
    *,
    energy_model: DeviceModel,
    progress: Progress = silent,
) -> list[Row]:
    """One row for each policy; its histogram counts exits instead of timesteps.

    Args:
        bundle: a base with exit heads.
        choices: from `structural_choices`.
        session: its cascade in Lava; None where nothing runs for real.
        chosen: samples that do, segment by segment; exits, answers, sums and counts must equal the
            executor's.
        twins: whole runs of the samples.
        labels: their classes, (N,).
        energy_model: prices what ran.
        progress: of the executor's batches and the real samples.

    Raises:
        SimulationError: Lava and the executor disagree.
    """
    rows: list[Row] = []
    for choice in choices:
        cascade = Cascade.of(bundle)
        net = cascade.net.with_cut(len(cascade.net.nodes))
        c = Configuration(EDGE_ONLY_EXITS, None, bundle, net, dynamic=True, policy=choice.name)
        outcome = cascade.read_off(twins.result(c), choice.policy)
        real = None
        if session is not None:
            task = f"Lava {c.title}"
            real = session.run(twins.inputs[chosen], choice.policy, task=task, progress=progress)
            require_same(outcome, real, chosen, c.title)
        rows.append(_row(c, cascade, outcome, real, labels, energy_model))
    return rows


def _row(
    c: Configuration,
    cascade: Cascade,
    outcome: CascadeOutcome,
    real: CascadeOutcome | None,
    labels: NDArray[np.int64],
    energy_model: DeviceModel,
) -> Row:
    exits = outcome.exits
    # Whatever ran, ran all its timesteps.
    whole = replace(exits, timesteps=np.full(len(labels), cascade.net.timesteps))
    row = make_row(c, Outcome(whole, outcome.ledger, None), None, labels, energy_model)
    histogram, by_class = exit_histogram(
        exits, len(cascade.segments), labels, cascade.net.last.size
    )
    return replace(
        row,
        exits=list(cascade.exits),
        exit_histogram=histogram,
        exit_histogram_by_class=by_class,
        edge_s=None if real is None or real.edge_s is None else float(real.edge_s.mean()),
        measured_samples=0 if real is None else len(real.sums),
    )
