"""List the active source neurons of a timestep and count the work they cause, 64 at a glance."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from neucodex_lava.edge.engine.llvm import BYTE, WORD, contiguous, load_vector, pointer

MASK_BITS = 64


def _active_mask_code(_: Any, values: Any, first: Any) -> Any:
    """Bit i is set where values.flat[first + i] is not 0, for 64 values."""
    if not contiguous(values):
        return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = builder.gep(pointer(context, builder, sig.args[0], args[0], BYTE), [args[1]])
        found = load_vector(builder, at, BYTE, MASK_BITS)
        active = builder.icmp_unsigned("!=", found, ir.Constant(found.type, [0] * MASK_BITS))
        return builder.bitcast(active, WORD)

    return types.uint64(values, types.intp), generate


def _lowest_bit_code(_: Any, mask: Any) -> Any:
    """Number of the lowest set bit; 64 where there is none."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.int64(types.uint64), generate


_active_mask: Any = intrinsic(_active_mask_code)
_lowest_bit: Any = intrinsic(_lowest_bit_code)


@njit(cache=True, nogil=True)
def list_active(
    values: Any,
    pixel_of: Any,
    fan_out: Any,
    fan_out_nonzero: Any,
    graded: bool,
    start: Any,
    index: Any,
    counts: Any,
) -> int:
    """List the active source neurons pixel by pixel, and count the work they cause.

    Args:
        values: spikes or graded values, uint8 (H, W * C).
        pixel_of: x of every place in a row, int32 (W * C,).
        fan_out: synapses that each neuron of a pixel reaches, int32 (H, W).
        fan_out_nonzero: those of a weight other than 0, int32 (H, W * C).
        graded: counts go to MACs.
        start: place in `index` of a pixel's first neuron, int64 (H * W + 1,), written.
        index: x * C + c of every active neuron, int32 (H * W * C,), written.
        counts: int64 (4,): spikes_in, syn_ops, syn_ops_nonzero, macs, added to.

    Returns:
        Number of active neurons.
    """
    height, line = values.shape
    width = (start.size - 1) // height
    n = 0
    reached = 0
    reached_nonzero = 0
    for y in range(height):
        pixels = 0
        for c in range(0, line, MASK_BITS):
            many = min(line - c, MASK_BITS)
            first = y * line + c
            if first + MASK_BITS <= values.size:
                mask = _active_mask(values, first)
                if many < MASK_BITS:
                    mask &= (np.uint64(1) << np.uint64(many)) - np.uint64(1)
            else:
                mask = np.uint64(0)
                for i in range(many):
                    if values[y, c + i] != 0:
                        mask |= np.uint64(1) << np.uint64(i)
            while mask != 0:
                i = c + _lowest_bit(mask)
                mask &= mask - np.uint64(1)
                x = pixel_of[i]
                index[n] = i
                while pixels <= x:
                    start[y * width + pixels] = n
                    pixels += 1
                reached += fan_out[y, x]
                reached_nonzero += fan_out_nonzero[y, i]
                n += 1
        while pixels < width:
            start[y * width + pixels] = n
            pixels += 1
    start[height * width] = n
    counts[0] += n
    if graded:
        counts[3] += reached
    else:
        counts[1] += reached
        counts[2] += reached_nonzero
    return n
