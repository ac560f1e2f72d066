"""The `reference` backend: an edge part in stock Lava processes, pipelined.

Stock `Conv` and `Dense` synapses (with a counter), stock `LIFReset` neurons that clear themselves as
their window begins, stock `LIF` relays where a connection skips ahead; see ``docs/semantics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF, LIFReset
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray

from energy.ledger import Ledger, Overhead
from neucodex_lava.edge.engine import overflow_error
from neucodex_lava.edge.processes.counting import (
    CountingConv,
    CountingDense,
    PyCountingConvModel,
    PyCountingDenseModel,
)
from neucodex_lava.edge.processes.taps import (
    PySpikeTapModel,
    PyVarTapModel,
    SpikeTap,
    VarTap,
)
from neucodex_lava.edge.shared import shared_zeros
from neucodex_lava.edge.stock import conv_arguments, flat_order, whc
from neucodex_lava.edge.wiring import INPUT, NODE_COLUMNS, SYNAPSE_COLUMNS, Wiring
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import DECAY_ONE, STATE_SHIFT, SUM_MAX, Connection, Node

RELAY_WEIGHT = 2
RELAY: dict[str, Any] = {"vth": 0, "du": 4095, "dv": 4095}
"""A neuron that repeats its input one step later and keeps no state."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class _Relay:
    counts: Counts
    size: int


