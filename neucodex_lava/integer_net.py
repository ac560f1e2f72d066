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

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.connection import (
    EXPONENT_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
    Connection,
    ConnectionKind,
    IntArray,
    Shape,
)
from neucodex_lava.errors import NetError

__all__ = [
    "IntegerNet",
    "Node",
    "Neuron",
    "READOUT",
    "Connection",
    "ConnectionKind",
    "Shape",
    "IntArray",
    "check_sums",
    "worst_case_sums",
    "INPUT",
    "DECAY_ONE",
    "STATE_SHIFT",
    "WEIGHT_MIN",
    "WEIGHT_MAX",
    "EXPONENT_MAX",
    "BIAS_MIN",
    "BIAS_MAX",
    "THRESHOLD_MAX",
    "SUM_MAX",
    "INPUT_BITS_MAX",
]

INPUT = "input"
"""Name that a connection uses for the network's input."""

DECAY_ONE = 4096
"""A decay of 4096 forgets everything from one timestep to the next; 0 forgets nothing."""
STATE_SHIFT = 6
"""Synaptic input, bias and threshold are shifted left by this many bits inside the neuron."""
BIAS_MIN, BIAS_MAX = -4096, 4095
THRESHOLD_MAX = 131_071
SUM_MAX = 131_071
"""Largest synaptic sum that neither wraps nor clips in a 24-bit state (2^17 - 1)."""
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

    def fingerprint(self) -> str:
        """sha256 of everything that gives the node its spikes: neuron, bias, weights, geometry."""
        digest = hashlib.sha256(repr((self.name, self.shape, self.neuron)).encode())
        digest.update(self.bias.astype("<i4").tobytes())
        for connection in self.connections:
            digest.update(repr(sorted(connection.attributes().items())).encode())
            digest.update(repr(connection.weight.shape).encode())
            digest.update(connection.weight.astype("<i2").tobytes())
        return digest.hexdigest()

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

    def fingerprint(self) -> str:
        """sha256 of everything that gives the network its spikes; wherever it is cut."""
        whole = (self.input_shape, self.timesteps, self.input_bits)
        parts = [repr(whole), *(node.fingerprint() for node in self.nodes)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

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
