"""One backend's spikes, sums, potentials and counts against the golden record, with ``==``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.bundle import Bundle, Golden, digest_potentials
from neucodex_lava.integer_net import INPUT
from neucodex_lava.verify.report import BackendCheck, Difference

DIGEST = "digest of potentials"
Place = tuple[int, int, int]
"""Sample, timestep and number of the node, each from 0: the order of what comes first."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a backend gave for the golden input.

    Attributes:
        names: nodes it covers.
        spikes: of each of them, uint8 (N, C, H, W, T).
        sums: the readout's running sums, int64 (N, K, T), if it covers them.
        ledger: counts, if it counts.
        potentials: of each node, int32 (N, C, H, W, T), if it shows them.
        exit_sums: running sums of each exit head it covers, int64 (N, K, T).
    """

    names: list[str]
    spikes: Mapping[str, NDArray[np.uint8]]
    sums: NDArray[np.int64] | None = None
    ledger: Ledger | None = None
    potentials: Mapping[str, NDArray[np.int32]] | None = None
    exit_sums: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def compare(backend: str, schedule: str | None, golden: Golden, seen: Seen) -> BackendCheck:
    """Everything that a backend showed, against the golden record's.

    Args:
        backend, schedule: who.
        golden: the record.
        seen: what the backend gave for its input.
    """

    def difference(
        at: tuple[int, int, str], neuron: tuple[int, ...] | None, what: str, values: tuple[int, int]
    ) -> Difference:
        n, t, name = at
        return Difference(backend, schedule, name, n, t + 1, neuron, what, *values)

    of_neurons: list[tuple[Place, Difference]] = []
    others: list[tuple[Place, Difference]] = []
    spikes_compared = spikes_differ = potentials_compared = potentials_differ = 0
    for place, name in enumerate(seen.names):
        for quantity, mine, expected in _values(name, golden, seen):
            spikes_compared += expected.size
            wrong = mine != expected
            spikes_differ += int(wrong.sum())
            for n, *neuron, t in _earliest(wrong):
                at = (n, *neuron, t)
                values = int(mine[at]), int(expected[at])
                found = difference((n, t, name), tuple(neuron), quantity, values)
                of_neurons.append(((n, t, place), found))
        if seen.potentials is not None:
            digests = digest_potentials(seen.potentials[name])
            potentials_compared += digests.size
            wrong = digests != golden.potentials[name]
            potentials_differ += int(wrong.sum())
            for n, t in np.argwhere(wrong)[:1].tolist():
                values = int(digests[n, t]), int(golden.potentials[name][n, t])
                others.append(((n, t, place), difference((n, t, name), None, DIGEST, values)))
    counts_compared = counts_differ = 0
    if seen.ledger is not None:
        ledger = golden.ledger.select(seen.names)
        counts_compared = sum(getattr(ledger, count).size for count in ALL_COUNTS)
        counts_differ = seen.ledger.differences(ledger)
        for (n, t, place), count, values in _count_difference(seen.ledger, ledger):
            name = seen.names[place]
            others.append(((n, t, place), difference((n, t, name), None, count, values)))
    first = min((*of_neurons, *others), key=lambda item: item[0], default=None)
    first_neuron = min(of_neurons, key=lambda item: item[0], default=None)
    unnamed = first is not None and first[1].neuron is None
    return BackendCheck(
        backend,
        schedule,
        len(seen.names),
        spikes_compared,
        potentials_compared,
        counts_compared,
        spikes_differ,
        potentials_differ,
        counts_differ,
        first[1] if first else None,
        first_neuron[1] if first_neuron and unnamed else None,
    )


def _values(
    name: str, golden: Golden, seen: Seen
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """What is compared neuron by neuron: its name, the backend's and the record's, (N, C, H, W, T)."""
    spikes = golden.spikes[name]
    yield "spike", seen.spikes[name], spikes
    if name in seen.exit_sums:
        sums, recorded = seen.exit_sums[name], golden.exit_sums[name]
        yield "running sum", sums.reshape(spikes.shape), recorded.reshape(spikes.shape)
    elif seen.sums is not None and name == seen.names[-1]:
        yield "running sum", seen.sums.reshape(spikes.shape), golden.sums.reshape(spikes.shape)


def _earliest(wrong: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Index (n, c, y, x, t) of the difference that is earliest in sample and timestep, if any."""
    samples = np.flatnonzero(wrong.any(axis=(1, 2, 3, 4)))
    if samples.size:
        n = int(samples[0])
        t = int(np.flatnonzero(wrong[n].any(axis=(0, 1, 2)))[0])
        c, y, x = (int(i) for i in np.argwhere(wrong[n, ..., t])[0])
        yield n, c, y, x, t


def _count_difference(
    mine: Ledger, expected: Ledger
) -> Iterator[tuple[Place, str, tuple[int, int]]]:
    """Place, count and both values, per node, of the first count that differs, if any."""
    first = mine.first_difference(expected)
    if first is None:
        return
    count, node, n, t = first
    if t == 0:
        yield (0, 0, 0), count, (0, 0)
        return
    place = expected.nodes.index(node)
    both = (int(ledger.per_node(count)[n, place, t - 1]) for ledger in (mine, expected))
    yield (n, t - 1, place), count, (next(both), next(both))


def changed_integers(bundle: Bundle) -> tuple[list[str], Difference | None]:
    """Nodes whose integers differ from those the golden record was written with, and the first.

    Such a node may still give the same spikes and potentials, where its changed weights never met a
    spike. The timestep is the first at which it receives any.
    """
    golden, net = bundle.golden, bundle.net
    values = {INPUT: golden.inputs, **golden.spikes}
    gains = {net.last.name: golden.readout_gain, **golden.exit_gains}
    changed: list[str] = []
    first: Difference | None = None
    for node in net.nodes:
        gain_fits = (
            node.name not in gains or bundle.manifest.gains.get(node.name) == gains[node.name]
        )
        if golden.integers[node.name] == node.fingerprint() and gain_fits:
            continue
        changed.append(node.name)
        active = [values[c.source].any(axis=(0, 1, 2, 3)) for c in node.connections]
        timestep = int(np.argmax(np.any(active, axis=0))) + 1
        quantity = "number of weights, biases or thresholds" if gain_fits else "gain"
        if first is None:
            first = Difference("file", None, node.name, 0, timestep, None, quantity, 1, 0)
    return changed, first
