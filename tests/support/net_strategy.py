"""Hypothesis strategy for small whole networks and their input, at the corners of the semantics.

Borders, strides, padding, dilation, groups, dense, identity and projection joins, transposed
convolutions, delays, exponents, graded input, every decay, thresholds that a potential meets exactly or
misses by one, clipping potentials, wrapping currents, soft resets, initial potentials, exit heads.
Geometry is drawn, so that failures shrink; numbers come from a drawn seed. Tests only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from plain import after_reset, run_plain

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import (
    READOUT,
    SUM_MAX,
    THRESHOLD_MAX,
    Connection,
    IntegerNet,
    Neuron,
    Node,
    Shape,
    check_sums,
)

STATE_MAX = 1 << 23
WIDE = 35
"""Output channels that fill more than one vector of the kernels, on small maps."""
TIE = -1
"""Threshold to be replaced by a potential that the node reaches, or one beside it."""
AXES = [
    (k, s, p, d)
    for k in (1, 2, 3) for s in (1, 2, 3) for p in (0, 1, 2) for d in (1, 2) if k > 1 or d == 1
]  # fmt: skip
DECAYS = st.one_of(
    st.sampled_from([4096, 2048]), st.sampled_from([0, 1, 3072, 4095]), st.integers(0, 4096)
)
THRESHOLDS = st.one_of(
    st.just(TIE),
    st.integers(0, 300),
    st.integers(4096, THRESHOLD_MAX),
    st.sampled_from([4096, THRESHOLD_MAX]),
)
BEYOND_STOCK = st.one_of(
    *[st.just(("zero", 0.0))] * 2,
    st.tuples(
        st.sampled_from(["subtract", "subtract", "zero"]), st.sampled_from([0, 0.5, 1, -0.3, -1])
    ),
)
"""A reset, and an initial potential in units of the threshold."""
LARGEST_KEPT = 60_000
"""Threshold of a soft reset, and initial potential, that leave room for a bias in 24 bits."""
DELAYS = st.sampled_from([0, 0, 1, 2, 7, 62])


@dataclass
class _Builder:
    """Draws one network.

    Attributes:
        draw: of hypothesis.
        rng: for the numbers.
        stock: only what the `reference` backend can express.
        shapes: (C, H, W) of the input and the nodes so far.
        bits: of the input.
        heavy: weights near their limit, so that sums reach the ends of the 24-bit range.
        delayed: whether connections may be delayed.
        slayer: only neurons that SLAYER has: they reset to 0, and start there.
    """

    draw: Any
    rng: np.random.Generator
    stock: bool
    shapes: dict[str, Shape]
    bits: int
    heavy: bool
    delayed: bool
    slayer: bool = False

    def delay(self) -> np.ndarray:
        """A delay of all spikes."""
        return np.array(self.draw(DELAYS) if self.delayed else 0)

    def weights(self, *size: int) -> tuple[np.ndarray, int]:
        """Weights and their exponent."""
        most = self.draw(st.sampled_from([127] if self.heavy else [20, 20, 127]))
        exponent = self.draw(st.sampled_from([6, 7] if self.heavy else [0, 0, 0, 1, 2]))
        values = self.rng.integers(-most - 1, most + 1, size)
        return 2 * values * (self.rng.random(size) < 0.8), exponent

    def source(self) -> str:
        """A source: more often a late one."""
        names = list(self.shapes)
        return self.draw(st.sampled_from([*names, names[-1], names[-1]]))

    def conv(self, source: str, target: Shape | None = None, most: int = 5) -> Connection | None:
        """A convolution, to any shape or to this one; None where there is none."""
        shape = self.shapes[source]
        axes: list[tuple[int, int, int, int]] = []
        for n in (1, 2):
            fits: list[tuple[int, int, int, int]] = []
            for k, s, p, d in AXES:
                size = (shape[n] + 2 * p - d * (k - 1) - 1) // s + 1
                if size == target[n] if target else 1 <= size <= most:
                    fits.append((k, s, p, d))
            if not fits:
                return None
            axes.append(self.draw(st.sampled_from(fits)))
        groups = self.draw(st.sampled_from([g for g in (1, 2, 3) if shape[0] % g == 0]))
        if target is not None and target[0] % groups:
            groups = 1
        (ky, sy, py, dy), (kx, sx, px, dx) = axes
        out = target[0] if target else groups * self.draw(st.sampled_from([1, 2, 1, 2, WIDE]))
        if out >= WIDE and target is None and shape[1] * shape[2] > 9:
            out = groups
        weight, exponent = self.weights(out, shape[0] // groups, ky, kx)
        return Connection(
            source, "conv", weight, exponent, (sy, sx), (py, px), (dy, dx), groups=groups,
            delay=self.delay(),
        )  # fmt: skip

    def dense(self, source: str, neurons: int) -> Connection:
        """A dense connection, delayed as a whole, per source or per target neuron."""
        size = int(np.prod(self.shapes[source]))
        weight, exponent = self.weights(neurons, size)
        shape = self.draw(st.sampled_from([(), (), (1, size), (neurons, 1)]))
        delay = self.delay()
        if shape and self.delayed:
            delay = self.rng.choice(np.array([0, delay, 1, 3]), shape)
        return Connection(source, "dense", weight, exponent, delay=delay)

    def conv_transpose(self, source: str) -> Connection:
        """An upsampling connection."""
        shape = self.shapes[source]
        stride = self.draw(st.sampled_from([(1, 1), (2, 2), (2, 1)]))
        weight, exponent = self.weights(shape[0], 2, *self.draw(st.sampled_from([(2, 2), (3, 2)])))
        return Connection(
            source, "conv_transpose", weight, exponent, stride, (0, 0),
            self.draw(st.sampled_from([(1, 1), (1, 2)])),
            delay=self.delay(),
        )  # fmt: skip

    def first(self) -> tuple[Connection, Shape]:
        """A node's first connection, which gives it its shape."""
        source = self.source()
        shape = self.shapes[source]
        kinds = ["conv", "conv", "conv", "dense"]
        if not self.stock and shape[1] * shape[2] <= 9:
            kinds.append("conv_transpose")
        kind = self.draw(st.sampled_from(kinds))
        link = self.conv(source) if kind == "conv" else None
        if kind == "conv_transpose":
            link = self.conv_transpose(source)
        if link is None:
            out = self.draw(st.sampled_from([(1, 1, 1), (5, 1, 1), (2, 2, 1), (1, 2, 3)]))
            return self.dense(source, int(np.prod(out))), out
        target = link.output_shape(shape)
        assert target is not None
        return link, target

    def joined(self, target: Shape) -> Connection:
        """A further connection into a node: identity, projection or dense."""
        same = [name for name, shape in self.shapes.items() if shape == target]
        if same and self.draw(st.booleans()):
            source = self.draw(st.sampled_from(same))
            weight, exponent = self.weights(1)
            return Connection(source, "identity", weight[0], exponent, delay=self.delay())
        source = self.source()
        link = self.conv(source, target) if self.draw(st.integers(0, 3)) else None
        return link or self.dense(source, int(np.prod(target)))

    def neuron(self) -> Neuron:
        """Any neuron; the current of those in Lava processes always decays."""
        current = self.draw(st.one_of(st.just(4096), DECAYS))
        if self.stock:
            current = max(current, 1)
        neuron = Neuron(current, self.draw(DECAYS), self.draw(THRESHOLDS))
        if self.slayer:
            return neuron
        reset, initial = self.draw(BEYOND_STOCK)
        return _with_threshold(replace(neuron, reset=reset), neuron.threshold, initial)

    def exit_head(self, name: str, timesteps: int) -> Node:
        """A readout that nothing connects from."""
        head = self.node(name, timesteps, READOUT)
        del self.shapes[name]
        return head

    def node(self, name: str, timesteps: int, neuron: Neuron | None = None) -> Node:
        """A node of one to three connections."""
        link, shape = self.first()
        links = (link, *(self.joined(shape) for _ in range(self.draw(st.integers(0, 2)))))
        most = self.draw(st.sampled_from([0, 40, 40, 4095]))
        bias = self.rng.integers(-most - (most > 0), most + 1, shape[0])
        neuron = neuron or self.neuron()
        kept = _with_threshold(
            neuron, max(neuron.threshold, 0), 0.0 if neuron.threshold < 0 else None
        )
        node = _within_limits(Node(name, shape, kept, bias, links), self.bits, timesteps)
        self.shapes[name] = shape
        return replace(node, neuron=neuron)


