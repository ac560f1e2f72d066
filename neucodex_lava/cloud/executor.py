"""The torch executor: an IntegerNet step by step (the cloud tail) or for whole batches (the twin).

Weights, spikes and states are integers held in float32 (float64 where a decay needs more than 24
bits), so that sums are exact in any order and the result is the same for any batch size, replay and
device (docs/semantics.md, "Exactness in torch").

Inside, arrays are (T, N, C, H, W): time first, so that a layer's synapses see T * N images at once
and the neurons' loop goes over contiguous slices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from energy.ledger import Ledger
from neucodex_lava.cloud.neurons import UNIT, Neurons
from neucodex_lava.cloud.synapses import Synapses
from neucodex_lava.errors import ConfigError, NetError
from neucodex_lava.integer_net import INPUT, IntegerNet, Node, Shape

Flight = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class NodeState:
    """A node between two timesteps.

    Attributes:
        u, v: current and potential, each (N, C, H, W), in state units.
        spikes: per connection its source's latest spikes that have not arrived, (T, N, C, H, W), no
            longer than its longest delay; None where nothing waits.
        sums: the same of synaptic sums, where each target neuron has a delay of its own.
    """

    u: Tensor
    v: Tensor
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
        potentials: per recorded node its potential after each timestep (0 where it spiked), in state
            units, (T, N, C, H, W).
        counts: per count and row (connection or node) an int64 (T, N).
    """

    potentials: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    sums: Tensor | None = None
    counts: dict[str, list[Tensor]] = field(default_factory=dict)


class Executor:
    """Runs nodes ``start`` to ``stop`` of a net; by default all of them.

    Args:
        net: the network.
        start: first node to run; its input is then what crosses that cut. ``net.cut`` for the tail.
        stop: one past the last node to run.
        device: torch device, e.g. ``"cpu"`` or ``"cuda"``.

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
        self.source = INPUT if start == 0 else net.nodes[start - 1].name
        self.input_shape: Shape = net.shape_of(self.source)
        if not self.nodes:
            raise NetError("nothing to run: no node lies between these cuts")
        self._neurons = {n.name: Neurons(n, self.device) for n in self.nodes}
        self._synapses = {
            n.name: [Synapses(net, n, c, self.device) for c in n.connections] for n in self.nodes
        }
        self.links = [(n.name, c.source) for n in self.nodes for c in n.connections]

    def initial_state(self, samples: int) -> State:
        """States of all nodes at the start of a sample: zero, and nothing in flight."""
        state: State = {}
        for node in self.nodes:
            zeros = torch.zeros((samples, *node.shape), device=self.device)
            nothing = (None,) * len(node.connections)
            state[node.name] = NodeState(zeros, zeros, nothing, nothing)
        return state

    def advance(
        self,
        state: State,
        x: Tensor,
        *,
        record: bool = False,
        count: bool = False,
    ) -> tuple[State, Traces]:
        """Run as many timesteps as `x` has.

        Args:
            state: of these samples; not changed.
            x: input spikes or integers, (T, N, C, H, W).
            record: keep every node's spikes, not only the last one's.
            count: fill the ledger's counts.

        Returns:
            The new state and what was recorded.

        Raises:
            OverflowInRunError: a synaptic sum left the 24-bit range.
        """
        with torch.no_grad(), _exact_arithmetic():
            values: dict[str, Tensor] = {self.source: x.to(self.device, torch.float32)}
            traces = Traces()
            new_state: State = {}
            for node in self.nodes:
                before = state[node.name]
                drive, waiting = self._drive(node, before, values, traces.counts if count else None)
                neurons = self._neurons[node.name]
                spikes, potential, (u, v) = neurons.run(drive, before.u, before.v, record)
                new_state[node.name] = NodeState(u, v, *waiting)
                values[node.name] = spikes
                if count:
                    axon_out = spikes.flatten(2).sum(2, dtype=torch.float64).long()
                    traces.counts.setdefault("axon_out", []).append(axon_out)
                if record or node is self.nodes[-1]:
                    traces.spikes[node.name] = spikes.bool()
                if potential is not None and record:
                    traces.potentials[node.name] = potential
                if potential is not None and node.neuron.is_readout and node is self.nodes[-1]:
                    sums = torch.div(potential, UNIT, rounding_mode="trunc")
                    traces.sums = sums.flatten(2).long()
        return new_state, traces

    def _drive(
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
            total = a if total is None else total + a
        assert total is not None
        return total, (tuple(spikes), tuple(sums))


def usable_device(name: str) -> torch.device:
    """The torch device of this name, tried out.

    Raises:
        ConfigError: unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"torch device '{name}' cannot be used: {reason}",
            "use cpu, or cuda where there is a GPU",
        ) from error
    return device


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """TF32 and autocast would round inside the sums."""
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


