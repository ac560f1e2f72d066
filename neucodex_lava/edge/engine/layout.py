"""Synapses laid out for the kernels: weights, reach tables, fan-outs and scratch, made once.

Shapes, strides and types are fixed here, so that nothing is checked or allocated in a timestep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.engine.active import list_active
from neucodex_lava.edge.engine.gather import ROWS_BEFORE_FLUSH, gather
from neucodex_lava.edge.engine.llvm import LANES
from neucodex_lava.edge.engine.neurons import Neurons
from neucodex_lava.edge.engine.reach import sources, targets, windows
from neucodex_lava.edge.engine.scatter import add_identity, scatter
from neucodex_lava.integer_net import Connection, IntegerNet, Shape
from neucodex_lava.workers import Workers

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

CACHE_LINE = 64
SCATTER_ROW_NS, SCATTER_CHANNEL_NS = 3.5, 0.04
"""Measured time to add a row of weights to sums in memory: per row and per output channel, ..."""
GATHER_ROW_NS = 0.7
"""... to partial sums in registers, ..."""
GATHER_RUN_NS = 4.0
"""... to begin a run of a target's sources, mostly a mispredicted branch, ..."""
GATHER_TARGET_NS = 8.0
"""... and to visit a target. Only the choice between two exact ways hangs on them."""


SHARED_FROM_NS = 150_000
"""Work that another thread is worth waking up for."""
ALONE = Workers(1)


def to_hwc(array: NDArray[Any]) -> NDArray[Any]:
    """(C, H, W, ...) to contiguous (H, W, C, ...)."""
    return np.ascontiguousarray(np.moveaxis(array, 0, 2))


