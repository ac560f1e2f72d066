"""Evaluate configurations: all samples in the executor, some of them for real, compared with ``==``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from energy import paper_energy_j, price
from energy.devices import DeviceModel
from energy.ledger import Ledger
from host_bridge import serving
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.errors import ConfigError, SimulationError
from neucodex_lava.evaluation.configurations import (
    EDGE_ONLY,
    EDGE_ONLY_DYNAMIC,
    Configuration,
)
from neucodex_lava.evaluation.layers import layer_rows
from neucodex_lava.evaluation.measured import Measured, connect, run_measured
from neucodex_lava.evaluation.outcome import LinkCost, Outcome, TwinRuns
from neucodex_lava.evaluation.pipelined import code_depth, fed_timesteps
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.policy import ExitPolicy
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import LayerRow, Row
from neucodex_lava.statistics import wilson_interval

PolicyFor = Callable[[Configuration], ExitPolicy]
"""Makes the exit policy of a dynamic configuration (its readout's gain belongs to the policy)."""


def evaluate(
    configurations: Sequence[Configuration],
    inputs: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    policy_for: PolicyFor,
    energy_model: DeviceModel,
    confirm: int,
    schedule: Schedule = "gated",
    progress: Progress = silent,
) -> list[Row]:
    """One row for each configuration.

    Args:
        configurations: in the order of the rows.
        inputs: encoded test samples, uint8 (N, C, H, W, T).
        labels: their classes, (N,).
        policy_for: the exit policy of dynamic configurations; fixed ones run to T_max.
        energy_model: prices the edge part's counts.
        confirm: how many samples, spread evenly, also run in Lava and over a real socket; their
            answers, timesteps and counts must equal the executor's.
        schedule: of the edge parts: ``gated`` or ``pipelined``.
        progress: of the executor's batches and the real samples.

    Raises:
        SimulationError: Lava and the executor disagree.
        ConfigError: no samples.
    """
    if len(inputs) == 0:
        raise ConfigError("no samples to evaluate", "choose a larger --samples")
    chosen = np.unique(np.linspace(0, len(inputs) - 1, min(confirm, len(inputs))).astype(int))
    if confirm == 0:
        chosen = chosen[:0]
    twins = TwinRuns(inputs, progress=progress)
    policies = [
        policy_for(c) if c.dynamic else FixedPolicy(c.net.timesteps) for c in configurations
    ]
    # Lava starts before anything of gRPC: it forks, and a fork does not carry gRPC's threads over.
    with ExitStack() as stack:
        sessions = _open_sessions(stack, configurations, schedule) if chosen.size else {}
        outcomes = [twins.outcome(c, p, schedule) for c, p in zip(configurations, policies)]
        real: list[Measured | None] = [None] * len(configurations)
        if chosen.size:
            address = _serve(stack, configurations)
            for i, (c, policy) in enumerate(zip(configurations, policies)):
                session = sessions.get(_session_key(c, schedule)) if c.has_edge else None
                title = f"Lava+bridge {c.split or ''} {c.name}".replace("  ", " ")
                with connect(c, address) if c.has_link else nullcontext() as client:
                    real[i] = run_measured(
                        inputs[chosen], policy, session, client, task=title, progress=progress
                    )
    rows: list[Row] = []
    for c, outcome, measured in zip(configurations, outcomes, real):
        if measured is not None:
            require_agreement(c, outcome, measured, chosen)
        rows.append(make_row(c, outcome, measured, labels, energy_model))
    return with_reductions(rows)


def _open_sessions(
    stack: ExitStack, configurations: Sequence[Configuration], schedule: Schedule
) -> dict[tuple[str, str], EdgeSession]:
    """One Lava session for each different edge part; all before gRPC, after which none may fork."""
    sessions: dict[tuple[str, str], EdgeSession] = {}
    for c in configurations:
        key = _session_key(c, schedule)
        if c.has_edge and key not in sessions:
            session = EdgeSession(c.net, schedule=schedule, keep_ledger=True)
            sessions[key] = stack.enter_context(session)
    return sessions


def _session_key(c: Configuration, schedule: Schedule) -> tuple[str, str]:
    """A pipeline is drained at its configuration's end, so fixed and dynamic ones share none."""
    return c.model_id, c.name if schedule == "pipelined" else ""


def _serve(stack: ExitStack, configurations: Sequence[Configuration]) -> str:
    tails = {
        c.model_id: TorchTail(c.net, c.model_id, c.bundle.readout_gain)
        for c in configurations
        if c.has_link
    }
    return stack.enter_context(serving(tails)) if tails else ""


def require_agreement(
    configuration: Configuration, outcome: Outcome, measured: Measured, chosen: NDArray[np.intp]
) -> None:
    """Raise SimulationError unless the real run gave the executor's answers, counts and bytes."""
    where = f"{configuration.split or ''} {configuration.name}".strip()
    for what in ("timesteps", "predictions"):
        mine = getattr(measured.exits, what)
        expected = getattr(outcome.exits, what)[chosen]
        if not np.array_equal(mine, expected):
            n = int(chosen[np.flatnonzero(mine != expected)[0]])
            raise SimulationError(
                f"{where}: {what} of sample {n} differ between Lava and the executor",
                "run neucodex verify on the bundle and report what it says",
            )
    if measured.sums is not None and outcome.sums is not None:
        wrong = np.flatnonzero((measured.sums != outcome.sums[chosen]).any(axis=1))
        if wrong.size:
            raise SimulationError(
                f"{where}: running sums of sample {int(chosen[wrong[0]])} differ between Lava and the"
                " executor",
                "run neucodex verify on the bundle and report what it says",
            )
    link = LinkCost.of(configuration.net)
    timesteps = measured.exits.timesteps
    if not np.array_equal(measured.payload_bits, link.payload_bits * timesteps):
        raise SimulationError(f"{where}: the codec sent other payloads than the report assumes")
    if not np.array_equal(measured.wire_bytes, link.wire_bytes(timesteps)):
        raise SimulationError(f"{where}: messages have other sizes than the report assumes")
    if measured.ledger is not None and outcome.edge is not None:
        expected_ledger = _rows(outcome.edge, chosen)
        first = measured.ledger.first_difference(expected_ledger)
        if first is not None:
            count, node, n, t = first
            raise SimulationError(
                f"{where}: {count} of node '{node}' at timestep {t} of sample {int(chosen[n])}"
                " differs between Lava and the executor",
                "run neucodex verify on the bundle and report what it says",
            )
    if measured.ledger is not None and outcome.unfed is not None:
        unfed = _rows(outcome.unfed, chosen).as_overhead()
        outside, wanted = measured.ledger.outside_window, outcome.idle + unfed
        for count, value in vars(wanted).items():
            if getattr(outside, count) != value:
                raise SimulationError(
                    f"{where}: {count} outside of the samples' windows is {getattr(outside, count)}"
                    f" in Lava, {value} in the executor",
                    "run neucodex verify on the bundle and report what it says",
                )


def _rows(ledger: Ledger, chosen: NDArray[np.intp]) -> Ledger:
    return Ledger.concatenate([ledger.rows(slice(n, n + 1)) for n in chosen])


def make_row(
    configuration: Configuration,
    outcome: Outcome,
    measured: Measured | None,
    labels: NDArray[np.int64],
    energy_model: DeviceModel,
) -> Row:
    """All figures of one configuration; those of the link follow from timesteps and message sizes."""
    net, exits = configuration.net, outcome.exits
    samples = len(labels)
    correct = int((exits.predictions == labels).sum())
    mean_timesteps = float(exits.timesteps.mean())
    link = LinkCost.of(net)
    edge = outcome.edge
    has_link = configuration.has_link
    pipelined = outcome.unfed is not None
    report = price(edge, energy_model) if edge else None
    return Row(
        split=configuration.split,
        configuration=configuration.name,
        samples=samples,
        accuracy=correct / samples,
        accuracy_interval=wilson_interval(correct, samples),
        mean_timesteps=mean_timesteps,
        raw_bits=link.raw_bits * mean_timesteps,
        packed_bits=link.packed_bits * mean_timesteps,
        payload_bits=link.payload_bits * mean_timesteps,
        wire_bytes=float(link.wire_bytes(exits.timesteps).mean()),
        syn_ops=edge.total("syn_ops") / samples if edge else 0.0,
        macs=edge.total("macs") / samples if edge else 0.0,
        energy_j=report.mean_run_j if report else 0.0,
        outside_energy_j=(report.relay_j + report.outside_window_j) / samples if report else 0.0,
        edge_depth=code_depth(net) if pipelined else 0,
        edge_timesteps=float(fed_timesteps(net, exits.timesteps).mean()) if pipelined else None,
        energy_paper_j=_paper_energy(configuration, edge, exits.timesteps) if edge else 0.0,
        edge_s=float(measured.edge_s.mean()) if measured and edge else None,
        roundtrip_s=float(measured.roundtrip_s.mean()) if measured and has_link else None,
        cloud_s=float(measured.cloud_s.mean()) if measured and has_link else None,
        exit_histogram=exits.histogram(net.timesteps),
        code_shape=net.code_shape if has_link else None,
        measured_samples=len(measured.exits.timesteps) if measured else 0,
        layers=_layers(outcome),
    )


def _layers(outcome: Outcome) -> list[LayerRow]:
    sides = (("edge", outcome.edge), ("cloud", outcome.cloud))
    return [row for side, ledger in sides if ledger is not None for row in layer_rows(ledger, side)]


def _paper_energy(
    configuration: Configuration, edge: Ledger, timesteps: NDArray[np.int64]
) -> float:
    net = configuration.net
    dense_macs: list[int] = []
    sizes: list[int] = []
    for node in net.edge_nodes:
        for connection in node.connections:
            source = net.shape_of(connection.source)
            dense_macs.append(int(connection.fan_out(source, node.shape)[0].sum()))
            sizes.append(int(np.prod(source)))
    energies = paper_energy_j(edge.spikes_in, np.array(dense_macs), np.array(sizes), timesteps)
    return float(energies.mean())


def with_reductions(rows: list[Row]) -> list[Row]:
    """Rows with their factors against edge-only (fixed, dynamic), and raw and packed F-B."""
    by_name = {(r.split, r.configuration): r for r in rows}
    edge_only = by_name.get((None, EDGE_ONLY))
    dynamic = by_name.get((None, EDGE_ONLY_DYNAMIC))
    result: list[Row] = []
    for row in rows:
        factors: dict[str, float] = {}
        for name, other in (("edge-only", edge_only), ("edge-only dynamic", dynamic)):
            if other is not None and row.energy_j > 0 and row is not other:
                factors[f"energy vs {name}"] = other.energy_j / row.energy_j
        baseline = by_name.get((row.split, "F-B"))
        if baseline is not None and row.split is not None and row.payload_bits > 0:
            factors["payload vs raw F-B"] = baseline.raw_bits / row.payload_bits
            factors["payload vs packed F-B"] = baseline.packed_bits / row.payload_bits
        result.append(replace(row, reductions=factors))
    return result
