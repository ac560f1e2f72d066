"""Evaluate bundles: find a base and its split bundles, run every configuration, write the report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from energy import device
from neucodex_lava.bundle import Bundle, find_base, load_bundle
from neucodex_lava.config import parse_split, require
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.evaluation.configurations import Configuration, plan, with_policies
from neucodex_lava.evaluation.curves import policy_curve
from neucodex_lava.evaluation.evaluate import evaluate
from neucodex_lava.evaluation.heads import Heads
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.place.placement import LinkPrices
from neucodex_lava.evaluation.policies import (
    ORACLE,
    OWN,
    Choice,
    Numbers,
    choose_policy,
    named_policies,
)
from neucodex_lava.evaluation.rows import with_reductions
from neucodex_lava.evaluation.samples import open_samples
from neucodex_lava.evaluation.twin_job import Run, run_here
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.oracle import OraclePolicy
from neucodex_lava.exits.policy import ExitPolicy
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.html import write_report
from neucodex_lava.report.results import Curve, Results
from neucodex_lava.versions import versions

BACKENDS = ("twin", "fused")


def find_bundles(folder: Path, base: Path | None = None) -> tuple[Bundle, list[Bundle]]:
    """The base and split bundles that evaluating one bundle takes.

    Args:
        folder: a split bundle (its base is looked up) or a base bundle.
        base: the base's folder; by default a sibling with the right sha256.

    Raises:
        BundleError: a bundle is damaged, or the base is not found.
    """
    bundle = load_bundle(folder)
    if bundle.manifest.kind == "base":
        return bundle, []
    return find_base(bundle, base), [bundle]


def find_sweep(folder: Path) -> tuple[Bundle, list[Bundle]]:
    """The base bundle in a folder and the split bundles beside it that name it.

    Raises:
        BundleError: no such folder, no base in it, or more than one; or a damaged bundle.
    """
    if not folder.is_dir():
        raise BundleError(f"'{folder}' is not a folder", "pass a folder of exported bundles")
    bundles = [load_bundle(p.parent) for p in sorted(folder.glob("*/manifest.json"))]
    bases = [b for b in bundles if b.manifest.kind == "base"]
    if len(bases) != 1:
        raise BundleError(
            f"'{folder}' holds {len(bases)} base bundles, a sweep needs exactly one",
            "export the base network there first",
        )
    base = bases[0]
    splits = [b for b in bundles if b.manifest.kind == "split"]
    for bundle in splits:
        if not base.answers_to(bundle.manifest.base or ""):
            raise BundleError(
                f"bundle '{bundle.path}' names another base than '{base.path}'",
                "export it again with this base, or move it elsewhere",
            )
    splits.sort(key=lambda b: parse_split(b.manifest.split or "SP1"))
    return base, splits


def evaluate_bundles(
    base: Bundle,
    bundles: Sequence[Bundle],
    *,
    splits: Sequence[str] = (),
    samples: int = 0,
    confirm: int = 100,
    backend: str = "twin",
    schedule: Schedule = "gated",
    policies: Sequence[str] = ("confidence",),
    numbers: Numbers = OWN,
    costs: LinkPrices | None = None,
    energy_model: str = "paper-23pJ",
    dataset: str | None = None,
    data_root: Path | None = None,
    out: Path | None = None,
    command: str = "",
    run: Run = run_here,
    progress: Progress = silent,
) -> Results:
    """Every configuration at each split point, and the report.

    Args:
        base: the base bundle.
        bundles: its split bundles.
        splits: split points, e.g. ``("SP1", "SP3")``; by default those of the bundles, or all of
            the base's when there are none.
        samples: test samples, 0 for all.
        confirm: samples that also run for real, in Lava and over a socket.
        backend: ``twin`` or ``fused``; fused runs every sample for real.
        schedule: of the edge parts, in Lava and in the executor's counts: ``gated`` or ``pipelined``.
        policies, numbers: exit policies of the dynamic configurations, a row for each; samples that one
            of them was calibrated on are left out, for all rows.
        costs: of the link, for exit heads that may answer in the cloud's place.
        energy_model: name of a device model.
        dataset, data_root: as `open_samples`.
        out: folder of the report.
        command: recorded in the report.
        run: who runs the executor, as `fan_out` gives it.
        progress: called as samples finish.

    Raises:
        NeucodexError: whatever stands in the way, with the way out.
    """
    require(confirm >= 0, f"--confirm {confirm} is negative")
    policies = named_policies(policies, [base, *bundles])
    numbers.require_use(policies, base.manifest.t_max)
    if backend not in BACKENDS:
        raise ConfigError(
            f"an evaluation cannot run on backend '{backend}'",
            "choose twin or fused: the other backends have no early exit",
        )
    m = base.manifest
    folder = out or Path("out") / f"{m.architecture}-{dataset or m.dataset}"
    require_writable(folder)
    model = device(energy_model)
    chosen = list(dict.fromkeys(f"SP{parse_split(s)}" for s in splits))
    if not chosen:
        chosen = [b.manifest.split for b in bundles if b.manifest.split]
    if not chosen:
        chosen = list(base.manifest.split_points)
    configurations = with_policies(plan(base, chosen, bundles), policies)
    choices = {
        (b.sha256, name): choose_policy(b, name, numbers)
        for b in (base, *bundles)
        for name in policies
        if name != ORACLE
    }
    heads = Heads(base, [], [])
    if schedule == "gated":  # stock neurons go on behind an exit head that has answered
        heads = Heads.of(base, bundles, chosen, policies, numbers, costs)
    leave_out = heads.halves | {c.half for c in choices.values() if c.half is not None}
    seen = open_samples(base, samples, data_root=data_root, dataset=dataset, leave_out=leave_out)
    inputs, labels = seen.take(), seen.samples.labels

    def policy_for(c: Configuration) -> ExitPolicy | OraclePolicy:
        if c.policy == ORACLE:
            return OraclePolicy(c.net.timesteps, labels)
        return choices[c.bundle.sha256, c.policy].policy

    twins = TwinRuns(inputs, run=run, progress=progress)
    confirm = len(inputs) if backend == "fused" else confirm
    with heads.opened(len(inputs), confirm) as sessions:
        rows = evaluate(
            configurations,
            inputs,
            labels,
            policy_for=policy_for,
            energy_model=model,
            confirm=confirm,
            schedule=schedule,
            twins=twins,
            progress=progress,
        )
        rows += heads.rows(sessions, twins, labels, energy_model=model, progress=progress)
    alphas = [getattr(choice.policy, "alpha", None) for choice in choices.values()]
    results = Results(
        dataset=dataset or m.dataset,
        architecture=m.architecture,
        encoding=str(m.encoding["name"]),
        seed=m.seed,
        t_max=m.t_max,
        policy=", ".join(policies),
        alpha=next((float(alpha) for alpha in alphas if alpha is not None), 1.0),
        backend=backend,
        schedule=schedule,
        energy_model=model.name,
        rows=with_reductions(rows),
        versions=versions(),
        command=command,
        left_out=seen.left_out,
        calibrations={c.name: c.how for c in choices.values() if c.how} | heads.calibrations,
        curves=_curves(configurations, choices, twins, labels),
    )
    page = write_report(results, folder)
    return replace(results, report=str(page))


def _curves(
    configurations: Sequence[Configuration],
    choices: Mapping[tuple[str, str], Choice],
    twins: TwinRuns,
    labels: NDArray[np.int64],
) -> list[Curve]:
    """Those of each network with each policy asked for, and with fixed timesteps."""
    found: list[Curve | None] = []
    for c in {c.bundle.sha256: c for c in configurations}.values():
        sums = twins.result(c).sums
        assert sums is not None, "evaluated networks end in a readout"
        split = c.bundle.manifest.split
        mine = {
            name: ch.policy for (sha256, name), ch in choices.items() if sha256 == c.bundle.sha256
        }
        for name, policy in ({"fixed": FixedPolicy(c.net.timesteps)} | mine).items():
            found.append(policy_curve(split, name, policy, sums, labels))
    return [curve for curve in found if curve is not None]


def require_writable(folder: Path) -> None:
    """Raise ConfigError where a folder cannot be made or written to; makes nothing."""
    found = folder
    while not found.exists() and found != found.parent:
        found = found.parent
    if not found.is_dir():
        raise ConfigError(f"--out '{folder}': '{found}' is no folder", "choose another folder")
    if not os.access(found, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--out '{folder}': no right to write in '{found}'", "choose another folder"
        )
