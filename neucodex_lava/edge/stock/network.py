"""The processes of the `reference` backend: stock Lava, with counting synapses and taps.

Stock `Conv`, `Dense`, `DelayDense` and `Sparse` synapses (with a counter), stock `LIFReset` neurons
that clear themselves as their window begins (`PresetLIF`, ours, where a neuron resets by subtraction or
starts at a potential), stock `LIF` relays where spikes wait; see
``docs/semantics.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from lava.proc.io.source import RingBuffer
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.processes import counting
from neucodex_lava.edge.processes.preset import PyPresetLIFModel
from neucodex_lava.edge.processes.ranges import PyRangeWatchModel, RangeWatch
from neucodex_lava.edge.processes.taps import PySpikeTapModel, PyVarTapModel, SpikeTap, VarTap
from neucodex_lava.edge.runtime.shared import shared_zeros
from neucodex_lava.edge.stock.assembly import Delays, StockAssembly, holds_spikes_back, waits_inside
from neucodex_lava.edge.stock.counts import ReferenceCounts
from neucodex_lava.edge.stock.processes import StockSynapse, stock_neuron, whc
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import DECAY_ONE, STATE_SHIFT, Node

PerStep = NDArray[Any]
COUNTING: dict[str, tuple[Any, Any]] = {
    "Conv": (counting.CountingConv, counting.PyCountingConvModel),
    "Dense": (counting.CountingDense, counting.PyCountingDenseModel),
    "DelayDense": (counting.CountingDelayDense, counting.PyCountingDelayDenseModel),
    "Sparse": (counting.CountingSparse, counting.PyCountingSparseModel),
}


class ReferenceNetwork(StockAssembly):
    """Processes for one run of fixed length.

    Args:
        wiring: the edge part; its schedule must be pipelined.
        frames: input per Lava step, uint8 (steps, C, H, W), zeros while the pipeline drains. One
            sample alone where `holds_spikes_back` says so: stock processes cannot forget spikes
            that are on their way when the next sample begins.
        record: keep every node's spikes, not only the output's.
        watch: names of nodes whose currents and potentials are kept.

    Attributes:
        root: a process to start from.
        models: process models of our own processes.
        output: spikes of the output, uint8 (steps, W, H, C).
        spikes: spikes of every node, if recorded, else of those that no other node hears at once.
        currents, potentials: of watched nodes, int32 (steps, W, H, C); the readout's and the exit
            heads' potentials always.

    Raises:
        ConfigError: something stock Lava cannot express.
    """

    def __init__(
        self,
        wiring: Wiring,
        frames: NDArray[np.uint8],
        *,
        record: bool = False,
        watch: Sequence[str] = (),
    ) -> None:
        self.models: dict[Any, type[Any]] = {}
        self._steps = len(frames)
        self._beyond: list[tuple[str, PerStep]] = []
        super().__init__(wiring, wiring.timesteps)
        self.spikes: dict[str, NDArray[np.uint8]] = {}
        self.currents: dict[str, NDArray[np.int32]] = {}
        self.potentials: dict[str, NDArray[np.int32]] = {}
        self._frames = frames
        self._clock = shared_zeros((1,), np.int64)
        self._counts = ReferenceCounts(wiring, self._steps)
        self._links = list(wiring.net.connections())
        self._inputs: dict[tuple[bytes, int], Any] = {}
        self._into: dict[str, list[tuple[Any, StockSynapse]]] = {}
        self.assemble()
        last = wiring.net.last
        for node in wiring.net.nodes:
            if record or node is last or node.name not in self._counts.sent:
                self._tap_spikes(node)
            readout = node.neuron.is_readout
            if node.name in watch:
                self._tap_state(node, "u", self.currents)
            if (readout and node.name in wiring.answers) or node.name in watch:
                self._tap_state(node, "v", self.potentials)
            if readout or node.sum_bound is not None:
                self._watch_range(node, readout=readout)
        if holds_spikes_back(wiring.net):
            for node in wiring.net.nodes:
                self._keep_quiet(node)
        self.output = self.spikes[last.name]
        self.root = self.neurons[last.name]

    def make_neuron(self, node: Node, interval: int, offset: int) -> Any:
        """See `StockAssembly`."""
        if node.neuron.is_stock:
            return super().make_neuron(node, interval, offset)
        beyond: PerStep | None = None
        if node.neuron.reset == "subtract" and node.sum_bound is not None:
            beyond = shared_zeros((self._steps,), np.int64)
            self._beyond.append((node.name, beyond))
        neurons = stock_neuron(node, interval=interval, offset=offset, beyond=beyond)
        return self._own(neurons, PyPresetLIFModel)

    def input_port(self, delays: Delays, wait: int) -> Any:
        """See `StockAssembly`."""
        key = (delays.tobytes(), wait)
        if key not in self._inputs:
            frames = np.zeros_like(self._frames)
            timesteps = self.wiring.timesteps
            in_sample = np.arange(self._steps - wait) % timesteps
            for delay in np.unique(delays):
                # What was sent `delay` frames before, unless another sample had begun since.
                now = np.flatnonzero(in_sample >= delay)
                frames[now + wait] += np.where(delays == delay, self._frames[now - delay], 0)
            data = np.ascontiguousarray(frames.transpose(3, 2, 1, 0), np.int32)
            self._inputs[key] = RingBuffer(data=data).s_out
        return self._inputs[key]

    def make_synapse(self, synapse: StockSynapse, link: int) -> Any:
        """See `StockAssembly`."""
        node, connection = self._links[link]
        place = self.wiring.links[link]
        waits = place.wait > 1 or (waits_inside(connection) and synapse.process != "DelayDense")
        tally = self._counts.for_connection(
            connection, synapse, graded=self.wiring.net.is_graded(connection), at_once=not waits
        )
        name = f"{connection.source} to {node.name}"
        process = self._counting(synapse, tally, name)
        self._into.setdefault(node.name, []).append((process, synapse))
        return process

    def make_relay_synapse(self, synapse: StockSynapse, source: str, wait: int) -> Any:
        """See `StockAssembly`."""
        tally = self._counts.for_relay(synapse, source, wait)
        return self._counting(synapse, tally, f"{source} relay {wait} synapse")

    def _counting(self, synapse: StockSynapse, tally: dict[str, Any], name: str) -> Any:
        process, model = COUNTING[synapse.process]
        return self._own(process(tally=tally, name=name, **synapse.arguments), model)

    def _own(self, process: Any, model: type[Any]) -> Any:
        self.models[process] = model
        return process

    def _tap_spikes(self, node: Node) -> None:
        data = shared_zeros((self._steps, *whc(node.shape)), np.uint8)
        tap = SpikeTap(data=data, clock=self._clock, name=f"{node.name} tap")
        self.neurons[node.name].s_out.connect(self._own(tap, PySpikeTapModel).s_in)
        self.spikes[node.name] = data

    def _tap_state(self, node: Node, var: str, kept: dict[str, NDArray[np.int32]]) -> None:
        data = shared_zeros((self._steps, *whc(node.shape)), np.int32)
        state = getattr(self.neurons[node.name], var)
        self._own(VarTap(data=data, var=state, name=f"{node.name} {var}"), PyVarTapModel)
        kept[node.name] = data

    def _watch_range(self, node: Node, *, readout: bool) -> None:
        beyond = shared_zeros((self._steps,), np.int64)
        watch = RangeWatch(
            beyond=beyond,
            shape=whc(node.shape),
            keep_current=DECAY_ONE - node.neuron.current_decay,
            interval=self.wiring.timesteps,
            offset=self.wiring.offset(node.name),
            bias=node.bias.astype(np.int64) << STATE_SHIFT if readout else None,
            threshold=node.neuron.threshold << STATE_SHIFT,
            name=f"{node.name} range",
        )
        self._own(watch, PyRangeWatchModel)
        for process, synapse in self._into[node.name]:
            synapse.sums(process).connect(watch.a_in)
        self._beyond.append((node.name, beyond))

    def _keep_quiet(self, node: Node) -> None:
        """Hold a biased node down until its window begins: what it sent earlier could be held back
        into the window of another one. Its reset clears the traces.
        """
        begins = self.wiring.offset(node.name)
        if node.bias.max() <= 0 or begins == 0:
            return
        data = np.zeros((*whc(node.shape), self._steps), np.int32)
        against = np.maximum(node.bias, 0)
        data[..., 0] = -against
        # More than what the current, if it has a memory, loses to decay and rounding.
        again = against * node.neuron.current_decay // DECAY_ONE + 2
        data[..., 1:begins] = -again[:, None]
        RingBuffer(data=data).s_out.connect(self.neurons[node.name].a_in)

    @property
    def steps_done(self) -> int:
        """Lava steps done so far; may be read while the network runs."""
        return int(self._clock[0])

    def ledger(self, samples: int) -> Ledger:
        """The ledger of a finished run of so many samples; relays are booked apart."""
        return self._counts.ledger(self.spikes, samples)

    def overflows(self, samples: int) -> Iterator[tuple[int, int, str, int]]:
        """(sample, timestep, node, value) of what left the 24-bit range, the earliest first.

        Only nodes whose bound rests on measured sums can get there, and readouts. Of a neuron that
        resets by subtraction, also what would have been clipped.
        """
        windows = [
            (name, self.wiring.by_logical_time(beyond, self.wiring.offset(name), samples))
            for name, beyond in self._beyond
        ]
        for sample in range(samples):
            for t in range(self.wiring.timesteps):
                for name, window in windows:
                    if window[sample, t]:
                        yield sample, t + 1, name, int(window[sample, t])