def _with_threshold(neuron: Neuron, threshold: int, initial: float | None = None) -> Neuron:
    """The neuron with another threshold, and an initial potential of so many of it."""
    if neuron.reset == "subtract":
        threshold = min(threshold, LARGEST_KEPT)
    neuron = replace(neuron, threshold=threshold)
    if initial is None:
        return neuron
    at = int(min(max(initial * threshold, -LARGEST_KEPT), LARGEST_KEPT))
    return replace(neuron, initial=0 if threshold < 0 or neuron.is_readout else at)


def _within_limits(node: Node, bits: int, timesteps: int) -> Node:
    """The node; with the largest possible measured bound where its worst case is out of reach."""
    try:
        check_sums(node, bits, timesteps)
    except NetError:
        low, high = 0, SUM_MAX
        while low < high:
            middle = (low + high + 1) // 2
            try:
                check_sums(replace(node, sum_bound=middle), bits, timesteps)
                low = middle
            except NetError:
                high = middle - 1
        return replace(node, sum_bound=low)
    return node


def _with_ties(
    net: IntegerNet, ties: set[str], inputs: np.ndarray, beside: list[int]
) -> IntegerNet:
    """The net with each of these nodes' thresholds at, or one beside, a potential it reaches."""
    for i, node in enumerate(net.nodes):
        if node.name not in ties:
            continue
        # A high threshold, so that the potentials are those of neurons that have not fired; one
        # below the highest, which could make a readout of it.
        quiet = replace(node.neuron, threshold=THRESHOLD_MAX - 1, reset="zero", initial=0)
        calm = replace(node, neuron=quiet)
        nodes = (*net.nodes[:i], calm)
        prefix = replace(net, nodes=nodes, cut=i + 1, end="")
        reached = np.unique(run_plain(prefix, inputs)[1][node.name])
        reached = reached[(reached > 0) & (reached < THRESHOLD_MAX << 6)]
        whole = reached[reached % 64 == 0]
        reached = whole if whole.size else reached
        level = int(reached[len(reached) // 2]) >> 6 if reached.size else 0
        threshold = min(max(level + beside[i], 0), THRESHOLD_MAX - 1)
        met = replace(node, neuron=_with_threshold(node.neuron, threshold))
        if met.neuron.reset == "subtract":
            # What adds up over time hangs on the threshold.
            met = _within_limits(replace(met, sum_bound=None), net.input_bits, net.timesteps)
        net = net.with_nodes(met)
    return net


@st.composite
def cases(draw: Any, *, stock: bool = False, slayer: bool = False) -> tuple[IntegerNet, np.ndarray]:
    """A network cut at its end, and input uint8 (N, C, H, W, T), T at most the net's.

    Args:
        draw: given by hypothesis.
        stock: only what Lava's `reference` backend can express.
        slayer: only neurons that SLAYER has, and no exit heads.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    timesteps, samples = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    bits = draw(st.sampled_from([1, 1, 1, 2, 8]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    heavy = draw(st.sampled_from([False, False, False, True]))
    delayed = draw(st.booleans())
    builder = _Builder(draw, rng, stock, {"input": shape}, bits, heavy, delayed, slayer)
    spare = draw(st.sampled_from([0, 0, 1]))
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 4))):
        nodes.append(builder.node(f"n{i}", timesteps + spare))
        if not slayer and draw(st.integers(0, 4)) == 0:
            nodes.append(builder.exit_head(f"exit{i}", timesteps + spare))
    if draw(st.booleans()):
        builder.heavy = draw(st.sampled_from([False, True]))
        nodes.append(builder.node("readout", timesteps + spare, READOUT))
    end = [node.name for node in nodes if not node.name.startswith("exit")][-1]
    ties = {node.name for node in nodes if node.neuron.threshold == TIE}
    floors = [
        replace(n, neuron=_with_threshold(n.neuron, max(n.neuron.threshold, 0))) for n in nodes
    ]
    rate = draw(st.sampled_from([0.3, 0.7, 0.1, 1.0]))
    values = rng.integers(1, 1 << bits, (samples, *shape, timesteps))
    inputs = (values * (rng.random(values.shape) < rate)).astype(np.uint8)
    net = IntegerNet(shape, tuple(floors), len(floors), timesteps + spare, bits, end)
    beside = draw(
        st.lists(st.sampled_from([0, 0, -1, 1]), min_size=len(nodes), max_size=len(nodes))
    )
    return _with_ties(net, ties, inputs, beside), inputs


@dataclass(frozen=True)
class Expected:
    """What the plain interpreter says.

    Attributes:
        spikes, potentials, currents: of each node, (N, C, H, W, T); potentials after reset.
        ledger: the counts.
        overflow: whether a current wrapped, a readout clipped or fired, or a potential clipped of
            which a soft reset keeps a part: a run must fail.
        corners: what the case holds, of ``tie``, ``clip``, ``high threshold``, ...
    """

    spikes: dict[str, np.ndarray]
    potentials: dict[str, np.ndarray]
    currents: dict[str, np.ndarray]
    ledger: Any
    overflow: bool
    corners: frozenset[str]


def expect(net: IntegerNet, inputs: np.ndarray) -> Expected:
    """Run the plain interpreter."""
    currents: dict[str, np.ndarray] = {}
    unclipped: dict[str, np.ndarray] = {}
    spikes, before, ledger = run_plain(net, inputs, currents, unclipped)
    corners: set[str] = set()
    overflow = False
    for node in net.nodes:
        u, v, level = currents[node.name], before[node.name], node.neuron.threshold << 6
        wraps = bool(((u > STATE_MAX) | (u <= -STATE_MAX)).any())
        beyond = node.neuron.is_readout and bool(((v > level) | (v < -level)).any())
        soft = node.neuron.reset == "subtract"
        lost = soft and bool((np.abs(unclipped[node.name]) >= STATE_MAX).any())
        # The limits keep nets from it whose worst case is known.
        assert not lost or node.sum_bound is not None, f"{node.name} clips in spite of its limits"
        overflow |= wraps or beyond or lost
        left = before[node.name] - (node.neuron.threshold << 6)
        found = {
            "tie": (v == level).any() and level > 0,
            "just above": (v == level + 64).any(),
            "clip": (np.abs(v) == STATE_MAX - 1).any() and not beyond,
            "wrap": wraps,
            "readout out of range": beyond,
            "fires": spikes[node.name].any() and not spikes[node.name].all(),
            "high threshold fires": node.neuron.threshold > 4096 and spikes[node.name].any(),
            "join": len(node.connections) > 1,
            "delay": any(c.longest_delay for c in node.connections),
            "negative": (v < 0).any(),
            "wide": node.shape[0] >= WIDE,
            "soft reset": soft and spikes[node.name].any(),
            "a spike of what was kept": soft
            and ((left > level) & (spikes[node.name] != 0))[..., :-1].any(),
            "soft out of range": lost,
            "initial": node.neuron.initial != 0,
            "exit head": node in net.exit_heads,
            "ends before its last node": node.name == net.end,
        }
        corners |= {name for name, here in found.items() if here}
        corners |= {c.kind for c in node.connections}
    after = after_reset(net, spikes, before)
    return Expected(spikes, after, currents, ledger, overflow, frozenset(corners))
