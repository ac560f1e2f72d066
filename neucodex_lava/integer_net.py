"""IntegerNet: a whole spiking network in integers, from input to readout, with one cut.

This is the hinge of the project: SLAYER models are quantised into one, NetX files are written from
one and read back into one, and the Lava processes and the torch executor are built from one. What
its numbers mean, to the last bit, is in ``docs/semantics.md`` and, per neuron, in `node`.

Only numpy is needed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

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
from neucodex_lava.node import (
    BIAS_MAX,
    BIAS_MIN,
    DECAY_ONE,
    INPUT,
    INPUT_BITS_MAX,
    READOUT,
    STATE_SHIFT,
    SUM_MAX,
    THRESHOLD_MAX,
    Neuron,
    Node,
    Reset,
    check_sums,
    worst_case_sums,
)

__all__ = [
    "IntegerNet",
    "Node",
    "Neuron",
    "Reset",
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


@dataclass(frozen=True, eq=False)
class IntegerNet:
    """A whole network, input to readout, and where it is cut.

    Attributes:
        input_shape: (C, H, W).
        nodes: in an order in which sources come first.
        cut: nodes before it run on the edge, the others in the cloud; 0 sends the encoded input,
            ``len(nodes)`` is edge-only. Side readouts before it belong to the edge as well.
        timesteps: T_max, the number of timesteps the readout's limit holds for.
        input_bits: 1 for spikes; b for graded input of unsigned b-bit integers.
        end: name of the node that all others lead to. "", the last one, but for a part of a network
            that was cut off in front of a side readout.

    Side readouts ("exit heads") are readouts that nothing connects from, other than the end; they
    answer on the way, and pass nothing on.

    Raises:
        NetError: when a rule or a limit is broken; it names the node, the limit and the value.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    cut: int
    timesteps: int
    input_bits: int = 1
    end: str = ""
    _by_name: Mapping[str, Node] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(int(n) for n in self.input_shape))
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "_by_name", {node.name: node for node in self.nodes})
        if self.nodes and self.end == self.nodes[-1].name:
            object.__setattr__(self, "end", "")
        self._check()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntegerNet):
            return NotImplemented
        mine = (self.input_shape, self.cut, self.timesteps, self.input_bits, self.end)
        theirs = (other.input_shape, other.cut, other.timesteps, other.input_bits, other.end)
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
    def last(self) -> Node:
        """The node that all others lead to, but for side readouts: the end."""
        return self._by_name[self.end] if self.end else self.nodes[-1]

    @cached_property
    def exit_heads(self) -> tuple[Node, ...]:
        """The side readouts, in order, wherever the cut is."""
        heard = {c.source for _, c in self.connections()} | {self.last.name}
        return tuple(n for n in self.nodes if n.neuron.is_readout and n.name not in heard)

    @property
    def output(self) -> str:
        """Name of the node whose spikes cross the cut; of an uncut net the end, at cut 0 the input."""
        return self.output_at(self.cut)

    def output_at(self, cut: int) -> str:
        """As `output`, were the network cut there."""
        return self._outputs[cut]

    @cached_property
    def _outputs(self) -> tuple[str, ...]:
        """For every cut, the last node before it that is no side readout."""
        heads = {head.name for head in self.exit_heads}
        names = [INPUT]
        for node in self.nodes:
            names.append(names[-1] if node.name in heads else node.name)
        return tuple(names)

    @property
    def code_shape(self) -> Shape:
        """Shape (C, H, W) of what crosses the cut at each timestep."""
        return self.shape_of(self.output)

    @property
    def code_bits(self) -> int:
        """Bits per value that crosses the cut: 1, or the input's bits when the cut is 0."""
        return self.input_bits if self.cut == 0 else 1

    @property
    def ends_in_readout(self) -> bool:
        """Whether the end integrates logits rather than spiking."""
        return self.last.neuron.is_readout

    @property
    def is_chain(self) -> bool:
        """Every edge node has one connection, from the node before it, and the last one sends."""
        before = INPUT
        for node in self.edge_nodes:
            if len(node.connections) != 1 or node.connections[0].source != before:
                return False
            before = node.name
        return before == self.output

    @cached_property
    def depth(self) -> dict[str, int]:
        """Longest path from the input in connections; the input is 0, the first node 1."""
        depth = {INPUT: 0}
        for node in self.nodes:
            depth[node.name] = 1 + max(depth[c.source] for c in node.connections)
        return depth

    def legal_cuts(self) -> list[int]:
        """Every cut across which nothing but one node's output (or the whole input's) passes."""
        place = {INPUT: 0} | {node.name: i + 1 for i, node in enumerate(self.nodes)}
        crossing: set[str] = set()
        legal = [len(self.nodes)]
        for cut in reversed(range(len(self.nodes))):
            crossing |= {c.source for c in self.nodes[cut].connections}
            crossing = {source for source in crossing if place[source] <= cut}
            if crossing == {self.output_at(cut)} and (cut == 0 or crossing != {INPUT}):
                legal.append(cut)
        return legal[::-1]

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
        return replace(self, nodes=self.edge_nodes, end=self.output)

    def segments(self) -> list[IntegerNet]:
        """The cascade that the exit heads make of the whole network, wherever it is cut.

        Segment i holds the nodes behind the node that exit head i - 1 listens to, up to the one that
        head i listens to, and head i; its input are the spikes of the former. It is cut at its end,
        and sends what the next one takes. The last one holds what is behind the last head, if anything.

        Raises:
            NetError: a head that listens to no single node, to one whose output is not all that passes
                there, or to one that is not behind the head before it.
        """
        heads = {head.name for head in self.exit_heads}
        body = tuple(node for node in self.nodes if node.name not in heads)
        bare = replace(self, nodes=body, cut=len(body), end="")
        place = {node.name: i + 1 for i, node in enumerate(body)}
        boundaries = set(bare.legal_cuts()) - {0}
        parts: list[IntegerNet] = []
        start = 0
        for head in self.exit_heads:
            sources = {c.source for c in head.connections}
            stop = place.get(next(iter(sources)), 0) if len(sources) == 1 else 0
            if stop not in boundaries or stop <= start:
                raise NetError(
                    f"exit head '{head.name}' makes no segment: it listens to"
                    f" {' and '.join(sorted(sources))}, which is no place to cut the network, or not"
                    " behind the exit before it"
                )
            parts.append(self._segment(body[:start], body[start:stop], head))
            start = stop
        if start < len(body):
            parts.append(self._segment(body[:start], body[start:]))
        return parts

    def _segment(
        self, before: tuple[Node, ...], nodes: tuple[Node, ...], *heads: Node
    ) -> IntegerNet:
        """These nodes as a net of their own, whose input is what the last node before them sends."""
        source = before[-1].name if before else INPUT
        alone = tuple(
            replace(
                node,
                connections=tuple(
                    replace(c, source=INPUT) if c.source == source else c for c in node.connections
                ),
            )
            for node in (*nodes, *heads)
        )
        bits = 1 if before else self.input_bits
        shape = self.shape_of(source)
        return IntegerNet(shape, alone, len(alone), self.timesteps, bits, nodes[-1].name)

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
        self._check_end()
        if self.cut not in self.legal_cuts():
            raise NetError(
                f"the network cannot be cut at {self.cut}: more than one node's output would cross",
                f"legal cuts: {self.legal_cuts()}",
            )

    def _check_end(self) -> None:
        if self.end not in ("", *self._by_name):
            raise NetError(f"the network's end '{self.end}' is none of its nodes")
        if self.output_at(len(self.nodes)) != self.last.name:
            raise NetError(
                f"node '{self.output_at(len(self.nodes))}' lies behind the network's end '{self.end}'"
            )

    def _check_node(self, node: Node, seen: set[str]) -> None:
        where = f"node '{node.name}'"
        if len(node.shape) != 3 or min(node.shape) < 1:
            raise NetError(f"{where}: shape {node.shape} is not (C, H, W) of positive sizes")
        if node.bias.shape != (node.shape[0],):
            raise NetError(f"{where}: bias {node.bias.shape} is not one per channel")
        node.neuron.check(where)
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
