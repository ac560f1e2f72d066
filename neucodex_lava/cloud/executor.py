"""The torch executor: an IntegerNet step by step (the cloud tail) or for whole batches (the twin).

Weights, spikes and states are integers held in float32 (float64 where a decay needs more than 24
bits), so that sums are exact in any order and the result is the same for any batch size, replay and
device (docs/semantics.md, "Exactness in torch").

Inside, arrays are (T, N, C, H, W): time first, so that a layer's synapses see T * N images at once
and the neurons' loop goes over contiguous slices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from energy.ledger import Ledger
from neucodex_lava.cloud.exact import exact_arithmetic, usable_device
from neucodex_lava.cloud.neurons import UNIT, Neurons
from neucodex_lava.cloud.synapses import EXACT, Synapses, flat
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import INPUT, IntegerNet, Node, Shape

FLOAT_BYTES = 4
CPU_BYTES, GPU_BYTES = 4 << 20, 1 << 30
"""What the sums and spikes of a batch's largest node may take: they should stay in a core's caches
(`neucodex bench executor` measures it), or keep a GPU busy."""
MALLOC_KEEPS = 31 << 20
"""Just below glibc's DEFAULT_MMAP_THRESHOLD_MAX of 32 MiB."""

Flight = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class NodeState:
    """A node between two timesteps; None is what it is at a sample's start: zero, or nothing.

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
        potentials: per recorded node its potential after each timestep (0 where it spiked), in state
            units, (T, N, C, H, W).
        counts: per count and row (connection or node) an int64 (T, N).
        currents: per watched node its current at each timestep, in state units, (T, N, C, H, W).
    """

    potentials: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, Tensor] = field(default_factory=dict)
    sums: Tensor | None = None
    counts: dict[str, list[Tensor]] = field(default_factory=dict)
    currents: dict[str, Tensor] = field(default_factory=dict)


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
        """States of all nodes at the start of a sample: zero, and nothing in flight."""
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
    ) -> tuple[State, Traces]:
        """Run as many timesteps as `x` has.

        Args:
            state: of these samples; not changed.
            x: input spikes or integers, (T, N, C, H, W).
            record: keep every node's spikes, not only the last one's.
            count: fill the ledger's counts.
            keep: return the new state; without it, {}.
            watch: names of nodes whose currents are kept.

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
                if record or node is self.nodes[-1]:
                    traces.spikes[node.name] = spikes.bool()
                if record:
                    traces.potentials[node.name] = potentials
                if node.neuron.is_readout and node is self.nodes[-1]:
                    running = torch.div(potentials, UNIT, rounding_mode="trunc")
                    traces.sums = running.flatten(2).long()
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


@dataclass(frozen=True, eq=False)
class TwinResult:
    """A dataset's run in the executor, or one batch's.

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

    @staticmethod
    def concatenate(parts: Sequence[TwinResult]) -> TwinResult:
        """Results of one executor, one after the other along the samples."""
        first = parts[0]

        def joined(arrays: Iterable[dict[str, NDArray[Any]] | None]) -> Any:
            kept = [a for a in arrays if a is not None]
            return {n: np.concatenate([a[n] for a in kept]) for n in kept[0]} if kept else None

        return TwinResult(
            np.concatenate([p.output for p in parts]),
            None if first.sums is None else np.concatenate([p.sums for p in parts]),  # type: ignore[arg-type]
            Ledger.concatenate([p.ledger for p in parts]),
            joined(p.spikes for p in parts),
            joined(p.potentials for p in parts),
        )


