"""A connection: the synapses that lead from the input or one node to another, and how far each
spike reaches. See `integer_net` for the network they form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import NetError

ConnectionKind = Literal["conv", "conv_transpose", "dense", "identity"]
Shape = tuple[int, int, int]
IntArray = NDArray[np.int64]

WEIGHT_MIN, WEIGHT_MAX = -256, 254
EXPONENT_MAX = 7
DELAY_MAX = 62
"""Longest delay of a spike, in timesteps: what a Loihi 2 axon and Lava's delayed synapses hold."""


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
        delay: uint8, 0..62 timesteps from a spike to its arrival. Shape () for all spikes; a dense
            connection may also have one per source neuron, (1, in), or per target neuron, (out, 1).
            A spike that would arrive after its sample's last timestep is lost.
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
    delay: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((), np.uint8))

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
        delay = np.asarray(self.delay)
        if not np.issubdtype(delay.dtype, np.integer):
            raise NetError(f"{where}: delays are {delay.dtype}, they must be integers")
        if delay.size and (delay.min() < 0 or delay.max() > DELAY_MAX):
            value = delay.min() if delay.min() < 0 else delay.max()
            raise NetError(f"{where}: delay {value} is outside [0, {DELAY_MAX}]")
        if delay.size and (delay == delay.flat[0]).all():
            delay = delay.reshape(-1)[0]
        for name, array, kind in (("weight", weight, np.int16), ("delay", delay, np.uint8)):
            frozen = np.array(array, dtype=kind)
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connection):
            return NotImplemented
        return self.attributes() == other.attributes() and np.array_equal(self.weight, other.weight)

    __hash__ = None  # type: ignore[assignment]

    def attributes(self) -> dict[str, Any]:
        """Everything but the weights, as plain JSON values; ``delay`` only where there is one."""
        delay: dict[str, Any] = {"delay": self.delay.tolist()} if self.longest_delay else {}
        return delay | {
            "source": self.source,
            "kind": self.kind,
            "exponent": self.exponent,
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "output_padding": list(self.output_padding),
            "groups": self.groups,
        }

    @property
    def longest_delay(self) -> int:
        """Largest delay of any spike, in timesteps."""
        return int(self.delay.max())

    @property
    def delays_targets(self) -> bool:
        """Whether each target neuron has a delay of its own: sums wait, not spikes."""
        return self.delay.ndim == 2 and self.delay.shape[1] == 1

    def source_delays(self, source: Shape) -> NDArray[np.uint8]:
        """Timesteps that each source neuron's spikes wait, uint8 of the source's shape (C, H, W)."""
        if self.delays_targets:
            return np.zeros(source, np.uint8)
        if self.delay.ndim:
            return self.delay.reshape(source)
        return np.full(source, self.delay, np.uint8)

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
        self._check_delay(where)
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

    def _check_delay(self, where: str) -> None:
        shapes: tuple[tuple[int, ...], ...] = ((),)
        if self.kind == "dense":
            shapes += (1, self.weight.shape[1]), (self.weight.shape[0], 1)
        if self.delay.shape not in shapes:
            raise NetError(
                f"{where}: delays have shape {self.delay.shape}, possible are"
                f" {' or '.join(str(s) for s in shapes)}"
            )
