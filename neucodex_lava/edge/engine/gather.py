"""Many spikes: each target collects the weights of the active sources that it sees.

A target pixel adds up the rows of weights that the listed neurons of its window select, 16 to 64 output
channels at a time, in vector registers. Weights are stored as w / 2 in int8, so 256 of them add up in
int16 without overflow; only then, or at the end of the window, are they added to the sums.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from neucodex_lava.edge.engine.llvm import (
    BYTE,
    LANES,
    PLACE,
    WORD,
    contiguous,
    filled,
    load_vector,
    pointer,
)

ROWS_BEFORE_FLUSH = {False: 256, True: 65_536}
"""Rows whose sum fits: 256 * 128 in int16 for spikes, 65,536 * 128 * 255 in int32 for graded values."""


def _row_adder(lanes: int) -> Any:
    """Intrinsic that adds listed rows of weights to partial sums; int32 sums: times `values`."""

    def add_rows(
        _: Any, weight: Any, base: Any, values: Any, index: Any, first: Any, end: Any, part: Any
    ) -> Any:
        if not contiguous(weight, values, index, part):
            return None
        graded = part.dtype == types.int32

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weight, base, values, index, first, end, part = args
            sums = ir.VectorType(PLACE if graded else ir.IntType(16), lanes)
            rows = builder.gep(pointer(context, builder, sig.args[0], weight, BYTE), [base])
            level = pointer(context, builder, sig.args[2], values, BYTE)
            listed = pointer(context, builder, sig.args[3], index, PLACE)
            into = pointer(context, builder, sig.args[6], part, sums)
            before = builder.load(into, align=2)
            entry = builder.block
            head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
            builder.branch(head)

            builder.position_at_end(head)
            j, total = builder.phi(WORD), builder.phi(sums)
            j.add_incoming(first, entry)
            total.add_incoming(before, entry)
            builder.cbranch(builder.icmp_signed("<", j, end), body, done)

            builder.position_at_end(body)
            source = builder.sext(builder.load(builder.gep(listed, [j])), WORD)
            row = builder.gep(rows, [builder.mul(source, WORD(lanes))])
            added = builder.sext(load_vector(builder, row, BYTE, lanes), sums)
            if graded:
                value = builder.zext(builder.load(builder.gep(level, [source])), PLACE)
                added = builder.mul(added, filled(builder, value, lanes))
            j.add_incoming(builder.add(j, WORD(1)), body)
            total.add_incoming(builder.add(total, added), body)
            builder.branch(head)

            builder.position_at_end(done)
            builder.store(total, into, align=2)
            return context.get_dummy_value()

        return types.void(weight, types.intp, values, index, types.intp, types.intp, part), generate

    return intrinsic(add_rows)


add_16, add_32, add_64 = (_row_adder(lanes) for lanes in LANES)


@njit(cache=True, nogil=True)
def gather(
    values: Any,
    start: Any,
    index: Any,
    weight: Any,
    source_y: Any,
    source_x: Any,
    scale: int,
    limit: int,
    first_item: int,
    end_item: int,
    part: Any,
    acc: Any,
) -> None:
    """Add the weights that active sources have for targets to the synaptic sums.

    An item is one row of target pixels in one block of output channels, item = block * H' + row, so
    that a block's weights stay in the cache while all its rows are done; threads share the items.

    Args:
        values: uint8 (H, W * C); read where `part` is int32 only.
        start, index: of `list_active`.
        weight: w / 2, int8 (blocks, ky, kx * C, lanes).
        source_y: source row for (target row, ky), int64; -1 where there is none.
        source_x: int64 (W', runs, 3): first source column, the one after the last, and what turns their
            index into a row of weights.
        scale: 2 * 2^e.
        limit: rows that `part` can hold.
        first_item, end_item: items to do.
        part: partial sums, int16 (lanes,) for spikes, int32 for graded values; scratch.
        acc: synaptic sums, int32 or int64 (H', W', C'), added to.
    """
    height, width, channels = acc.shape
    taps, rows, lanes = weight.shape[1:]
    columns = (start.size - 1) // values.shape[0]
    runs = source_x.shape[1]
    for item in range(first_item, end_item):
        block, ty = item // height, item % height
        low = block * lanes
        many = min(lanes, channels - low)
        for tx in range(width):
            part[:] = 0
            room = limit
            for ky in range(taps):
                sy = source_y[ty, ky]
                if sy < 0:
                    continue
                line = values[sy]
                for r in range(runs):
                    j = start[sy * columns + source_x[tx, r, 0]]
                    end = start[sy * columns + source_x[tx, r, 1]]
                    base = ((block * taps + ky) * rows + source_x[tx, r, 2]) * lanes
                    while j < end:
                        stop = min(end, j + room)
                        if lanes == 64:
                            add_64(weight, base, line, index, j, stop, part)
                        elif lanes == 32:
                            add_32(weight, base, line, index, j, stop, part)
                        else:
                            add_16(weight, base, line, index, j, stop, part)
                        room -= stop - j
                        j = stop
                        if room == 0:
                            _flush(part, scale, acc[ty, tx, low : low + many])
                            room = limit
            if room < limit:
                _flush(part, scale, acc[ty, tx, low : low + many])


@njit(nogil=True, inline="always")
def _flush(part: Any, scale: int, sums: Any) -> None:
    for o in range(sums.size):
        sums[o] += part[o] * scale
    part[:] = 0
