"""Event-driven integer kernels in Numba: spikes in, synaptic sums, neuron update, counts.

Every kind of connection is one kernel, because all of them are the same scatter: an active source
neuron adds a row of weights to the targets it reaches, and where it reaches is a table per axis and
kernel tap, made once. Values, accumulators and spikes are stored H W C, weights (in, ky, kx, out), so
that the innermost loop runs over output channels that lie next to each other in memory.

The neuron is that of ``docs/semantics.md``, to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

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
