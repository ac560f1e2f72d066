"""IntegerNet: a whole spiking network in integers, from input to readout, with one cut.

This is the hinge of the project: SLAYER models are quantised into one, NetX files are written from
one and read back into one, and the Lava processes and the torch executor are built from one. What
its numbers mean, to the last bit, is in ``docs/semantics.md``; per neuron and timestep t = 1..T,
states zero at the start of a sample, ``>>`` rounding towards zero::

    a[t] = sum over connections and incoming spikes of w * 2^e
    u[t] = wrap24((u[t-1] * (4096 - current_decay) >> 12) + (a[t] << 6))
    v[t] = clip24((v[t-1] * (4096 - voltage_decay) >> 12) + u[t] + (bias << 6))
    s[t] = v[t] > (threshold << 6);   v[t] = 0 where s[t]

Only numpy is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import NetError

ConnectionKind = Literal["conv", "conv_transpose", "dense", "identity"]
Shape = tuple[int, int, int]
IntArray = NDArray[np.int64]

INPUT = "input"
"""Name that a connection uses for the network's input."""

DECAY_ONE = 4096
"""A decay of 4096 forgets everything from one timestep to the next; 0 forgets nothing."""
STATE_SHIFT = 6
"""Synaptic input, bias and threshold are shifted left by this many bits inside the neuron."""
WEIGHT_MIN, WEIGHT_MAX = -256, 254
BIAS_MIN, BIAS_MAX = -4096, 4095
THRESHOLD_MAX = 131_071
SUM_MAX = 131_071
"""Largest synaptic sum that neither wraps nor clips in a 24-bit state (2^17 - 1)."""
EXPONENT_MAX = 7
INPUT_BITS_MAX = 8


@dataclass(frozen=True)
class Neuron:
    """A current-based leaky integrate-and-fire neuron with reset to zero.

    Attributes:
        current_decay: iDecay, 0..4096; 4096 means the current has no memory.
        voltage_decay: vDecay, 0..4096; the paper's tau = 2 is 2048.
        threshold: 0..131071, in units of the weights (before the shift by 6 bits).
    """

    current_decay: int = DECAY_ONE
    voltage_decay: int = 2048
    threshold: int = 128

    @property
    def is_readout(self) -> bool:
        """An integrator that neither decays nor spikes: its potential is the running sum S_t."""
        return (
            self.current_decay == DECAY_ONE
            and self.voltage_decay == 0
            and self.threshold == THRESHOLD_MAX
        )


READOUT = Neuron(current_decay=DECAY_ONE, voltage_decay=0, threshold=THRESHOLD_MAX)