def run_twin(
    executor: Executor,
    inputs: NDArray[np.uint8],
    *,
    batch_size: int | None = None,
    record: bool = False,
    count: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> TwinResult:
    """Run whole samples in batches, on all cores.

    Args:
        executor: what to run.
        inputs: spikes or graded integers, (N, C, H, W, T).
        batch_size: samples at a time; by default `Executor.batch_size`.
        record: keep every node's spikes and potentials.
        count: fill the ledger; without it all counts are 0.
        progress: called with (samples done, samples in all).

    Returns:
        Spikes, sums and ledger; the same numbers for any batch size.

    Raises:
        NetError: the input's shape is not the net's.
        OverflowInRunError: a synaptic sum left the 24-bit range.
    """
    samples = len(inputs)
    if inputs.ndim != 5:
        raise NetError(f"input of shape {inputs.shape}, expected (N, C, H, W, T)")
    size = batch_size or executor.batch_size(inputs.shape[-1])
    batches = (inputs[first : first + size] for first in range(0, max(samples, 1), size))
    parts: list[TwinResult] = []
    done = 0
    for part in run_batches(executor, batches, record=record, count=count):
        parts.append(part)
        done += len(part.output)
        if progress is not None:
            progress(done, samples)
    return TwinResult.concatenate(parts)


def run_batches(
    executor: Executor,
    batches: Iterable[NDArray[np.uint8]],
    *,
    record: bool = False,
    count: bool = True,
) -> Iterator[TwinResult]:
    """Run batches of whole samples as they come; results are handed on in order, a few are in work.

    On a CPU each of torch's threads runs batches of its own: threads that share one convolution wait
    for each other at its end, and for anything else that runs on their core.

    Args:
        executor, record, count: as `run_twin`.
        batches: each (N, C, H, W, T).

    Raises:
        NetError, OverflowInRunError: as `run_twin`.
    """

    def run(batch: NDArray[np.uint8]) -> TwinResult:
        return _run_batch(executor, batch, record, count)

    _keep_memory()
    threads = torch.get_num_threads()
    if executor.device.type != "cpu" or threads == 1:
        yield from map(run, batches)
        return
    pool = ThreadPoolExecutor(threads, "executor", torch.set_num_threads, (1,))
    try:
        waiting: deque[Future[TwinResult]] = deque()
        for batch in batches:
            waiting.append(pool.submit(run, batch))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # A thread's own setting is also what torch gives to threads that start later.
        torch.set_num_threads(threads)


def _keep_memory() -> None:
    """Have glibc keep freed arrays for the next layer: it gives none back to the system, page by page,
    that are smaller than one it has been asked for before.
    """
    torch.empty(MALLOC_KEEPS, dtype=torch.uint8)


def _run_batch(
    executor: Executor, batch: NDArray[np.uint8], record: bool, count: bool
) -> TwinResult:
    if tuple(batch.shape[1:4]) != executor.input_shape:
        raise NetError(f"input of shape {batch.shape}, expected (N, *{executor.input_shape}, T)")
    x = torch.from_numpy(np.moveaxis(batch, -1, 0).copy())
    _, traces = executor.advance(
        executor.initial_state(), x, record=record, count=count, keep=False
    )

    def time_last(trace: Tensor, kind: type[Any]) -> NDArray[Any]:
        moved = trace.to(getattr(torch, kind.__name__)).permute(*range(1, trace.ndim), 0)
        return moved.contiguous().cpu().numpy()

    kinds = [c.kind for node in executor.nodes for c in node.connections]
    names = [node.name for node in executor.nodes]
    ledger = Ledger.zeros(names, executor.links, len(batch), batch.shape[-1], kinds)
    for name, rows in traces.counts.items():
        # (T, N, rows) to (N, rows, T)
        getattr(ledger, name)[:] = time_last(torch.stack(rows, dim=2), np.int64)
    if count:
        ledger.dendrite_updates[:] = np.array([n.size for n in executor.nodes])[None, :, None]
    spikes = {name: time_last(trace, np.uint8) for name, trace in traces.spikes.items()}
    potentials = {name: time_last(trace, np.int32) for name, trace in traces.potentials.items()}
    return TwinResult(
        output=spikes[names[-1]],
        sums=None if traces.sums is None else time_last(traces.sums, np.int64),
        ledger=ledger,
        spikes=spikes if record else None,
        potentials=potentials if record else None,
    )
