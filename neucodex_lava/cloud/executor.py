"""The torch executor: an IntegerNet, some timesteps of some samples at a time; `twin` runs whole sets.

Weights, spikes and states are integers held in float32 (float64 where a decay needs more than 24
bits), so that sums are exact in any order and the result is the same for any batch size, replay and
device (docs/semantics.md, "Exactness in torch").

Inside, arrays are (T, N, C, H, W): time first, so that a layer's synapses see T * N images at once
and the neurons' loop goes over contiguous slices.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neucodex_lava.cloud.exact import exact_arithmetic, usable_device
from neucodex_lava.cloud.neurons import UNIT, Neurons
from neucodex_lava.cloud.synapses import EXACT, Synapses, flat
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import IntegerNet, Node, Shape

FLOAT_BYTES = 4
CPU_BYTES, GPU_BYTES = 8 << 20, 1 << 30
"""What the sums and spikes of a batch's largest node may take: they should stay in a core's caches
(`neucodex bench executor` measures it), or keep a GPU busy."""

Flight = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class NodeState:
    """A node between two timesteps; None is what it is at a sample's start.

    Attributes:
        u: current, (N, C, H, W), in state units; None also where it has no memory.
        v: potential, likewise.
        spikes: per connection its source's latest spikes that have not arrived, (T, N, C, H, W), no
            longer than its longest delay.
        sums: the same of synaptic sums, where each target neuron has a delay of its own.
    """

    u: Tensor | None
    v: Tensor | None
    spikes: Flight
    sums: Flight


State = dict[str, NodeState]
"""Per node what it keeps from one timestep to the next."""


@dataclass
class Traces:
    """What a run recorded.

    Attributes:
        spikes: per recorded node (T, N, C, H, W), bool.
        sums: the readout's running sum S_t after each timestep, (T, N, K) int64; None when the
            last node spikes.
        exit_sums: the same of each exit head that ran.
        potentials: per recorded node its potential after each timestep (0 where it spiked), in state
            units, (T, N, C, H, W).
        counts: per count and row (connection or node) an int64 (T, N).
        currents: per watched node its current at each timestep, in state units, (T, N, C, H, W).
    """

    potentials: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    sums: Tensor | None = None
    exit_sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, list[Tensor]] = field(default_factory=dict)
    currents: dict[str, Tensor] = field(default_factory=dict)


class Executor:
    """Runs nodes ``start`` to ``stop`` of a net; by default all of them.

    Args:
        net: the network.
        start: first node to run; its input is then what crosses that cut. ``net.cut`` for the tail.
        stop: one past the last node to run.
        device: torch device, e.g. ``"cpu"`` or ``"cuda"``.

    Attributes:
        nodes: those that run.
        last: the one whose spikes, or running sums, are the result.
        exit_heads: names of the exit heads among them.

    Raises:
        NetError: `start` is no legal cut.
        ConfigError: no such device on this machine.
    """

    def __init__(
        self, net: IntegerNet, start: int = 0, stop: int | None = None, device: str = "cpu"
    ) -> None:
        if start not in net.legal_cuts():
            raise NetError(
                f"the network cannot be cut at {start}", f"legal cuts: {net.legal_cuts()}"
            )
        self.net = net
        self.device = usable_device(device)
        self.nodes = net.nodes[start:stop]
        self.source = net.output_at(start)
        self.input_shape: Shape = net.shape_of(self.source)
        if not self.nodes:
            raise NetError("nothing to run: no node lies between these cuts")
        heads = {head.name for head in net.exit_heads}
        self.exit_heads = tuple(n.name for n in self.nodes if n.name in heads)
        last = net.output_at(len(net.nodes) if stop is None else stop)
        self.last = net.node(last) if last != self.source else self.nodes[-1]
        self._neurons = {n.name: Neurons(n, self.device) for n in self.nodes}
        self._synapses = {
            n.name: [Synapses(net, n, c, self.device) for c in n.connections] for n in self.nodes
        }
        self.links = [(n.name, c.source) for n in self.nodes for c in n.connections]
        last_reader = {c.source: n.name for n in self.nodes for c in n.connections}
        self._read_last_by = {
            n.name: [source for source, reader in last_reader.items() if reader == n.name]
            for n in self.nodes
        }

    def batch_size(self, timesteps: int) -> int:
        """Samples at a time that suit the device, at least 1; the result does not depend on it."""
        largest = max(node.size for node in self.nodes) * timesteps * 2 * FLOAT_BYTES
        return max(1, (CPU_BYTES if self.device.type == "cpu" else GPU_BYTES) // largest)

    def initial_state(self) -> State:
        """States of all nodes at the start of a sample: nothing has come, nothing is in flight."""
        nothing = {n.name: (None,) * len(n.connections) for n in self.nodes}
        return {name: NodeState(None, None, none, none) for name, none in nothing.items()}

    def advance(
        self,
        state: State,
        x: Tensor,
        *,
        record: bool = False,
        count: bool = False,
        keep: bool = True,
        watch: Collection[str] = (),
        spikes_of: Collection[str] = (),
    ) -> tuple[State, Traces]:
        """Run as many timesteps as `x` has.

        Args:
            state: of these samples; not changed.
            x: input spikes or integers, (T, N, C, H, W).
            record: keep every node's spikes, not only the last one's.
            count: fill the ledger's counts.
            keep: return the new state; without it, {}.
            watch: names of nodes whose currents are kept.
            spikes_of: names of nodes whose spikes are kept, beside the last one's.

        Returns:
            The new state and what was recorded.

        Raises:
            OverflowInRunError: a synaptic sum left the 24-bit range.
        """
        with exact_arithmetic():
            values: dict[str, Tensor] = {self.source: x.to(self.device, torch.float32)}
            traces = Traces()
            new_state: State = {}
            for node in self.nodes:
                before = state[node.name]
                sums, waiting = self._sums(node, before, values, traces.counts if count else None)
                neurons = self._neurons[node.name]
                if node.name in watch:
                    traces.currents[node.name] = torch.empty_like(sums)
                currents = traces.currents.get(node.name)
                spikes, potentials, u = neurons.run(sums, before.u, before.v, currents)
                if keep:
                    new_state[node.name] = NodeState(u, potentials[-1], *waiting)
                values[node.name] = spikes
                for name in self._read_last_by[node.name]:
                    del values[name]
                if count:
                    kind = torch.float32 if node.size < EXACT else torch.float64
                    axon_out = flat(spikes).sum(2, dtype=kind).long()
                    traces.counts.setdefault("axon_out", []).append(axon_out)
                if record or node is self.last or node.name in spikes_of:
                    traces.spikes[node.name] = spikes.bool()
                if record:
                    traces.potentials[node.name] = potentials
                if node.name in self.exit_heads:
                    traces.exit_sums[node.name] = _running_sums(potentials)
                elif node is self.last and node.neuron.is_readout:
                    traces.sums = _running_sums(potentials)
        return new_state, traces

    def _sums(
        self,
        node: Node,
        before: NodeState,
        values: Mapping[str, Tensor],
        counts: dict[str, list[Tensor]] | None,
    ) -> tuple[Tensor, tuple[Flight, Flight]]:
        """A node's synaptic sums (T, N, C, H, W) and what is then in flight; counts where asked."""
        total: Tensor | None = None
        spikes: list[Tensor | None] = []
        sums: list[Tensor | None] = []
        links = zip(self._synapses[node.name], before.spikes, before.sums, strict=True)
        for synapses, late_spikes, late_sums in links:
            arriving, waiting = synapses.arrive(values[synapses.source], late_spikes)
            spikes.append(waiting)
            if counts is not None:
                for name, row in synapses.count(arriving).items():
                    counts.setdefault(name, []).append(row)
            a, waiting = synapses.sums(arriving, late_sums)
            sums.append(waiting)
            total = a if total is None else total.add_(a)
        assert total is not None
        return total, (tuple(spikes), tuple(sums))


def _running_sums(potentials: Tensor) -> Tensor:
    """A readout's S_t, int64 (T, N, K)."""
    return torch.div(potentials, UNIT, rounding_mode="trunc").flatten(2).long()
