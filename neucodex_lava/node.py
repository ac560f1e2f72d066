"""A node of an IntegerNet: its neurons, their limits, and how large its sums can get.

Per neuron and timestep t = 1..T, at the start of a sample u[0] = 0 and v[0] = initial << 6, ``>>``
rounding towards zero::

    a[t] = sum over connections and incoming spikes of w * 2^e
    u[t] = wrap24((u[t-1] * (4096 - current_decay) >> 12) + (a[t] << 6))
    v[t] = clip24((v[t-1] * (4096 - voltage_decay) >> 12) + u[t] + (bias << 6))
    s[t] = v[t] > (threshold << 6)
    v[t] = 0 where s[t], or v[t] - (threshold << 6) where the neuron resets by subtraction
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.connection import Connection, Shape
from neucodex_lava.errors import NetError

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


Reset = Literal["zero", "subtract"]
"""What a spike leaves of the potential: nothing, or what exceeds the threshold ("soft reset")."""


@dataclass(frozen=True, repr=False)
class Neuron:
    """A current-based leaky integrate-and-fire neuron.

    Attributes:
        current_decay: iDecay, 0..4096; 4096 means the current has no memory.
        voltage_decay: vDecay, 0..4096; the paper's tau = 2 is 2048.
        threshold: 0..131071, in units of the weights (before the shift by 6 bits).
        reset: ``zero``, or ``subtract`` (converted networks: Bu et al., QCFS, 2022).
        initial: potential before the first timestep, in units of the threshold's and within
            +-threshold.
    """

    current_decay: int = DECAY_ONE
    voltage_decay: int = 2048
    threshold: int = 128
    reset: Reset = "zero"
    initial: int = 0

    def __repr__(self) -> str:
        # Part of fingerprints: `reset` and `initial` came later, and show only where they are used.
        text = f"current_decay={self.current_decay}, voltage_decay={self.voltage_decay}"
        text += f", threshold={self.threshold}"
        if not self.is_stock:
            text += f", reset={self.reset!r}, initial={self.initial}"
        return f"Neuron({text})"

    @property
    def why_not_stock(self) -> str:
        """What stock Lava's neuron, which resets to 0 and starts there, does not do; "" if it does."""
        if self.reset == "subtract":
            return "it resets by subtracting its threshold (soft reset)"
        return "it starts at an initial potential" if self.initial else ""

    @property
    def is_stock(self) -> bool:
        """Whether stock Lava has it, and so a chip: a reset to 0, from a potential of 0."""
        return not self.why_not_stock

    @property
    def is_readout(self) -> bool:
        """An integrator that neither decays nor spikes: its potential is the running sum S_t."""
        return (
            self.current_decay == DECAY_ONE
            and self.voltage_decay == 0
            and self.threshold == THRESHOLD_MAX
        )

    def check(self, where: str) -> None:
        """Raise NetError unless every value is in its range; `where` names the node."""
        if not (0 <= self.current_decay <= DECAY_ONE and 0 <= self.voltage_decay <= DECAY_ONE):
            raise NetError(f"{where}: decays {self} are outside [0, {DECAY_ONE}]")
        if not 0 <= self.threshold <= THRESHOLD_MAX:
            raise NetError(f"{where}: threshold {self.threshold} is outside [0, {THRESHOLD_MAX}]")
        if self.reset not in get_args(Reset):
            raise NetError(f"{where}: reset '{self.reset}' is not one of zero, subtract")
        if abs(self.initial) > self.threshold:
            raise NetError(
                f"{where}: initial potential {self.initial} is outside the threshold's"
                f" +-{self.threshold}"
            )
        if self.is_readout and not self.is_stock:
            raise NetError(f"{where}: a readout has neither a reset nor an initial potential")


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
    below = max(0, -neuron.initial)
    check((negative * grow_u + bias) * grow_v + below, "the negative potential")
    if neuron.is_readout:
        check((positive + bias) * timesteps, "the readout's running sum")
    if neuron.reset == "subtract":
        # A spike takes one threshold away, so what a timestep brings beyond that stays, and adds up
        # over time: v[t] <= threshold + input + (input - threshold) * (what is left of 1, summed).
        brings = positive * grow_u + bias
        beyond = max(0.0, brings - neuron.threshold) * (grow_v - 1)
        check(
            neuron.threshold + brings + beyond,
            "the potential of a neuron that resets by subtraction",
        )


def _gain_over_time(decay: int, timesteps: int) -> float:
    """Largest sum of a constant 1 under this decay: geometric series, or T without any decay."""
    return min(DECAY_ONE / decay, timesteps) if decay else timesteps
