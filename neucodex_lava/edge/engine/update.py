"""The neuron of ``docs/semantics.md``, to the last bit: sums in, spikes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

STATE_MAX = 1 << 23
"""Half the range of a 24-bit state: currents wrap, potentials are clipped there."""
SUM_IN_RANGE = (1 << 17) - 1
"""Largest synaptic sum that fits a state after its shift by 6 bits."""
NO_CEILING = 1 << 30
"""Of neurons whose potential may go where it likes: clipped, it still spikes."""
BIAS_STATE_MAX = 1 << 18
"""Largest bias, shifted left by 6 bits."""


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
    subtract: bool,
    ceiling: int,
    overflow: Any,
) -> int:
    """One timestep of all neurons of a node; clears `acc` for the next one.

    Rows in which nothing can leave its range, nearly all, take 32-bit arithmetic.

    Args:
        acc: synaptic sums a[t], int32 or int64 (H, W * C), set to 0.
        current, potential: u and v, int32 (H, W * C), updated in place; v is the one after reset.
        spikes: s[t], uint8 (H, W * C), written.
        bias: shifted left by 6 bits, int32 (W * C,).
        keep_current, keep_potential: 4096 less the decay.
        threshold: shifted left by 6 bits.
        subtract: a spike takes one threshold from the potential, not all of it.
        ceiling: a potential above it, or one that clips below, counts as an overflow; `NO_CEILING`
            for none.
        overflow: int64 (3,): set to (1, index, value >> 6) by the first neuron out of range.

    Returns:
        Number of spikes.
    """
    fired = 0
    for y in range(acc.shape[0]):
        rows = acc[y], current[y], potential[y], spikes[y]
        if _may_leave_range(acc[y], current[y], potential[y], keep_current, ceiling):
            at = y * acc.shape[1]
            fired += _update_exactly(
                *rows,
                bias,
                keep_current,
                keep_potential,
                threshold,
                subtract,
                ceiling,
                at,
                overflow,
            )
        elif subtract:
            fired += _update_subtracting(*rows, bias, keep_current, keep_potential, threshold)
        else:
            fired += _update_zeroing(*rows, bias, keep_current, keep_potential, threshold)
        acc[y] = 0
    return fired


@njit(nogil=True)
def _may_leave_range(acc: Any, current: Any, potential: Any, keep: int, ceiling: int) -> bool:
    large = np.int32(0)
    for i in range(acc.size):
        large |= np.int32((acc[i] > SUM_IN_RANGE) | (acc[i] < -SUM_IN_RANGE))
    if keep != 0 and large == 0:
        for i in range(acc.size):
            large |= np.int32((abs(np.int32(acc[i])) << 6) + abs(current[i]) >= STATE_MAX)
    if ceiling != NO_CEILING and large == 0:
        near = np.int32(ceiling - BIAS_STATE_MAX)
        for i in range(acc.size):
            size = (abs(np.int32(acc[i])) << 6) + abs(potential[i])
            if keep != 0:
                size += abs(current[i])
            large |= np.int32(size > near)
    return large != 0


@njit(nogil=True)
def _decayed(state: Any, keep: Any) -> Any:
    """state * keep >> 12, towards zero, for |state| <= 2^23 and keep <= 2^12, in 32 bits."""
    size = abs(state)
    size = np.int32((size >> 12) * keep + (((size & 4095) * keep) >> 12))
    return size if state >= 0 else np.int32(-size)


def _in_range(subtract: bool) -> Any:
    """The update of rows that stay in range; what a spike leaves is settled when it is compiled."""

    @njit(nogil=True)
    def update_in_range(
        acc: Any,
        current: Any,
        potential: Any,
        spikes: Any,
        bias: Any,
        keep_current: int,
        keep_potential: int,
        threshold: int,
    ) -> Any:
        keep_u, keep_v = np.int32(keep_current), np.int32(keep_potential)
        limit, fired = np.int32(threshold), np.int32(0)
        for i in range(acc.size):
            u = np.int32(np.int32(acc[i]) << np.int32(6))
            if keep_u != 0:
                u = np.int32(u + _decayed(current[i], keep_u))
            v = np.int32(_decayed(potential[i], keep_v) + u + bias[i])
            v = min(max(v, np.int32(-STATE_MAX + 1)), np.int32(STATE_MAX - 1))
            spike = v > limit
            current[i] = u
            left = np.int32(v - limit) if subtract else np.int32(0)
            potential[i] = left if spike else v
            spikes[i] = spike
            fired += np.int32(spike)
        return fired

    return update_in_range


_update_zeroing, _update_subtracting = _in_range(False), _in_range(True)


@njit(nogil=True)
def _update_exactly(
    acc: Any,
    current: Any,
    potential: Any,
    spikes: Any,
    bias: Any,
    keep_current: int,
    keep_potential: int,
    threshold: int,
    subtract: bool,
    ceiling: int,
    at: int,
    overflow: Any,
) -> int:
    fired = 0
    for i in range(acc.size):
        u = np.int64(current[i]) * keep_current
        u = (u >> 12) if u >= 0 else -((-u) >> 12)
        u += np.int64(acc[i]) << 6
        exact = u
        out_of_range = u > STATE_MAX or u <= -STATE_MAX
        if u > STATE_MAX:
            u -= 2 * STATE_MAX
        if u <= -STATE_MAX:
            u += 2 * STATE_MAX
        v = np.int64(potential[i]) * keep_potential
        v = (v >> 12) if v >= 0 else -((-v) >> 12)
        v += u + bias[i]
        if ceiling != NO_CEILING and (v > ceiling or v <= -STATE_MAX):
            exact = v
            out_of_range = True
        if out_of_range and overflow[0] == 0:
            overflow[0] = 1
            overflow[1] = at + i
            overflow[2] = exact >> 6
        v = min(max(v, -STATE_MAX + 1), STATE_MAX - 1)
        current[i] = u
        if v > threshold:
            spikes[i] = 1
            potential[i] = v - threshold if subtract else 0
            fired += 1
        else:
            spikes[i] = 0
            potential[i] = v
    return fired