@dataclass(frozen=True, eq=False)
class TwinResult:
    """A dataset's run in the executor.

    Attributes:
        output: spikes of the last node run, uint8 (N, C, H, W, T).
        sums: running sums S_t, int64 (N, K, T); None when the last node spikes.
        ledger: counts of the nodes run, as the gated schedule counts them.
        spikes: every node's spikes, uint8 (N, C, H, W, T), when recorded.
        potentials: every node's potential after each timestep (0 where it spiked), in state units,
            int32 (N, C, H, W, T), when recorded.
    """

    output: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    ledger: Ledger
    spikes: dict[str, NDArray[np.uint8]] | None
    potentials: dict[str, NDArray[np.int32]] | None


def run_twin(
    executor: Executor,
    inputs: NDArray[np.uint8],
    *,
    batch_size: int = 64,
    record: bool = False,
    count: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> TwinResult:
    """Run whole samples in batches.

    Args:
        executor: what to run.
        inputs: spikes or graded integers, (N, C, H, W, T).
        batch_size: samples at a time.
        record: keep every node's spikes and potentials.
        count: fill the ledger; without it all counts are 0.
        progress: called with (samples done, samples in all).

    Returns:
        Spikes, sums and ledger; the same numbers for any batch size.

    Raises:
        NetError: the input's shape is not the net's.
        OverflowInRunError: a synaptic sum left the 24-bit range.
    """
    if inputs.ndim != 5 or tuple(inputs.shape[1:4]) != executor.input_shape:
        raise NetError(f"input of shape {inputs.shape}, expected (N, *{executor.input_shape}, T)")
    samples, timesteps = inputs.shape[0], inputs.shape[-1]
    names = [node.name for node in executor.nodes]
    kinds = [c.kind for node in executor.nodes for c in node.connections]
    ledger = Ledger.zeros(names, executor.links, samples, timesteps, kinds)
    last = executor.nodes[-1]
    output = np.zeros((samples, *last.shape, timesteps), np.uint8)
    sums = np.zeros((samples, last.size, timesteps), np.int64) if last.neuron.is_readout else None
    spikes = {
        n.name: np.zeros((samples, *n.shape, timesteps), np.uint8) for n in executor.nodes if record
    }
    potentials = {
        n.name: np.zeros((samples, *n.shape, timesteps), np.int32) for n in executor.nodes if record
    }
    for first in range(0, samples, batch_size):
        part = slice(first, min(first + batch_size, samples))
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(inputs[part], -1, 0)))
        state = executor.initial_state(x.shape[1])
        _, traces = executor.advance(state, x, record=record, count=count)
        for name, trace in traces.spikes.items():
            values = np.moveaxis(trace.cpu().numpy(), 0, -1)
            if name == last.name:
                output[part] = values
            if record:
                spikes[name][part] = values
        for name, potential in traces.potentials.items():
            potentials[name][part] = np.moveaxis(potential.cpu().numpy(), 0, -1)
        if sums is not None and traces.sums is not None:
            sums[part] = np.moveaxis(traces.sums.cpu().numpy(), 0, -1)
        for name, rows in traces.counts.items():
            stacked = torch.stack(rows).cpu().numpy()  # (rows, T, N)
            getattr(ledger, name)[part] = stacked.transpose(2, 0, 1)
        if progress is not None:
            progress(part.stop, samples)
    if count:
        ledger.dendrite_updates[:] = np.array([n.size for n in executor.nodes])[None, :, None]
    recorded = (spikes, potentials) if record else (None, None)
    return TwinResult(output, sums, ledger, *recorded)
