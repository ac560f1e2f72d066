"""A net laid out for the kernels: weights, reach tables, fan-outs and states, made once.

Shapes, strides and types are fixed here, so that nothing is checked or allocated in a timestep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.kernels import scatter, update
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
        self.target_rows = to_hwc(np.arange(int(np.prod(target))).reshape(target)).reshape(-1)
        if connection.kind == "dense":
            # A dense layer is a 1x1 convolution of one pixel with C*H*W channels, in H W C order.
            rows = self.target_rows
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
