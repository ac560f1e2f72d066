"""What the `reference` backend counts: tallies of synapses and relays, sorted into a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger, Overhead
from neucodex_lava.edge.runtime.shared import shared_zeros
from neucodex_lava.edge.stock.processes import StockSynapse
from neucodex_lava.edge.wiring import NODE_COLUMNS, SYNAPSE_COLUMNS, Wiring
from neucodex_lava.integer_net import Connection

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ReferenceCounts:
    """Counts of a run, per Lava step, in memory shared with the processes that count.

    Attributes:
        wiring: the edge part.
        steps: Lava steps of the run.
        synapses: (steps, 4) per connection, in the ledger's order.
        relays: (steps, 4) of the synapse before each group of relay neurons, and their number.
        sent: for a source, the column of spikes sent per step that some synapse took up at once.
    """

    wiring: Wiring
    steps: int
    synapses: list[Counts] = field(default_factory=list)
    relays: list[tuple[Counts, int]] = field(default_factory=list)
    sent: dict[str, Counts] = field(default_factory=dict)

    def for_connection(
        self, connection: Connection, synapse: StockSynapse, *, graded: bool, at_once: bool
    ) -> dict[str, Any]:
        """Tally of the next connection; `at_once` if its source's spikes did not wait before it."""
        maps = connection.fan_out(synapse.source, synapse.target)
        tally = self._tally(*(_as_heard(m, synapse) for m in maps), graded=graded)
        tally["late"] = synapse.late
        self.synapses.append(tally["counts"])
        if at_once and synapse.late is None:
            self.sent.setdefault(connection.source, tally["counts"][:, 0])
        return tally

    def for_relay(self, synapse: StockSynapse, source: str, wait: int) -> dict[str, Any]:
        """Tally of the synapse before relay neurons that hold a source's spikes `wait` steps."""
        size = int(np.prod(synapse.source))
        ones = np.ones(size, np.int64)
        tally = self._tally(ones, ones, graded=False)
        self.relays.append((tally["counts"], size))
        if wait == 1:
            self.sent.setdefault(source, tally["counts"][:, 0])
        return tally

    def _tally(self, every: Counts, nonzero: Counts, *, graded: bool) -> dict[str, Any]:
        counts = shared_zeros((self.steps, SYNAPSE_COLUMNS), np.int64)
        return {"counts": counts, "every": every, "nonzero": nonzero, "graded": graded}

    def ledger(self, spikes: Mapping[str, NDArray[np.uint8]], samples: int) -> Ledger:
        """The ledger of a finished run; relays are booked apart.

        Args:
            spikes: (steps, ...) of every node that is not in `sent`.
            samples: N.
        """
        names = [node.name for node in self.wiring.net.nodes]
        nodes = np.zeros((self.steps, len(names), NODE_COLUMNS), np.int64)
        for i, node in enumerate(self.wiring.net.nodes):
            nodes[:, i, 0] = node.size
            if node.name in spikes:
                nodes[:, i, 1] = spikes[node.name].sum(axis=(1, 2, 3), dtype=np.int64)
            else:
                nodes[:, i, 1] = self.sent[node.name]
        relay = Overhead()
        for counts, size in self.relays:
            # A relay sends in a step what its synapse took up in the step before.
            relay += Overhead(
                syn_ops=int(counts[:, 1].sum()),
                syn_ops_nonzero=int(counts[:, 2].sum()),
                dendrite_updates=size * self.steps,
                axon_out=int(counts[:-1, 0].sum()),
            )
        ledger = self.wiring.ledger(np.stack(self.synapses, axis=1), nodes, samples)
        return replace(ledger, relay=relay)


def _as_heard(fan_out: Counts, synapse: StockSynapse) -> Counts:
    """A fan-out map (C, H, W) as the process receives its spikes."""
    turned = fan_out.transpose(2, 1, 0)
    return turned.reshape(-1) if synapse.flat else turned
