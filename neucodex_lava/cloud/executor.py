"""The torch executor: an IntegerNet step by step (the cloud tail) or for whole batches (the twin).

Weights, spikes and states are integers held in float32 (float64 where a decay needs more than 24
bits), so that sums are exact in any order and the result is the same for any batch size, replay and
device (docs/semantics.md, "Exactness in torch").

Inside, arrays are (T, N, C, H, W): time first, so that a layer's synapses see T * N images at once
and the neuron loops over contiguous slices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from energy.ledger import Ledger
from neucodex_lava.errors import ConfigError, NetError, OverflowInRunError
from neucodex_lava.integer_net import (
    DECAY_ONE,
    INPUT,
    STATE_SHIFT,
    Connection,
    IntegerNet,
    Node,
    Shape,
)

STATE_MAX = float(1 << 23)
"""States are 24 bits wide: a current above this, or at or below its negative, would wrap."""
UNIT = float(1 << STATE_SHIFT)

State = dict[str, tuple[Tensor, Tensor]]
"""Per node its current u and potential v, each (N, C, H, W), in state units."""


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
        self._layers = [_Layer(net, node, self.device) for node in self.nodes]
        self.links = [(n.name, c.source) for n in self.nodes for c in n.connections]

    def initial_state(self, samples: int) -> State:
        """States of all nodes at the start of a sample: zero."""
        return {
            node.name: (self._zeros(samples, node.shape), self._zeros(samples, node.shape))
            for node in self.nodes
        }

    def _zeros(self, samples: int, shape: Shape) -> Tensor:
        return torch.zeros((samples, *shape), device=self.device)

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
            for layer in self._layers:
                node = layer.node
                if count:
                    layer.count(values, traces.counts)
                drive = layer.synapses(values)
                u, v = state[node.name]
                spikes, potential, new_state[node.name] = layer.neurons(drive, u, v, record)
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


class _Layer:
    """One node, its weights and fan-out maps on the device."""

    def __init__(self, net: IntegerNet, node: Node, device: torch.device) -> None:
        self.node = node
        self.bias = (
            torch.tensor(node.bias, dtype=torch.float32, device=device)[:, None, None] * UNIT
        )
        self.threshold = node.neuron.threshold * UNIT
        self.links: list[tuple[Connection, Tensor]] = []
        self.fan_out: list[Tensor] = []
        self.graded = [net.is_graded(c) for c in node.connections]
        for connection in node.connections:
            weight = torch.tensor(connection.effective_weight(), device=device).float()
            self.links.append((connection, weight))
            maps = connection.fan_out(net.shape_of(connection.source), node.shape)
            stacked = np.stack([m.reshape(-1) for m in maps], axis=1)
            self.fan_out.append(torch.tensor(stacked, dtype=torch.float64, device=device))

    def synapses(self, values: Mapping[str, Tensor]) -> Tensor:
        """Synaptic sums a of all timesteps, (T, N, C, H, W), exact integers."""
        total: Tensor | None = None
        for connection, weight in self.links:
            x = values[connection.source]
            a = _synapse(connection, weight, x, self.node.shape)
            total = a if total is None else total + a
        assert total is not None
        return total

    def count(self, values: Mapping[str, Tensor], counts: dict[str, list[Tensor]]) -> None:
        """Add this node's counts per connection; spike map times fan-out map, in float64."""
        for (connection, _), fan_out, graded in zip(self.links, self.fan_out, self.graded):
            active = (values[connection.source] != 0).flatten(2).double()
            reached = (active @ fan_out).long()
            none = torch.zeros_like(reached[..., 0])
            row = {
                "spikes_in": active.sum(2).long(),
                "syn_ops": none if graded else reached[..., 0],
                "syn_ops_nonzero": none if graded else reached[..., 1],
                "macs": reached[..., 0] if graded else none,
            }
            for name, value in row.items():
                counts.setdefault(name, []).append(value)

    def neurons(
        self, drive: Tensor, u: Tensor, v: Tensor, record: bool
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor]]:
        """Spikes and potentials after reset (T, N, C, H, W), and the last state.

        Potentials are kept of a readout, or of any node when asked to record.
        """
        neuron = self.node.neuron
        spikes = torch.empty_like(drive)
        potential = torch.empty_like(drive) if neuron.is_readout or record else None
        memory = neuron.current_decay != DECAY_ONE
        bounded = self.node.sum_bound is not None
        for t in range(drive.shape[0]):
            current = drive[t] * UNIT
            if memory:
                current = _decay(u, neuron.current_decay) + current
            if memory or bounded:
                self._check_range(current, t)
            u = current
            v = _decay(v, neuron.voltage_decay) + current + self.bias
            if bounded and neuron.is_readout:
                # A sum that clips would answer wrongly, and one that spikes would start anew.
                self._check_range(v, t, self.threshold + 1, "running sum")
            v = v.clamp(-STATE_MAX + 1, STATE_MAX - 1)
            fired = v > self.threshold
            spikes[t] = fired
            v = v.masked_fill(fired, 0.0)
            if potential is not None:
                potential[t] = v
        return spikes, potential, (u, v)

    def _check_range(
        self, state: Tensor, t: int, limit: float = STATE_MAX, what: str = "synaptic sum"
    ) -> None:
        low, high = torch.aminmax(state)
        if high > limit or low <= -limit:
            worst = high if high > limit else low
            raise OverflowInRunError(
                f"node '{self.node.name}': the {what} reached {float(worst) / UNIT:.0f} at"
                f" step {t + 1}, a 24-bit state holds {int(STATE_MAX / UNIT) - 1}",
                "quantise again with a larger margin",
            )


def _decay(state: Tensor, by: int) -> Tensor:
    """``state * (4096 - by) >> 12`` towards zero, exactly."""
    keep = DECAY_ONE - by
    if keep == 0:
        return torch.zeros_like(state)
    if keep & (keep - 1) == 0:
        return torch.trunc(state * (keep / DECAY_ONE))
    # 24 state bits times 12 decay bits do not fit a float32.
    return torch.trunc(state.double() * keep / DECAY_ONE).float()


def _synapse(connection: Connection, weight: Tensor, x: Tensor, target: Shape) -> Tensor:
    steps, samples = x.shape[:2]
    if connection.kind == "identity":
        return x * weight
    if connection.kind == "dense":
        out = x.flatten(2) @ weight.T
        return out.round_().reshape(steps, samples, *target)
    images = x.flatten(0, 1)
    if connection.kind == "conv":
        out = F.conv2d(
            images,
            weight,
            None,
            connection.stride,
            connection.padding,
            connection.dilation,
            connection.groups,
        )
    else:
        out = F.conv_transpose2d(
            images,
            weight,
            None,
            connection.stride,
            connection.padding,
            connection.output_padding,
            connection.groups,
            connection.dilation,
        )
    # Fast convolution algorithms may be off by less than a half.
    return out.round_().unflatten(0, (steps, samples))


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
