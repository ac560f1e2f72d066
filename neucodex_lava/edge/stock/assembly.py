"""An edge part put together from stock Lava processes, pipelined: neurons, relays, synapses, wires.

The `reference` backend and the network for the chip are both built here; they differ in what sends
the input and in whether a synapse counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.stock.processes import (
    StockSynapse,
    check_neuron,
    relay_neuron,
    relay_synapse,
    stock_neuron,
    stock_synapse,
)
from neucodex_lava.edge.wiring import INPUT, Wiring
from neucodex_lava.integer_net import Connection, IntegerNet, Node

Delays = NDArray[np.uint8]


class StockAssembly(ABC):
    """Stock processes for the edge part, connected by `assemble`.

    Spikes that wait do so in relay neurons, shared by all that listen, or in a `DelayDense`; the
    host sends delayed input later instead, so that nothing of it is on its way when a sample ends.

    Args:
        wiring: the edge part; its schedule must be pipelined.
        interval: Lava steps between two resets.

    Attributes:
        neurons: a `LIFReset` per node name, or a `PresetLIF` where stock Lava has no such neuron.
        relays: every group of relay neurons.

    Raises:
        ConfigError: something stock Lava cannot express.
    """

    def __init__(self, wiring: Wiring, interval: int) -> None:
        self.wiring = wiring
        # All that can be refused is, before anything is built: Lava never forgets a process.
        for node in wiring.net.nodes:
            check_neuron(node)
        self._synapses = [self._describe(*link) for link in wiring.net.connections()]
        self.neurons: dict[str, Any] = {
            n.name: self.make_neuron(n, interval, wiring.offset(n.name)) for n in wiring.net.nodes
        }
        self.relays: list[Any] = []
        self._relayed_ports: dict[tuple[str, bytes, int], Any] = {}

    def make_neuron(self, node: Node, interval: int, offset: int) -> Any:
        """The process for a node's neurons; see `stock_neuron`."""
        return stock_neuron(node, interval=interval, offset=offset)

    @abstractmethod
    def input_port(self, delays: Delays, wait: int) -> Any:
        """Port (W, H, C) that sends the input, each value `delays` (C, H, W) timesteps late within
        its sample, all of them `wait` Lava steps later.
        """

    @abstractmethod
    def make_synapse(self, synapse: StockSynapse, link: int) -> Any:
        """The process for a connection, the `link`-th in the ledger's order."""

    @abstractmethod
    def make_relay_synapse(self, synapse: StockSynapse, source: str, wait: int) -> Any:
        """The process that leads to the relay neurons which hold a source's spikes `wait` steps."""

    def assemble(self) -> None:
        """Build and connect every synapse and relay."""
        net = self.wiring.net
        for i, (node, connection) in enumerate(net.connections()):
            wait = self.wiring.links[i].wait - 1
            if waits_inside(connection) and connection.kind != "dense":
                wait += min(connection.longest_delay, self._longest_wait)
            sender = self._sender(connection, wait, net.is_graded(connection))
            synapse = self._synapses[i]
            synapse.connect(self.make_synapse(synapse, i), sender, self.neurons[node.name].a_in)

    @property
    def _longest_wait(self) -> int:
        """Timesteps after which a spike comes too late for its sample, however much longer it waits."""
        return self.wiring.timesteps

    def _describe(self, node: Node, connection: Connection) -> StockSynapse:
        net = self.wiring.net
        return stock_synapse(
            connection,
            net.shape_of(connection.source),
            node,
            bits=net.input_bits if net.is_graded(connection) else 0,
            longest_wait=self._longest_wait if waits_inside(connection) else 0,
        )

    def _sender(self, connection: Connection, wait: int, graded: bool) -> Any:
        source = connection.source
        if source != INPUT:
            return self._relayed(source, self.neurons[source].s_out, b"", wait)
        delays = connection.source_delays(self.wiring.shape_of(INPUT))
        if graded:
            # A relay neuron would make a graded value binary; the host sends it again instead.
            return self.input_port(delays, wait)
        return self._relayed(INPUT, self.input_port(delays, 0), delays.tobytes(), wait)

    def _relayed(self, source: str, port: Any, stream: bytes, wait: int) -> Any:
        shape = self.wiring.shape_of(source)
        for held in range(1, wait + 1):
            key = (source, stream, held)
            if key not in self._relayed_ports:
                synapse = relay_synapse(shape)
                neurons = relay_neuron(shape, f"{source} relay {held}")
                synapse.connect(self.make_relay_synapse(synapse, source, held), port, neurons.a_in)
                self._relayed_ports[key] = neurons.s_out
                self.relays.append(neurons)
            port = self._relayed_ports[key]
        return port


def waits_inside(connection: Connection) -> bool:
    """Whether spikes or sums of a connection wait in the network, not with whoever sends the input.

    They would still be on their way when the next sample begins.
    """
    from_input = connection.source == INPUT and not connection.delays_targets
    return connection.longest_delay > 0 and not from_input


def holds_spikes_back(net: IntegerNet) -> bool:
    """Whether any connection of `net` does so."""
    return any(waits_inside(connection) for _, connection in net.connections())