class ReferenceNetwork:
    """Processes for one run of fixed length.

    Args:
        wiring: the edge part; its schedule must be pipelined.
        frames: input per Lava step, uint8 (steps, C, H, W), zeros while the pipeline drains.
        record: keep every node's spikes, not only the last one's.

    Attributes:
        root: a process to start from.
        models: process models of our own processes.
        output: spikes of the last node, uint8 (steps, W, H, C).
        spikes: spikes of every node, if recorded, else of those that no other node hears.
        potential: of a readout, int32 (steps, W, H, C), else None.

    Raises:
        ConfigError: something stock Lava cannot express.
    """

    def __init__(self, wiring: Wiring, frames: NDArray[np.uint8], *, record: bool) -> None:
        self.wiring = wiring
        self.models: dict[Any, type[Any]] = {}
        self._steps = len(frames)
        self._clock = shared_zeros((1,), np.int64)
        self._frames = frames
        self._relays: dict[tuple[str, int], Any] = {}
        self._relay_counts: list[_Relay] = []
        self._synapses: list[Counts] = []
        self._peaks: list[Counts] = []
        self._readers: dict[str, Counts] = {}
        net = wiring.net
        self._ports: dict[str, Any] = {INPUT: self._source(0).s_out}
        neurons: dict[str, Any] = {node.name: self._neuron(node) for node in net.nodes}
        self._ports |= {name: lif.s_out for name, lif in neurons.items()}
        for (node, connection), link in zip(net.connections(), wiring.links):
            sender = self._delayed(link.source, link.wait - 1)
            self._synapse(node, connection, sender, neurons[node.name])
        last = net.nodes[-1]
        self.spikes: dict[str, NDArray[np.uint8]] = {}
        heard = {link.source for link in wiring.links}
        for node in net.nodes:
            if not record and node is not last and node.name in heard:
                continue
            data = shared_zeros((self._steps, *whc(node.shape)), np.uint8)
            tap = self._own(
                SpikeTap(data=data, clock=self._clock, name=f"{node.name} tap"), PySpikeTapModel
            )
            self._ports[node.name].connect(tap.s_in)
            self.spikes[node.name] = data
        self.output = self.spikes[last.name]
        self.potential: NDArray[np.int32] | None = None
        if net.ends_in_readout:
            self.potential = shared_zeros((self._steps, *whc(last.shape)), np.int32)
            lif = neurons[last.name]
            self._own(
                VarTap(data=self.potential, var=lif.v, name=f"{last.name} potential"),
                PyVarTapModel,
            )
        self.root = neurons[last.name]

    def _own(self, process: Any, model: type[Any]) -> Any:
        self.models[process] = model
        return process

    def _source(self, delay: int) -> Any:
        data = np.moveaxis(self._frames, 0, -1).transpose(2, 1, 0, 3).astype(np.int32)
        return RingBuffer(data=np.roll(data, delay, axis=-1) if delay else data)

    def _neuron(self, node: Node) -> Any:
        neuron = node.neuron
        if neuron.current_decay < 1:
            raise ConfigError(
                f"node '{node.name}': stock Lava's current always decays, iDecay 0 is not possible",
                "simulate it with the backend fused",
            )
        shape = whc(node.shape)
        return LIFReset(
            shape=shape,
            du=neuron.current_decay - 1,
            dv=neuron.voltage_decay,
            bias_mant=np.broadcast_to(node.bias, shape).copy(),
            bias_exp=STATE_SHIFT,
            vth=neuron.threshold,
            reset_interval=self.wiring.timesteps,
            reset_offset=self.wiring.offset(node.name) + 1,
            name=node.name,
        )

    def _delayed(self, source: str, delay: int) -> Any:
        """Port that repeats a source's spikes `delay` steps later; relays are shared."""
        if delay == 0:
            return self._ports[source]
        if (source, delay) in self._relays:
            return self._relays[source, delay]
        if source == INPUT and self.wiring.net.input_bits > 1:
            # A relay neuron would make a graded value binary; the host sends it again instead.
            port = self._source(delay).s_out
        else:
            port = self._relay(source, delay, self._delayed(source, delay - 1))
        self._relays[source, delay] = port
        return port

    def _relay(self, source: str, delay: int, sender: Any) -> Any:
        shape = self.wiring.shape_of(source)
        size = int(np.prod(shape))
        ones = np.ones(whc(shape), np.int64)
        tally = self._tally(ones, ones, graded=False)
        name = f"{source} relay {delay}"
        synapse = CountingConv(
            tally=tally,
            weight=np.full((shape[0], 1, 1, 1), RELAY_WEIGHT),
            input_shape=whc(shape),
            groups=shape[0],
            name=f"{name} synapse",
        )
        self._own(synapse, PyCountingConvModel)
        neuron = LIF(shape=whc(shape), **RELAY, name=name)
        sender.connect(synapse.s_in)
        synapse.a_out.connect(neuron.a_in)
        self._relay_counts.append(_Relay(tally["counts"], size))
        if delay == 1:
            self._readers.setdefault(source, tally["counts"])
        return neuron.s_out

    def _tally(self, every: Counts, nonzero: Counts, *, graded: bool) -> dict[str, Any]:
        return {
            "counts": shared_zeros((self._steps, SYNAPSE_COLUMNS), np.int64),
            "peaks": shared_zeros((self._steps,), np.int64),
            "every": every,
            "nonzero": nonzero,
            "graded": graded,
        }

    def _synapse(self, node: Node, connection: Connection, sender: Any, lif: Any) -> None:
        source = self.wiring.shape_of(connection.source)
        graded = self.wiring.net.is_graded(connection)
        maps = [m.transpose(2, 1, 0) for m in connection.fan_out(source, node.shape)]
        name = f"{connection.source} to {node.name}"
        bits = self.wiring.net.input_bits if graded else 0
        weight: Any = connection.effective_weight().astype(np.int32)
        if connection.kind == "dense":
            tally = self._tally(maps[0].reshape(-1), maps[1].reshape(-1), graded=graded)
            rows, columns = flat_order(node.shape), flat_order(source)
            synapse: Any = CountingDense(
                tally=tally,
                weights=connection.weight[np.ix_(rows, columns)].astype(np.int32),
                weight_exp=connection.exponent,
                # Not left to Lava, which clips -256 to -255 where no weight is positive.
                sign_mode=SignMode.MIXED,
                num_message_bits=bits,
                name=name,
            )
            self._own(synapse, PyCountingDenseModel)
            sender.reshape(new_shape=(columns.size,)).connect(synapse.s_in)
            synapse.a_out.reshape(new_shape=whc(node.shape)).connect(lif.a_in)
        else:
            tally = self._tally(maps[0], maps[1], graded=graded)
            synapse = CountingConv(
                tally=tally,
                input_shape=whc(source),
                num_message_bits=bits,
                name=name,
                **conv_arguments(connection, weight, source, node),
            )
            self._own(synapse, PyCountingConvModel)
            sender.connect(synapse.s_in)
            synapse.a_out.connect(lif.a_in)
        self._synapses.append(tally["counts"])
        self._peaks.append(tally["peaks"])
        link = self.wiring.links[len(self._synapses) - 1]
        if link.wait == 1:
            self._readers.setdefault(connection.source, tally["counts"])

    @property
    def steps_done(self) -> int:
        """Lava steps done so far; may be read while the network runs."""
        return int(self._clock[0])

    def ledger(self, samples: int) -> Ledger:
        """Sort the counts of a finished run into a ledger; relays are booked apart."""
        names = [node.name for node in self.wiring.net.nodes]
        nodes = np.zeros((self._steps, len(names), NODE_COLUMNS), np.int64)
        for i, node in enumerate(self.wiring.net.nodes):
            nodes[:, i, 0] = node.size
            if node.name in self.spikes:
                nodes[:, i, 1] = self.spikes[node.name].sum(axis=(1, 2, 3), dtype=np.int64)
            else:
                nodes[:, i, 1] = self._readers[node.name][:, 0]
        ledger = self.wiring.ledger(np.stack(self._synapses, axis=1), nodes, samples)
        relay = Overhead()
        for r in self._relay_counts:
            # A relay sends in a step what its synapse took up in the step before.
            relay += Overhead(
                syn_ops=int(r.counts[:, 1].sum()),
                syn_ops_nonzero=int(r.counts[:, 2].sum()),
                dendrite_updates=r.size * self._steps,
                axon_out=int(r.counts[:-1, 0].sum()),
            )
        object.__setattr__(ledger, "relay", relay)
        return ledger

    def check_sums(self) -> None:
        """Raise where a current may have wrapped: stock neurons do not tell.

        Only nodes whose bound rests on measured sums can get there. Sums of several connections, and
        of a current with memory, are bounded by their largest values step by step.

        Raises:
            OverflowInRunError: the node, sample and timestep.
        """
        for node in self.wiring.net.nodes:
            if node.sum_bound is None:
                continue
            keep = 1 - node.neuron.current_decay / DECAY_ONE
            rows = [i for i, k in enumerate(self.wiring.links) if k.node == node.name]
            largest = 0.0
            for step in range(self._steps):
                largest = keep * largest + sum(int(self._peaks[i][step]) for i in rows)
                if largest > SUM_MAX:
                    logical = step + 1 - self.wiring.offset(node.name)
                    sample, t = divmod(logical, self.wiring.timesteps)
                    raise overflow_error(node.name, sample, t + 1, int(largest))
        if self.potential is not None:
            beyond = (np.abs(self.potential) >> STATE_SHIFT >= SUM_MAX).any(axis=(1, 2, 3))
            for step in np.flatnonzero(beyond | self.output.any(axis=(1, 2, 3))):
                name = self.wiring.output
                sample, t = divmod(int(step) - self.wiring.offset(name), self.wiring.timesteps)
                raise overflow_error(name, sample, t + 1, SUM_MAX + 1)
