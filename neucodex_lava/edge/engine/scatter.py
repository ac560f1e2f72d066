"""Few spikes: each active source adds its weights to the sums of the targets that it reaches.

Also for grouped convolutions, whose windows are too small to collect from, and one to one.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from neucodex_lava.edge.engine.llvm import BYTE, LANES, contiguous, filled, load_vector, pointer


def _row_scatterer(lanes: int) -> Any:
    """Intrinsic for acc.flat[at + o] += weight.flat[base + o] * factor in `lanes` neighbours o."""

    def add_row(_: Any, weight: Any, base: Any, factor: Any, acc: Any, at: Any) -> Any:
        if not contiguous(weight, acc):
            return None
        width = acc.dtype.bitwidth

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weight, base, factor, acc, at = args
            sum_type = ir.IntType(width)
            sums = ir.VectorType(sum_type, lanes)
            row = builder.gep(pointer(context, builder, sig.args[0], weight, BYTE), [base])
            row = builder.sext(load_vector(builder, row, BYTE, lanes), sums)
            if width < 64:
                factor = builder.trunc(factor, sum_type)
            added = builder.mul(row, filled(builder, factor, lanes))
            into = builder.gep(pointer(context, builder, sig.args[3], acc, sum_type), [at])
            into = builder.bitcast(into, sums.as_pointer())
            builder.store(builder.add(builder.load(into, align=4), added), into, align=4)
            return context.get_dummy_value()

        return types.void(weight, types.intp, types.int64, acc, types.intp), generate

    return intrinsic(add_row)


_add_row_16, _add_row_32, _add_row_64 = (_row_scatterer(lanes) for lanes in LANES)


@njit(cache=True, nogil=True)
def scatter(
    values: Any,
    start: Any,
    index: Any,
    weight: Any,
    pixel_of: Any,
    target_y: Any,
    target_x: Any,
    in_per_group: int,
    out_per_group: int,
    scale: int,
    graded: bool,
    acc: Any,
) -> None:
    """Add each active source neuron's weights to the sums of the targets that it reaches.

    Args:
        values: uint8 (H, W * C).
        start, index: of `active.list_active`.
        weight: w / 2, int8 (blocks, ky, kx * C, lanes), blocks of a group's output channels.
        pixel_of: x of every place in a row, int32 (W * C,).
        target_y, target_x: target row for (source row, ky) and column for (source column, kx), int64;
            -1 where the tap reaches nothing.
        in_per_group, out_per_group: channels of a group.
        scale: 2 * 2^e.
        graded: weights are multiplied with the values.
        acc: synaptic sums, int32 or int64 (H', W', C'), added to.
    """
    height, width = target_y.shape[0], target_x.shape[0]
    channels = values.shape[1] // width
    blocks, taps_y, rows, lanes = weight.shape
    taps_x = target_x.shape[1]
    _, target_width, target_channels = acc.shape
    for y in range(height):
        for j in range(start[y * width], start[(y + 1) * width]):
            i = index[j]
            x = pixel_of[i]
            c = i - x * channels
            low = (c // in_per_group) * out_per_group
            factor = scale * values[y, i] if graded else scale
            for ky in range(taps_y):
                ty = target_y[y, ky]
                if ty < 0:
                    continue
                for kx in range(taps_x):
                    tx = target_x[x, kx]
                    if tx < 0:
                        continue
                    at = (ty * target_width + tx) * target_channels + low
                    base = (ky * rows + kx * channels + c) * lanes
                    many = out_per_group
                    while many >= lanes:
                        if lanes == 64:
                            _add_row_64(weight, base, factor, acc, at)
                        elif lanes == 32:
                            _add_row_32(weight, base, factor, acc, at)
                        else:
                            _add_row_16(weight, base, factor, acc, at)
                        at += lanes
                        base += taps_y * rows * lanes
                        many -= lanes
                    if many > 0:
                        row = weight[blocks - 1, ky, kx * channels + c]
                        sums = acc[ty, tx, low + out_per_group - many : low + out_per_group]
                        for o in range(many):
                            sums[o] += row[o] * factor


@njit(cache=True, nogil=True)
def add_identity(values: Any, weight: int, graded: bool, acc: Any, counts: Any) -> None:
    """One synapse per neuron: add weight * value to the sums, and count.

    Args:
        values: uint8 (n,).
        weight: w * 2^e.
        graded: counts go to MACs.
        acc: synaptic sums, int32 or int64 (n,), added to.
        counts: int64 (4,): spikes_in, syn_ops, syn_ops_nonzero, macs, added to.
    """
    active = 0
    for i in range(values.size):
        acc[i] += values[i] * weight
        active += values[i] != 0
    counts[0] += active
    if graded:
        counts[3] += active
    else:
        counts[1] += active
        if weight != 0:
            counts[2] += active
