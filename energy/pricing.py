"""Counts to joules: a ledger priced with a device model. The result is modelled, never measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.devices import DEFAULT_MODEL, SYNAPSE_CLASSES, DeviceModel, device
from energy.ledger import Counts, Ledger, Overhead
from neucodex_lava.errors import ConfigError

Energies = NDArray[np.float64]

PICO = 1e-12
SYNAPSE_CLASS_OF: Mapping[str, str] = {
    "conv": "conv",
    "conv_transpose": "conv",
    "dense": "dense",
    "identity": "sparse",
}
"""Which synapse class a connection of each kind is priced as, in models that tell them apart."""


@dataclass(frozen=True, eq=False)
class EnergyReport:
    """What a run cost under a device model.

    Attributes:
        model: the device model.
        nodes: node names.
        per_sample_j: joules of each sample's own counts, (N,).
        per_node_j: joules of each node, mean over the samples, (nodes,).
        by_event_j: joules of each priced event, mean over the samples.
        low_j: mean joules per sample if every open price were at its least (`Term.low_pj`).
        relay_j: of relay neurons, the whole run.
        outside_window_j: of filling and draining the pipeline and of the windows' ends that were not
            fed, the whole run.
        basis: always ``modelled``.
    """

    model: DeviceModel
    nodes: tuple[str, ...]
    per_sample_j: Energies
    per_node_j: Energies
    by_event_j: Mapping[str, float]
    low_j: float
    relay_j: float
    outside_window_j: float
    basis: str = "modelled"

    @property
    def mean_j(self) -> float:
        """Mean joules per sample, overhead left out (0 without samples)."""
        return float(self.per_sample_j.mean()) if self.per_sample_j.size else 0.0

    @property
    def run_j(self) -> float:
        """Joules of the whole run: all samples, relays, and work outside their windows."""
        return float(self.per_sample_j.sum()) + self.relay_j + self.outside_window_j

    @property
    def mean_run_j(self) -> float:
        """Joules of the whole run per sample, overhead included (0 without samples)."""
        return self.run_j / self.per_sample_j.size if self.per_sample_j.size else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model.name,
            "basis": self.basis,
            "reference": self.model.reference,
            "left_out": list(self.model.left_out),
            "samples": int(self.per_sample_j.size),
            "energy_j": self.mean_j,
            "energy_low_j": self.low_j,
            "relay_j": self.relay_j,
            "outside_window_j": self.outside_window_j,
            "run_j": self.run_j,
            "by_event_j": dict(self.by_event_j),
            "per_node_j": dict(zip(self.nodes, self.per_node_j.tolist())),
        }


def price(
    ledger: Ledger,
    model: DeviceModel | str = DEFAULT_MODEL,
    kinds: Sequence[str] | None = None,
) -> EnergyReport:
    """What a ledger's counts cost: the sum over events of count times price.

    Relays and work outside the samples' windows are priced as convolutions.

    Args:
        ledger: the counts.
        model: a device model or its name.
        kinds: kind of each connection (``conv``, ``conv_transpose``, ``dense``, ``identity``) in the
            ledger's order, for models whose synapses differ; by default the ledger's own, and where
            it has none all are priced as ``conv``.

    Raises:
        ConfigError: an unknown model or kind, or another number of kinds than connections.
    """
    chosen = device(model) if isinstance(model, str) else model
    counts = event_counts(ledger, kinds)
    per_node_pj = np.zeros((ledger.samples, len(ledger.nodes)))
    low_pj = 0.0
    by_event: dict[str, float] = {}
    samples = max(ledger.samples, 1)
    for term in chosen.terms:
        count = counts[term.event]
        per_node_pj += count * term.energy_pj
        total = float(count.sum())
        by_event[term.event] = total * term.energy_pj * PICO / samples
        low_pj += total * term.low_pj
    return EnergyReport(
        model=chosen,
        nodes=ledger.nodes,
        per_sample_j=per_node_pj.sum(axis=1) * PICO,
        per_node_j=per_node_pj.sum(axis=0) * PICO / samples,
        by_event_j=by_event,
        low_j=low_pj * PICO / samples,
        relay_j=_price_overhead(ledger.relay, chosen),
        outside_window_j=_price_overhead(ledger.outside_window, chosen),
    )


def price_ann(macs: float, model: DeviceModel | str, *, memory: bool = True) -> float:
    """What an artificial network costs: its multiply-accumulates and the weights they read, in joules.

    Args:
        macs: of a sample, or their mean over samples; zeros are multiplied like anything else.
        model: a device model or its name; ``horowitz-45nm`` is its 8 bit arithmetic,
            ``horowitz-45nm-fp32`` that of 32 bit floats.
        memory: price the reading of weights too, where the model does.

    Raises:
        ConfigError: an unknown model, or one that has no one price for a MAC.
    """
    chosen = device(model) if isinstance(model, str) else model
    prices = {term.event: term.energy_pj for term in chosen.terms}
    if "macs" not in prices:
        raise ConfigError(
            f"energy model '{chosen.name}' has no one price for a MAC",
            "choose horowitz-45nm or horowitz-45nm-fp32",
        )
    reads = prices.get("weight_reads", 0.0) if memory else 0.0
    return macs * (prices["macs"] + reads) * PICO


def event_counts(ledger: Ledger, kinds: Sequence[str] | None = None) -> dict[str, Counts]:
    """Count of every event that may have a price, (samples, nodes), over all timesteps.

    Args:
        ledger, kinds: as `price`.

    Raises:
        ConfigError: as `price`.
    """
    kinds = ledger.kinds if kinds is None else kinds
    kinds = list(kinds) or ["conv"] * len(ledger.connections)
    if len(kinds) != len(ledger.connections):
        raise ConfigError(f"{len(kinds)} kinds for {len(ledger.connections)} connections")
    unknown = sorted(set(kinds) - set(SYNAPSE_CLASS_OF))
    if unknown:
        known = ", ".join(SYNAPSE_CLASS_OF)
        raise ConfigError(f"unknown kind of connection '{unknown[0]}'", f"one of {known}")
    classes = np.array([SYNAPSE_CLASS_OF[kind] for kind in kinds], dtype=str)
    targets = ledger.node_of("syn_ops")
    result: dict[str, Counts] = {}
    for count in ("syn_ops", "macs"):
        array = np.asarray(getattr(ledger, count)).sum(axis=2)
        total = np.zeros((ledger.samples, len(ledger.nodes)), np.int64)
        for cls in SYNAPSE_CLASSES:
            per_node = np.zeros_like(total)
            for row in np.flatnonzero(classes == cls):
                per_node[:, targets[row]] += array[:, row]
            result[f"{count}_{cls}"] = per_node
            total += per_node
        result[count] = total
    result["weight_reads"] = result["syn_ops"] + result["macs"]
    for count in ("dendrite_updates", "axon_out"):
        result[count] = np.asarray(getattr(ledger, count)).sum(axis=2)
    return result


def _price_overhead(overhead: Overhead, model: DeviceModel) -> float:
    counts = {
        "syn_ops": overhead.syn_ops,
        "syn_ops_conv": overhead.syn_ops,
        "macs": overhead.macs,
        "macs_conv": overhead.macs,
        "weight_reads": overhead.syn_ops + overhead.macs,
        "dendrite_updates": overhead.dendrite_updates,
        "axon_out": overhead.axon_out,
    }
    return sum(counts.get(term.event, 0) * term.energy_pj for term in model.terms) * PICO