@dataclass(frozen=True, eq=False)
class Connection:
    """Synapses from the input or an earlier node; each weighs ``weight * 2**exponent``.

    Attributes:
        source: name of the node the spikes come from, or ``"input"``.
        kind: ``conv``, ``conv_transpose``, ``dense`` or ``identity``.
        weight: int16, even, in [-256, 254]. Shapes as in torch (correlation kernels):
            conv (out, in / groups, ky, kx), conv_transpose (in, out / groups, ky, kx),
            dense (out, C*H*W of the source), identity ().
        exponent: 0..7.
        stride, padding, dilation, output_padding: (y, x).
        groups: blocks of channels that see only each other.
    """

    source: str
    kind: ConnectionKind
    weight: NDArray[np.int16]
    exponent: int = 0
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    output_padding: tuple[int, int] = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        weight = np.asarray(self.weight)
        where = f"{self.kind} connection from '{self.source}'"
        if not np.issubdtype(weight.dtype, np.integer):
            raise NetError(f"{where}: weights are {weight.dtype}, they must be integers")
        if weight.size and (weight.min() < WEIGHT_MIN or weight.max() > WEIGHT_MAX):
            value = weight.min() if weight.min() < WEIGHT_MIN else weight.max()
            raise NetError(f"{where}: weight {value} is outside [{WEIGHT_MIN}, {WEIGHT_MAX}]")
        if np.any(weight & 1):
            odd = weight[(weight & 1).astype(bool)].flat[0]
            raise NetError(f"{where}: weight {odd} is odd, 8-bit weights are even integers")
        frozen = np.array(weight, dtype=np.int16)
        frozen.setflags(write=False)
        object.__setattr__(self, "weight", frozen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connection):
            return NotImplemented
        return self.attributes() == other.attributes() and np.array_equal(self.weight, other.weight)

    __hash__ = None  # type: ignore[assignment]

    def attributes(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values."""
        return {
            "source": self.source,
            "kind": self.kind,
            "exponent": self.exponent,
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "output_padding": list(self.output_padding),
            "groups": self.groups,
        }

    def effective_weight(self) -> IntArray:
        """``weight * 2**exponent`` as int64, same shape."""
        return self.weight.astype(np.int64) << self.exponent

    def output_shape(self, source: Shape) -> Shape | None:
        """Shape (C, H, W) this connection gives for a source of shape (C, H, W).

        None for ``dense``, which fits any node of as many neurons as it has rows.
        """
        if self.kind == "identity":
            return source
        if self.kind == "dense":
            return None
        k = self.weight.shape[2:]
        size: list[int] = []
        for axis in (0, 1):
            n, s, p, d = (
                source[1 + axis],
                self.stride[axis],
                self.padding[axis],
                self.dilation[axis],
            )
            span = d * (k[axis] - 1) + 1
            if self.kind == "conv":
                size.append((n + 2 * p - span) // s + 1)
            else:
                size.append((n - 1) * s - 2 * p + span + self.output_padding[axis])
        out = self.weight.shape[0] if self.kind == "conv" else self.weight.shape[1] * self.groups
        return out, size[0], size[1]

    def fan_out(self, source: Shape, target: Shape) -> tuple[IntArray, IntArray]:
        """Synapses each source neuron reaches: (all of them, those with a weight other than 0).

        Both arrays have the source's shape (C, H, W). Borders and strides are exact. The SynOps of
        a timestep are the spike map times this map.
        """
        if self.kind == "identity":
            ones = np.ones(source, np.int64)
            return ones, ones * int(self.weight != 0)
        if self.kind == "dense":
            rows = np.full(source, self.weight.shape[0], np.int64)
            return rows, (self.weight != 0).sum(axis=0, dtype=np.int64).reshape(source)
        nonzero = self._nonzero_per_input_channel(source[0])
        per_tap = (
            self.weight.shape[0] // self.groups if self.kind == "conv" else self.weight.shape[1]
        )
        every = np.zeros(source, np.int64)
        some = np.zeros(source, np.int64)
        for ky in range(self.weight.shape[2]):
            rows_hit = self._reached(0, ky, source[1], target[1])
            for kx in range(self.weight.shape[3]):
                hit = rows_hit[:, None] & self._reached(1, kx, source[2], target[2])[None, :]
                every += per_tap * hit
                some += nonzero[:, ky, kx, None, None] * hit
        return every, some

    def _nonzero_per_input_channel(self, channels: int) -> IntArray:
        """Non-zero weights (in, ky, kx) that an input channel's spike meets at each kernel tap."""
        nonzero = self.weight != 0
        if self.kind == "conv_transpose":
            return nonzero.sum(axis=1, dtype=np.int64)
        out, per_group, ky, kx = self.weight.shape
        grouped = nonzero.reshape(self.groups, out // self.groups, per_group, ky, kx)
        return grouped.sum(axis=1, dtype=np.int64).reshape(channels, ky, kx)

    def _reached(self, axis: int, tap: int, n_source: int, n_target: int) -> NDArray[np.bool_]:
        """Which source positions reach a target through this kernel tap, along one axis."""
        position = np.arange(n_source)
        stride, padding = self.stride[axis], self.padding[axis]
        offset = tap * self.dilation[axis] - padding
        if self.kind == "conv":
            shifted = position - offset
            target = shifted // stride
            return (shifted % stride == 0) & (target >= 0) & (target < n_target)
        target = position * stride + offset
        return (target >= 0) & (target < n_target)

    def check_against(self, source: Shape, target: Shape, where: str) -> None:
        """Raise NetError unless this connection leads from `source` to `target` shape (C, H, W)."""
        if self.kind not in get_args(ConnectionKind):
            raise NetError(f"{where}: unknown connection kind '{self.kind}'")
        rank = {"conv": 4, "conv_transpose": 4, "dense": 2, "identity": 0}[self.kind]
        if self.weight.ndim != rank:
            raise NetError(
                f"{where}: {self.kind} weights have {self.weight.ndim} dimensions, not {rank}"
            )
        if not 0 <= self.exponent <= EXPONENT_MAX:
            raise NetError(f"{where}: exponent {self.exponent} is outside [0, {EXPONENT_MAX}]")
        for name in ("stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise NetError(f"{where}: {name} {getattr(self, name)} must be at least 1")
        if min(self.padding) < 0 or min(self.output_padding) < 0 or self.groups < 1:
            raise NetError(f"{where}: negative padding, or groups below 1")
        if self.kind == "dense":
            expected = (int(np.prod(target)), int(np.prod(source)))
            if self.weight.shape != expected:
                raise NetError(f"{where}: dense weights are {self.weight.shape}, not {expected}")
            return
        if rank == 4:
            channels = self.weight.shape[0]
            if self.kind == "conv":
                channels = self.weight.shape[1] * self.groups
            if channels != source[0] or self.weight.shape[0] % self.groups:
                raise NetError(
                    f"{where}: weights {self.weight.shape} with {self.groups} groups do not fit"
                    f" {source[0]} input channels"
                )
        found = self.output_shape(source)
        if found != target:
            raise NetError(f"{where}: gives shape {found}, but the node has shape {target}")


@dataclass(frozen=True, eq=False)
class Node:
    """Neurons of one shape and kind, with their incoming connections.

    Attributes:
        name: unique in its net.
        shape: (C, H, W).
        neuron: shared by all neurons of the node.
        bias: int32 (C,), one per channel, added at every timestep.
        connections: at least one.
        sum_bound: largest absolute synaptic sum measured, times a margin, where the worst case over
            all inputs is out of the chip's reach; backends then fail a run that exceeds the 24-bit
            range. None when the worst case itself is in reach, which is checked.
    """

    name: str
    shape: Shape
    neuron: Neuron
    bias: NDArray[np.int32]
    connections: tuple[Connection, ...]
    sum_bound: int | None = None

    def __post_init__(self) -> None:
        bias = np.array(self.bias)
        if not np.issubdtype(bias.dtype, np.integer):
            raise NetError(f"node '{self.name}': bias is {bias.dtype}, it must be integer")
        if bias.size and (bias.min() < BIAS_MIN or bias.max() > BIAS_MAX):
            value = bias.min() if bias.min() < BIAS_MIN else bias.max()
            raise NetError(f"node '{self.name}': bias {value} is outside [{BIAS_MIN}, {BIAS_MAX}]")
        bias = bias.astype(np.int32)
        bias.setflags(write=False)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "connections", tuple(self.connections))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return (
            (self.name, self.shape, self.neuron, self.sum_bound)
            == (other.name, other.shape, other.neuron, other.sum_bound)
            and np.array_equal(self.bias, other.bias)
            and self.connections == other.connections
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class IntegerNet:
    """A whole network, input to readout, and where it is cut.

    Attributes:
        input_shape: (C, H, W).
        nodes: in an order in which sources come first.
        cut: nodes before it run on the edge, the others in the cloud; 0 sends the encoded input,
            ``len(nodes)`` is edge-only.
        timesteps: T_max, the number of timesteps the readout's limit holds for.
        input_bits: 1 for spikes; b for graded input of unsigned b-bit integers.

    Raises:
        NetError: when a rule or a limit is broken; it names the node, the limit and the value.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    cut: int
    timesteps: int
    input_bits: int = 1
    _by_name: Mapping[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        self._check()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntegerNet):
            return NotImplemented
        mine = (self.input_shape, self.cut, self.timesteps, self.input_bits)
        theirs = (other.input_shape, other.cut, other.timesteps, other.input_bits)
        return mine == theirs and self.nodes == other.nodes

    __hash__ = None  # type: ignore[assignment]

    def node(self, name: str) -> Node:
        """The node called `name`."""
        return self._by_name[name]

    def shape_of(self, source: str) -> Shape:
        """Shape (C, H, W) of a node, or of the input for ``"input"``."""
        return self.input_shape if source == INPUT else self._by_name[source].shape

    def connections(self) -> Iterator[tuple[Node, Connection]]:
        """All connections with the node they lead to, in the ledger's order."""
        for node in self.nodes:
            for connection in node.connections:
                yield node, connection

    def is_graded(self, connection: Connection) -> bool:
        """Whether the connection carries multi-bit input: it then counts MACs, never SynOps."""
        return connection.source == INPUT and self.input_bits > 1

    @property
    def edge_nodes(self) -> tuple[Node, ...]:
        """Nodes before the cut."""
        return self.nodes[: self.cut]

    @property
    def tail_nodes(self) -> tuple[Node, ...]:
        """Nodes after the cut."""
        return self.nodes[self.cut :]

    @property
    def code_shape(self) -> Shape:
        """Shape (C, H, W) of what crosses the cut at each timestep."""
        return self.input_shape if self.cut == 0 else self.nodes[self.cut - 1].shape

    @property
    def code_bits(self) -> int:
        """Bits per value that crosses the cut: 1, or the input's bits when the cut is 0."""
        return self.input_bits if self.cut == 0 else 1

    @property
    def ends_in_readout(self) -> bool:
        """Whether the last node integrates logits rather than spiking."""
        return self.nodes[-1].neuron.is_readout

    @property
    def is_chain(self) -> bool:
        """Every edge node has one connection, from the node before it."""
        before = INPUT
        for node in self.edge_nodes:
            if len(node.connections) != 1 or node.connections[0].source != before:
                return False
            before = node.name
        return True

    @cached_property
    def depth(self) -> dict[str, int]:
        """Longest path from the input in connections; the input is 0, the first node 1."""
        depth = {INPUT: 0}
        for node in self.nodes:
            depth[node.name] = 1 + max(depth[c.source] for c in node.connections)
        return depth

    def legal_cuts(self) -> list[int]:
        """Every cut across which nothing but one node's output (or the input) passes."""
        order = {INPUT: 0} | {node.name: i + 1 for i, node in enumerate(self.nodes)}
        legal: list[int] = []
        for cut in range(len(self.nodes) + 1):
            later = self.nodes[cut:]
            if all(order[c.source] >= cut for node in later for c in node.connections):
                legal.append(cut)
        return legal

    def with_cut(self, cut: int) -> IntegerNet:
        """The same network cut elsewhere."""
        return replace(self, cut=cut)

    def with_nodes(self, *changed: Node) -> IntegerNet:
        """The same network with the nodes of these names replaced."""
        new = {node.name: node for node in changed}
        return replace(self, nodes=tuple(new.get(node.name, node) for node in self.nodes))

    def edge_part(self) -> IntegerNet:
        """The nodes before the cut as a net of their own, cut at its end."""
        return replace(self, nodes=self.edge_nodes)

    def _check(self) -> None:
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise NetError(f"input shape {self.input_shape} is not (C, H, W) of positive sizes")
        if not 1 <= self.input_bits <= INPUT_BITS_MAX:
            raise NetError(f"input of {self.input_bits} bits is outside [1, {INPUT_BITS_MAX}]")
        if self.timesteps < 1:
            raise NetError(f"T_max is {self.timesteps}, it must be at least 1")
        if not self.nodes:
            raise NetError("the network has no nodes")
        seen = {INPUT}
        for node in self.nodes:
            if node.name in seen:
                raise NetError(f"two nodes are called '{node.name}'")
            self._check_node(node, seen)
            seen.add(node.name)
        if self.cut not in self.legal_cuts():
            raise NetError(
                f"the network cannot be cut at {self.cut}: more than one node's output would cross",
                f"legal cuts: {self.legal_cuts()}",
            )

    def _check_node(self, node: Node, seen: set[str]) -> None:
        where = f"node '{node.name}'"
        if len(node.shape) != 3 or min(node.shape) < 1:
            raise NetError(f"{where}: shape {node.shape} is not (C, H, W) of positive sizes")
        if node.bias.shape != (node.shape[0],):
            raise NetError(f"{where}: bias {node.bias.shape} is not one per channel")
        neuron = node.neuron
        if not (0 <= neuron.current_decay <= DECAY_ONE and 0 <= neuron.voltage_decay <= DECAY_ONE):
            raise NetError(f"{where}: decays {neuron} are outside [0, {DECAY_ONE}]")
        if not 0 <= neuron.threshold <= THRESHOLD_MAX:
            raise NetError(f"{where}: threshold {neuron.threshold} is outside [0, {THRESHOLD_MAX}]")
        if not node.connections:
            raise NetError(f"{where} has no connections")
        for connection in node.connections:
            if connection.source not in seen:
                raise NetError(
                    f"{where}: connects from '{connection.source}', which is not an earlier node"
                )
            link = f"{where}, connection from '{connection.source}'"
            connection.check_against(self.shape_of(connection.source), node.shape, link)
        check_sums(node, self.input_bits, self.timesteps)


def worst_case_sums(node: Node, input_bits: int = 1) -> tuple[int, int]:
    """Largest possible positive and negative synaptic sum (both >= 0) over all inputs."""
    positive = np.zeros(1, np.int64)
    negative = np.zeros(1, np.int64)
    for connection in node.connections:
        largest = (1 << input_bits) - 1 if connection.source == INPUT else 1
        weight = connection.effective_weight() * largest
        if connection.kind == "identity":
            axes: tuple[int, ...] = ()
        elif connection.kind == "conv_transpose":
            # Per output channel of each group; a bound, since not every tap meets at one output.
            weight = weight.reshape(connection.groups, -1, *weight.shape[1:])
            axes = (1, 3, 4)
        else:
            axes = tuple(range(1, weight.ndim))
        up = np.maximum(weight, 0).sum(axis=axes).reshape(-1)
        down = np.maximum(-weight, 0).sum(axis=axes).reshape(-1)
        if up.size != positive.size and min(up.size, positive.size) > 1:
            # A dense and a convolution into one node: per neuron against per channel.
            up, down = up.max(keepdims=True), down.max(keepdims=True)
            positive, negative = positive.max(keepdims=True), negative.max(keepdims=True)
        positive = positive + up
        negative = negative + down
    return int(positive.max()), int(negative.max())


def check_sums(node: Node, input_bits: int, timesteps: int) -> None:
    """Raise NetError unless no synaptic sum or potential of the node can wrap or clip.

    Raises:
        NetError: with the node, what is too large, the limit and the value.
    """
    if node.sum_bound is not None:
        positive = negative = node.sum_bound
    else:
        positive, negative = worst_case_sums(node, input_bits)
    neuron, bias = node.neuron, int(np.abs(node.bias).max())
    hint = "use a smaller gain for this node, or give it a measured sum_bound"

    def check(value: float, what: str) -> None:
        if value > SUM_MAX:
            raise NetError(
                f"node '{node.name}': {what} can reach {value:.0f}, the limit is {SUM_MAX}", hint
            )

    grow_u = _gain_over_time(neuron.current_decay, timesteps)
    grow_v = _gain_over_time(neuron.voltage_decay, timesteps)
    check(positive * grow_u, "the positive synaptic sum")
    check(negative * grow_u, "the negative synaptic sum")
    check((negative * grow_u + bias) * grow_v, "the negative potential")
    if neuron.is_readout:
        check((positive + bias) * timesteps, "the readout's running sum")


def _gain_over_time(decay: int, timesteps: int) -> float:
    """Largest sum of a constant 1 under this decay: geometric series, or T without any decay."""
    return min(DECAY_ONE / decay, timesteps) if decay else timesteps
