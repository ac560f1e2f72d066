"""All figures of one configuration, from what it did on each sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from energy import paper_energy_j, price
from energy.devices import DeviceModel
from energy.ledger import Ledger
from neucodex_lava.evaluation.configurations import (
    EDGE_ONLY,
    EDGE_ONLY_DYNAMIC,
    Configuration,
)
from neucodex_lava.evaluation.layers import layer_rows
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.evaluation.outcome import Outcome
from neucodex_lava.evaluation.pipelined import code_depth, fed_timesteps
from neucodex_lava.exits.confidence import ConfidencePolicy, max_softmax
from neucodex_lava.exits.logits import LogitsPolicy
from neucodex_lava.exits.metrics import calibration_error, exit_histogram, optimal_cutoff
from neucodex_lava.exits.policy import OfflinePolicy
from neucodex_lava.report.results import LayerRow, Row
from neucodex_lava.statistics import wilson_interval


def make_row(
    configuration: Configuration,
    outcome: Outcome,
    measured: Measured | None,
    labels: NDArray[np.int64],
    energy_model: DeviceModel,
    policy: OfflinePolicy | None = None,
) -> Row:
    """All figures of one configuration; those of the link follow from timesteps and message sizes.

    Args:
        configuration, outcome: what ran, and what came of it.
        measured: of the samples that also ran for real.
        labels: classes, (N,).
        energy_model: prices the edge part's counts.
        policy: how logits are read for the calibration error; by default as their mean.
    """
    net, exits = configuration.net, outcome.exits
    samples = len(labels)
    correct = int((exits.predictions == labels).sum())
    mean_timesteps = float(exits.timesteps.mean())
    link = LinkCost.of(net)
    edge = outcome.edge
    has_link = configuration.has_link
    pipelined = outcome.unfed is not None
    report = price(edge, energy_model) if edge else None
    histogram, by_class = exit_histogram(exits, net.timesteps, labels, net.last.size)
    return Row(
        split=configuration.split,
        configuration=configuration.name,
        policy=configuration.policy if configuration.dynamic else "fixed",
        samples=samples,
        accuracy=correct / samples,
        accuracy_interval=wilson_interval(correct, samples),
        mean_timesteps=mean_timesteps,
        raw_bits=link.raw_bits * mean_timesteps,
        packed_bits=link.packed_bits * mean_timesteps,
        payload_bits=link.payload_bits * mean_timesteps,
        coded_bits=outcome.coded_bits,
        entropy_bits=outcome.entropy_bits,
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
        exit_histogram=histogram,
        exit_histogram_by_class=by_class,
        not_numbers=exits.not_numbers,
        oct=_oct(outcome, labels),
        ece=_calibration_error(configuration, outcome, policy, labels),
        code_shape=net.code_shape if has_link else None,
        measured_samples=len(measured.exits.timesteps) if measured else 0,
        layers=_layers(outcome),
    )


def _oct(outcome: Outcome, labels: NDArray[np.int64]) -> float | None:
    if outcome.run_sums is None:
        return None
    return float(optimal_cutoff(outcome.run_sums, labels).mean())


def _calibration_error(
    configuration: Configuration,
    outcome: Outcome,
    policy: OfflinePolicy | None,
    labels: NDArray[np.int64],
) -> float | None:
    """ECE of the largest softmax probability at the exit, read as the policy reads logits."""
    if outcome.run_sums is None:
        return None
    reader = policy
    if not isinstance(reader, LogitsPolicy):
        reader = ConfidencePolicy(configuration.net.timesteps, configuration.bundle.readout_gain)
    every = max_softmax(reader.read(outcome.run_sums))
    exits = outcome.exits
    confidence = every[np.arange(len(labels)), exits.timesteps - 1]
    return calibration_error(confidence, exits.predictions == labels)


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
    """Rows with their factors against edge-only (fixed, dynamic), and raw and packed F-B.

    Dynamic edge-only is that of the row's own exit policy, of a fixed row the first.
    """
    by_name = {(r.split, r.configuration): r for r in reversed(rows)}
    by_policy = {r.policy: r for r in rows if r.configuration == EDGE_ONLY_DYNAMIC}
    edge_only = by_name.get((None, EDGE_ONLY))
    result: list[Row] = []
    for row in rows:
        dynamic = by_policy.get(row.policy, by_name.get((None, EDGE_ONLY_DYNAMIC)))
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