def aligned_zeros(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    skip = -raw.ctypes.data % CACHE_LINE
    return raw[skip : skip + size].view(kind).reshape(shape)


class Synapses:
    """One connection, laid out for the kernels.

    Args:
        connection: the connection, already checked by its net.
        source: shape (C, H, W) of the values.
        target: shape (C', H', W') of the node.
        graded: whether the values are multi-bit.
        workers: who shares the work where there is much of it.

    Attributes:
        source_view: shape (H, W * C) of the values given to `deliver`.
        target_view: shape (H', W', C') of the sums.
        target_rows: number of each target neuron in H W C order in C H W order.
        gather_from: active sources from which on targets gather; below, sources scatter.
        share_from: active sources from which on all threads gather.
    """

    def __init__(
        self,
        connection: Connection,
        source: Shape,
        target: Shape,
        *,
        graded: bool,
        workers: Workers = ALONE,
    ) -> None:
        self._workers = workers
        self.graded = graded
        self.target_rows = to_hwc(np.arange(int(np.prod(target))).reshape(target)).reshape(-1)
        self.source_view = (source[1], source[2] * source[0])
        self.target_view = (target[1], target[2], target[0])
        self._identity = connection.kind == "identity"
        if self._identity:
            self._weight = int(connection.effective_weight())
            return
        every, nonzero = connection.fan_out(source, target)
        if connection.kind == "dense":
            # A dense layer is a 1x1 convolution of one pixel with C*H*W channels, in H W C order.
            columns = to_hwc(np.arange(int(np.prod(source))).reshape(source)).reshape(-1)
            weight = connection.weight[np.ix_(self.target_rows, columns)][:, :, None, None]
            connection = Connection(connection.source, "conv", weight, connection.exponent)
            self.source_view, self.target_view = (1, columns.size), (1, 1, self.target_rows.size)
            source, target = (columns.size, 1, 1), (self.target_rows.size, 1, 1)
        channels, height, width = source
        self._fan_out = every.reshape(source)[0].astype(np.int32)
        self._fan_out_nonzero = to_hwc(nonzero).reshape(self.source_view).astype(np.int32)
        self._pixel_of = np.repeat(np.arange(width, dtype=np.int32), channels)
        self._start = np.zeros(height * width + 1, np.int64)
        self._index = np.zeros(height * width * channels, np.int32)
        self._target_y, self._target_x = (
            targets(connection, axis, source[1 + axis], target[1 + axis]) for axis in (0, 1)
        )
        self._source_y = sources(connection, 0, height, target[1])
        self._windows = windows(connection, source, target[2])
        self._in_per_group = channels // connection.groups
        self._out_per_group = target[0] // connection.groups
        self._scale = 2 << connection.exponent
        self._weights = _lay_out(connection, self._out_per_group)
        self._items = len(self._weights) * target[1]
        self._limit = ROWS_BEFORE_FLUSH[graded]
        # A row for each thread, so far apart that no cache line is written by two.
        self._parts = aligned_zeros((workers.threads, 64), np.int32 if graded else np.int16)
        self._parts = self._parts[:, : self._weights.shape[-1]]
        self._estimate(int(every.sum()), connection.groups)

    def _estimate(self, synapses: int, groups: int) -> None:
        """Set what the ways cost: from which activity on to gather, from which on with all threads."""
        blocks, taps, _, lanes = self._weights.shape
        pixels = self.target_view[0] * self.target_view[1]
        runs = taps * self._windows.shape[1]
        visits_ns = blocks * pixels * (GATHER_TARGET_NS + runs * GATHER_RUN_NS)
        # Rows of weights that one active source reaches, on average.
        rows = blocks * synapses / (self._index.size * self._out_per_group)
        saved_ns = SCATTER_ROW_NS + lanes * SCATTER_CHANNEL_NS - GATHER_ROW_NS
        never = groups > 1 or rows == 0
        self.gather_from = float("inf") if never else visits_ns / (rows * saved_ns)
        beyond_ns = SHARED_FROM_NS - visits_ns
        self.share_from = float("inf") if never else beyond_ns / (rows * GATHER_ROW_NS)
        if self._workers.threads == 1:
            self.share_from = float("inf")

    def warm_up(self, acc: NDArray[Any]) -> None:
        """Compile or load every kernel that `deliver` may call; leaves all as it was."""
        blank = np.zeros(self.source_view, np.uint8)
        self.deliver(blank, acc, np.zeros(4, np.int64))
        if not self._identity:
            self._scatter(blank, acc)
            self._gather(blank, acc, 0, 1)

    def deliver(self, values: Bytes, acc: NDArray[Any], counts: Ints) -> None:
        """Add the weights of active sources to the synaptic sums of their targets, and count.

        Args:
            values: spikes or graded values, uint8 of `source_view`, contiguous.
            acc: int32 or int64 of `target_view`, contiguous, added to.
            counts: int64 (4,): spikes_in, syn_ops, syn_ops_nonzero, macs, added to.
        """
        if self._identity:
            add_identity(values.reshape(-1), self._weight, self.graded, acc.reshape(-1), counts)
            return
        active = list_active(
            values,
            self._pixel_of,
            self._fan_out,
            self._fan_out_nonzero,
            self.graded,
            self._start,
            self._index,
            counts,
        )
        if active == 0:
            return
        if active < self.gather_from:
            self._scatter(values, acc)
        elif active < self.share_from:
            self._gather(values, acc, 0, 1)
        else:
            shares = self._workers.threads
            self._workers.run(lambda share: self._gather(values, acc, share, shares))

    def _scatter(self, values: Bytes, acc: NDArray[Any]) -> None:
        scatter(
            values,
            self._start,
            self._index,
            self._weights,
            self._pixel_of,
            self._target_y,
            self._target_x,
            self._in_per_group,
            self._out_per_group,
            self._scale,
            self.graded,
            acc,
        )

    def _gather(self, values: Bytes, acc: NDArray[Any], share: int, shares: int) -> None:
        """One of `shares` equal parts of the targets, which no other part writes to."""
        gather(
            values,
            self._start,
            self._index,
            self._weights,
            self._source_y,
            self._windows,
            self._scale,
            self._limit,
            share * self._items // shares,
            (share + 1) * self._items // shares,
            self._parts[share],
            acc,
        )


def _lay_out(connection: Connection, out_per_group: int) -> NDArray[np.int8]:
    """Weights / 2 as (blocks, ky, kx * in, lanes), the last block filled up with zeros."""
    half = (connection.weight // 2).astype(np.int8)
    if connection.kind == "conv_transpose":
        half = half.transpose(0, 2, 3, 1)
    else:
        out, per_group, ky, kx = half.shape
        half = half.reshape(connection.groups, out_per_group, per_group, ky, kx)
        half = half.transpose(0, 2, 3, 4, 1).reshape(-1, ky, kx, out_per_group)
    channels, ky, kx, out = half.shape
    lanes = next((n for n in LANES if n >= out), LANES[-1])
    blocks = -(-out // lanes)
    full = aligned_zeros((blocks, ky, kx, channels, lanes), np.int8)
    for block in range(blocks):
        some = half[..., block * lanes : (block + 1) * lanes]
        full[block, ..., : some.shape[-1]] = some.transpose(1, 2, 0, 3)
    return full.reshape(blocks, ky, kx * channels, lanes)


def build(net: IntegerNet, workers: Workers) -> tuple[dict[str, Neurons], list[Synapses]]:
    """Neurons per node and synapses per connection, in the ledger's order."""
    neurons = {node.name: Neurons(node, net.input_bits) for node in net.nodes}
    synapses = [
        Synapses(c, net.shape_of(c.source), node.shape, graded=net.is_graded(c), workers=workers)
        for node, c in net.connections()
    ]
    return neurons, synapses
