"""Event-driven integer kernels in Numba: spikes in, synaptic sums, neuron update, counts.

Every kind of connection is one kernel, because all of them are the same scatter: an active source
neuron adds a row of weights to the targets it reaches, and where it reaches is a table per axis and
kernel tap, made once. Values, accumulators and spikes are stored H W C, weights (in, ky, kx, out), so
that the innermost loop runs over output channels that lie next to each other in memory.

The neuron is SEMANTICS's, to the last bit; ``docs/semantics.md``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neucodex_lava.integer_net import (
    DECAY_ONE,
    STATE_SHIFT,
    Connection,
    IntegerNet,
    Node,
    Shape,
    worst_case_sums,
)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

STATE_MAX = 1 << 23
"""Half the range of a 24-bit state: currents wrap, potentials are clipped there."""
SPIKES_IN, SYN_OPS, SYN_OPS_NONZERO, MACS = range(4)
"""Columns of a connection's counts, in the order of `energy.ledger.CONNECTION_COUNTS`."""


@njit(cache=True, nogil=True)
def scatter(
    values: Any,
    weight: Any,
    target_y: Any,
    target_x: Any,
    in_per_group: int,
    fan_out: Any,
    fan_out_nonzero: Any,
    graded: bool,
    acc: Any,
    counts: Any,
) -> None:
    """Add every active source neuron's weights to the synaptic sums, and count the work.

    Args:
        values: spikes or graded values, uint8 (H, W, C).
        weight: w * 2^e, int16 (C, ky, kx, out per group).
        target_y, target_x: target row for (source row, ky) and column for (source column, kx), int32;
            -1 where the tap reaches nothing.
        in_per_group: source channels per group.
        fan_out, fan_out_nonzero: synapses a source neuron reaches, int64 (H, W, C).
        graded: counts go to MACs and values are multiplied.
        acc: synaptic sums, int32 or int64 (H', W', C'), added to.
        counts: int64 (4,): spikes_in, syn_ops, syn_ops_nonzero, macs, added to.
    """
    height, width, channels = values.shape
    taps_y, taps_x, per_group = weight.shape[1], weight.shape[2], weight.shape[3]
    active = 0
    reached = 0
    reached_nonzero = 0
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                value = values[y, x, c]
                if value == 0:
                    continue
                active += 1
                reached += fan_out[y, x, c]
                reached_nonzero += fan_out_nonzero[y, x, c]
                first = (c // in_per_group) * per_group
                for ky in range(taps_y):
                    ty = target_y[y, ky]
                    if ty < 0:
                        continue
                    for kx in range(taps_x):
                        tx = target_x[x, kx]
                        if tx < 0:
                            continue
                        sums = acc[ty, tx, first : first + per_group]
                        row = weight[c, ky, kx]
                        if graded:
                            for o in range(per_group):
                                sums[o] += row[o] * np.int64(value)
                        else:
                            for o in range(per_group):
                                sums[o] += row[o]
    counts[0] += active
    if graded:
        counts[3] += reached
    else:
        counts[1] += reached
        counts[2] += reached_nonzero


@njit(cache=True, nogil=True)
def update(
    acc: Any,
    current: Any,
    potential: Any,
    spikes: Any,
    bias: Any,
    keep_current: int,
    keep_potential: int,
    threshold: int,
    readout: bool,
    overflow: Any,
) -> int:
    """One timestep of all neurons of a node; clears `acc` for the next one.

    Args:
        acc: synaptic sums a[t], int32 or int64 (P, C), set to 0.
        current, potential: u and v, int32 (P, C), updated in place; v is the one after reset.
        spikes: s[t], uint8 (P, C), written.
        bias: shifted left by 6 bits, int64 (C,).
        keep_current, keep_potential: 4096 less the decay.
        threshold: shifted left by 6 bits.
        readout: its potential is the result, so clipping or firing counts as an overflow.
        overflow: int64 (3,): set to (1, index, value >> 6) by the first neuron out of range.

    Returns:
        Number of spikes.
    """
    fired = 0
    for p in range(acc.shape[0]):
        for c in range(acc.shape[1]):
            u = np.int64(current[p, c]) * keep_current
            u = (u >> 12) if u >= 0 else -((-u) >> 12)
            u += np.int64(acc[p, c]) << 6
            acc[p, c] = 0
            exact = u
            out_of_range = u > STATE_MAX or u <= -STATE_MAX
            if u > STATE_MAX:
                u -= 2 * STATE_MAX
            if u <= -STATE_MAX:
                u += 2 * STATE_MAX
            v = np.int64(potential[p, c]) * keep_potential
            v = (v >> 12) if v >= 0 else -((-v) >> 12)
            v += u + bias[c]
            if readout and (v > threshold or v <= -STATE_MAX):
                exact = v
                out_of_range = True
            if out_of_range and overflow[0] == 0:
                overflow[0] = 1
                overflow[1] = p * acc.shape[1] + c
                overflow[2] = exact >> 6
            v = min(max(v, -STATE_MAX + 1), STATE_MAX - 1)
            current[p, c] = u
            if v > threshold:
                spikes[p, c] = 1
                potential[p, c] = 0
                fired += 1
            else:
                spikes[p, c] = 0
                potential[p, c] = v
    return fired


def _targets(connection: Connection, axis: int, n_source: int, n_target: int) -> NDArray[np.int32]:
    """Target position for (source position, kernel tap) along one axis, -1 for none."""
    taps = np.arange(connection.weight.shape[2 + axis])[None, :]
    position = np.arange(n_source)[:, None]
    stride, padding = connection.stride[axis], connection.padding[axis]
    offset = taps * connection.dilation[axis] - padding
    if connection.kind == "conv":
        target, rest = np.divmod(position - offset, stride)
    else:
        target, rest = position * stride + offset, np.zeros((n_source, taps.size), np.int64)
    target = np.where((rest == 0) & (target >= 0) & (target < n_target), target, -1)
    return np.ascontiguousarray(target, dtype=np.int32)


def to_hwc(array: NDArray[Any]) -> NDArray[Any]:
    """(C, H, W, ...) to contiguous (H, W, C, ...)."""
    return np.ascontiguousarray(np.moveaxis(array, 0, 2))


class Synapses:
    """One connection, laid out for `scatter`; shapes, strides and dtypes are fixed here.

    Args:
        connection: the connection, already checked by its net.
        source: shape (C, H, W) of the values.
        target: shape (C', H', W') of the node.
        graded: whether the values are multi-bit.
    """

    def __init__(
        self, connection: Connection, source: Shape, target: Shape, *, graded: bool
    ) -> None:
        every, nonzero = connection.fan_out(source, target)
        self.graded = graded
        # |w * 2^e| <= 256 * 2^7, which int16 holds.
        weight = connection.effective_weight().astype(np.int16)
        one_to_one = connection.kind == "identity"
        if connection.kind == "dense":
            # A dense layer is a 1x1 convolution of one pixel with C*H*W channels, in H W C order.
            rows = to_hwc(np.arange(int(np.prod(target))).reshape(target)).reshape(-1)
            columns = to_hwc(np.arange(int(np.prod(source))).reshape(source)).reshape(-1)
            self.weight = np.ascontiguousarray(weight[np.ix_(rows, columns)].T)[:, None, None, :]
            self.source_view = (1, 1, columns.size)
            self.target_view = (1, 1, rows.size)
            self.target_y = self.target_x = np.zeros((1, 1), np.int32)
            self.in_per_group = columns.size
        else:
            self.source_view = (source[1], source[2], source[0])
            self.target_view = (target[1], target[2], target[0])
            if one_to_one:
                self.weight = np.full((source[0], 1, 1, 1), weight, np.int16)
                self.target_y = np.arange(source[1], dtype=np.int32)[:, None]
                self.target_x = np.arange(source[2], dtype=np.int32)[:, None]
                self.in_per_group = 1
            else:
                self.weight = _scatter_layout(connection, weight)
                self.target_y = _targets(connection, 0, source[1], target[1])
                self.target_x = _targets(connection, 1, source[2], target[2])
                self.in_per_group = source[0] // connection.groups
        self.fan_out = to_hwc(every).reshape(self.source_view)
        self.fan_out_nonzero = to_hwc(nonzero).reshape(self.source_view)

    def deliver(self, values: Bytes, acc: NDArray[Any], counts: Ints) -> None:
        """Run `scatter` for values of `source_view` into sums of `target_view`."""
        scatter(
            values,
            self.weight,
            self.target_y,
            self.target_x,
            self.in_per_group,
            self.fan_out,
            self.fan_out_nonzero,
            self.graded,
            acc,
            counts,
        )


def _scatter_layout(connection: Connection, weight: NDArray[np.int16]) -> NDArray[np.int16]:
    """Weights as (in, ky, kx, out per group)."""
    if connection.kind == "conv_transpose":
        return np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    out, per_group, ky, kx = weight.shape
    grouped = weight.reshape(connection.groups, out // connection.groups, per_group, ky, kx)
    grouped = grouped.transpose(0, 2, 3, 4, 1)
    return np.ascontiguousarray(grouped.reshape(-1, ky, kx, out // connection.groups))


class Neurons:
    """State and parameters of one node, laid out for `update`.

    Attributes:
        acc: synaptic sums (H, W, C); int32 where they fit whatever the input, else int64.
        potential: v after reset, int32 (H, W, C).
    """

    def __init__(self, node: Node, input_bits: int) -> None:
        channels, height, width = node.shape
        shape = (height, width, channels)
        fits = max(worst_case_sums(node, input_bits)) < 1 << 31
        self.acc: NDArray[Any] = np.zeros(shape, np.int32 if fits else np.int64)
        self.current = np.zeros(shape, np.int32)
        self.potential = np.zeros(shape, np.int32)
        self.overflow = np.zeros(3, np.int64)
        self._bias = node.bias.astype(np.int64) << STATE_SHIFT
        self._keep_current = DECAY_ONE - node.neuron.current_decay
        self._keep_potential = DECAY_ONE - node.neuron.voltage_decay
        self._threshold = node.neuron.threshold << STATE_SHIFT
        self._readout = node.neuron.is_readout
        flat = (height * width, channels)
        self._flat = [a.reshape(flat) for a in (self.acc, self.current, self.potential)]
        self._flat_shape = flat

    def reset(self) -> None:
        """Back to the state at the start of a sample."""
        self.current.fill(0)
        self.potential.fill(0)

    def step(self, spikes: Bytes) -> int:
        """Run `update`, writing uint8 (H, W, C) spikes; returns how many there are."""
        acc, current, potential = self._flat
        return update(
            acc,
            current,
            potential,
            spikes.reshape(self._flat_shape),
            self._bias,
            self._keep_current,
            self._keep_potential,
            self._threshold,
            self._readout,
            self.overflow,
        )


def build(net: IntegerNet) -> tuple[dict[str, Neurons], list[Synapses]]:
    """Neurons per node and synapses per connection, in the ledger's order."""
    neurons = {node.name: Neurons(node, net.input_bits) for node in net.nodes}
    synapses = [
        Synapses(c, net.shape_of(c.source), node.shape, graded=net.is_graded(c))
        for node, c in net.connections()
    ]
    return neurons, synapses
