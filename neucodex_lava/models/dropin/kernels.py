"""Numba kernels of SLAYER's CUBA dynamics on the CPU, over (T, M) values that lie flat in memory.

With s the state scale, ku and kv what remains of current and potential per timestep, all integers::

    u[t] = trunc(ku u[t-1]) + trunc(s x[t])
    v[t] = trunc(kv v[t-1]) + u[t]
    spike[t] = v[t] >= s theta;   v[t] = 0 where it spikes

States are held in float32, which is exact below 2^24; each kernel returns the largest it has seen, so
that the caller can do larger ones elsewhere. Backward recomputes potentials: cheaper than keeping them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from neucodex_lava.models.kernels import exp, fabs, trunc

Array = NDArray[Any]
TILE = 2048
"""Values worked on at a time: their states stay in the first-level cache."""


def _njit(function: Any) -> Any:
    return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(function)


@_njit
def _decay(v: Array, n: int, keep: float) -> None:
    """v <- trunc(keep v)."""
    if keep == 0 or keep == 1 or keep == 0.5 or keep == 0.25:
        k = np.float32(keep)
        for j in range(n):
            v[j] = trunc(v[j] * k)
    else:
        # 24 bits of state times 12 of decay need float64.
        for j in range(n):
            v[j] = np.float32(np.trunc(np.float64(v[j]) * keep))


@_njit
def _step(
    u: Array, v: Array, x: Array, n: int, keep_u: float, keep_v: float, scale: float, peak: Array
) -> None:
    """One timestep of both states; `peak` takes the largest magnitudes."""
    s = np.float32(scale)
    _decay(v, n, keep_v)
    if keep_u == 0:
        for j in range(n):
            v[j] += trunc(x[j] * s)
    else:
        _decay(u, n, keep_u)
        for j in range(n):
            u[j] += trunc(x[j] * s)
        for j in range(n):
            v[j] += u[j]
            peak[j] = max(peak[j], fabs(u[j]))
    for j in range(n):
        peak[j] = max(peak[j], fabs(v[j]))


@_njit
def fire(
    x: Array, u0: Array, v0: Array, timesteps: int, first: int, last: int, keep_u: float,
    keep_v: float, limit: float, scale: float, out: Array, u_end: Array, v_end: Array,
) -> float:  # fmt: skip
    """Spikes of tiles first .. last - 1.

    Args:
        x: drive, float32 (T * M,).
        u0, v0: states before, in state units, float32 (M,), or empty: none.
        limit: the potential from which a neuron spikes, in state units.
        out: spikes, written.
        u_end, v_end: states after, in state units, written; or empty.

    Returns:
        The largest magnitude of any state; from 2^24 on the result may be wrong.
    """
    size = len(x) // timesteps
    u, v, peak = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
    one, zero, edge = np.float32(1), np.float32(0), np.float32(limit)
    for tile in range(first, last):
        start = tile * TILE
        n = min(TILE, size - start)
        u[:], v[:] = 0, 0
        if len(u0):
            u[:n], v[:n] = u0[start : start + n], v0[start : start + n]
        for t in range(timesteps):
            at = t * size + start
            _step(u, v, x[at : at + n], n, keep_u, keep_v, scale, peak)
            row = out[at : at + n]
            for j in range(n):
                row[j] = one if v[j] >= edge else zero
            for j in range(n):
                v[j] = zero if v[j] >= edge else v[j]
        if len(v_end):
            u_end[start : start + n], v_end[start : start + n] = u[:n], v[:n]
    return peak.max()


@_njit
def fire_backward(
    x: Array, u0: Array, v0: Array, timesteps: int, first: int, last: int, keep_u: float,
    keep_v: float, limit: float, scale: float, theta: float, tau: float, height: float,
    grad_out: Array, grad: Array,
) -> None:  # fmt: skip
    """Gradient of the drive, through SLAYER's surrogate and its decays alone.

    Args:
        theta: centre of the surrogate height * exp(-|v - theta| / tau), in weight units like tau.
        grad_out: of the spikes; grad: of the drive, written; both (T * M,). The rest as in `fire`.
    """
    size = len(x) // timesteps
    u, v, peak = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
    g_u, g_v = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    potentials = np.empty((timesteps, TILE), np.float32)
    edge, unit, centre = np.float32(limit), np.float32(1 / scale), np.float32(theta)
    slope, top = np.float32(-1 / tau), np.float32(height)
    k_u, k_v = np.float32(keep_u), np.float32(keep_v)
    for tile in range(first, last):
        start = tile * TILE
        n = min(TILE, size - start)
        u[:], v[:] = 0, 0
        if len(u0):
            u[:n], v[:n] = u0[start : start + n], v0[start : start + n]
        for t in range(timesteps):
            at = t * size + start
            _step(u, v, x[at : at + n], n, keep_u, keep_v, scale, peak)
            row = potentials[t]
            for j in range(n):
                row[j] = v[j]
                v[j] = np.float32(0) if v[j] >= edge else v[j]
        g_u[:], g_v[:] = 0, 0
        for t in range(timesteps - 1, -1, -1):
            at = t * size + start
            row = potentials[t]
            for j in range(n):
                row[j] = top * exp(fabs(row[j] * unit - centre) * slope)
            above, below = grad_out[at : at + n], grad[at : at + n]
            for j in range(n):
                g_v[j] = g_v[j] * k_v + row[j] * above[j]
            for j in range(n):
                g_u[j] = g_u[j] * k_u + g_v[j]
                below[j] = g_u[j]


@_njit
def integrate(
    x: Array, v0: Array, timesteps: int, first: int, last: int, keep: float, limit: float,
    scale: float, out: Array,
) -> float:  # fmt: skip
    """Potentials of one integrator, in weight units, before the reset; `limit` inf: none resets.

    Returns:
        As `fire`.
    """
    size = len(x) // timesteps
    v, peak = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
    edge, s = np.float32(limit), np.float32(scale)
    for tile in range(first, last):
        start = tile * TILE
        n = min(TILE, size - start)
        v[:] = 0
        if len(v0):
            v[:n] = v0[start : start + n]
        for t in range(timesteps):
            at = t * size + start
            _step(v, v, x[at : at + n], n, 0.0, keep, scale, peak)
            row = out[at : at + n]
            for j in range(n):
                row[j] = v[j] / s
            for j in range(n):
                v[j] = np.float32(0) if v[j] >= edge else v[j]
    return peak.max()


@_njit
def largest_integer(x: Array) -> float:
    """The largest magnitude in `x`, or inf when a value is no integer."""
    size = len(x)
    odd, peak = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32)
    for start in range(0, size, TILE):
        n = min(TILE, size - start)
        row = x[start : start + n]
        for j in range(n):
            odd[j] += fabs(row[j] - trunc(row[j]))
            peak[j] = max(peak[j], fabs(row[j]))
        if start % (16 * TILE) == 0 and odd.max() != 0:
            return np.inf
    return peak.max() if odd.max() == 0 else np.inf
