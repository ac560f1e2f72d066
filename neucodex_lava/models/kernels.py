"""Numba kernels of a block on the CPU: batch norm and LIF in as few passes over memory as can be.

A block's values lie flat in memory, (T, positions, C) with the channels innermost, and are worked on
in tiles of `L` values, `L` a multiple of C: coefficients per channel are repeated to one tile, so that
every innermost loop is a plain run over a tile. Loops are kept small, since LLVM gives up vectorising
one with many arrays. Values are float32, or bfloat16 seen as int16.

Potentials are recomputed in the backward pass: cheaper than writing and reading them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[Any]

FLOAT, WORD, HALF = ir.FloatType(), ir.IntType(32), ir.IntType(16)
LOG2_E = 1.4426950408889634
EXP2 = (
    1.0, 0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628477,
    0.0013333558146428443, 0.00015403530393381608,
)  # fmt: skip
"""Taylor coefficients of 2^f, ln(2)^k / k!; with |f| <= 1/2 the error is below float32's own."""


_intrinsic: Any = intrinsic
"""Untyped: a call lacks the typing context that the definition takes first."""


@_intrinsic
def _load(_context: Any, value: Any) -> Any:
    """A stored value as float32: bfloat16 is the upper half of a float32."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if value == types.float32:
            return args[0]
        word = builder.shl(builder.zext(args[0], WORD), WORD(16))
        return builder.bitcast(word, FLOAT)

    return types.float32(value), generate


@_intrinsic
def _store(_context: Any, value: Any, like: Any) -> Any:
    """A float32 as it is stored beside `like`; bfloat16 is rounded to nearest, ties to even."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        if like == types.float32:
            return args[0]
        word = builder.bitcast(args[0], WORD)
        odd = builder.and_(builder.lshr(word, WORD(16)), WORD(1))
        rounded = builder.add(builder.add(word, WORD(0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, WORD(16)), HALF)

    return like(types.float32, like), generate


def _unary(name: str) -> Any:
    """An LLVM intrinsic of one float32, for which it has a vector instruction."""

    @_intrinsic
    def function(_context: Any, value: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(FLOAT, [FLOAT])
            return builder.call(builder.module.declare_intrinsic(name, [FLOAT], kind), args)

        return types.float32(types.float32), generate

    return function


trunc, _rint, fabs = _unary("llvm.trunc"), _unary("llvm.rint"), _unary("llvm.fabs")


@_intrinsic
def _power_of_two(_context: Any, exponent: Any) -> Any:
    """2^n of a float32 that holds an integer n >= -126."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        biased = builder.add(builder.fptosi(args[0], WORD), WORD(127))
        return builder.bitcast(builder.shl(biased, WORD(23)), FLOAT)

    return types.float32(types.float32), generate


def _njit(function: Any) -> Any:
    return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})(function)


@_njit
def exp(x: float) -> float:
    """e^x for x <= 0, to float32's precision."""
    y = max(np.float32(x) * np.float32(LOG2_E), np.float32(-126))
    n = _rint(y)
    f = y - n
    p = np.float32(EXP2[6])
    p = p * f + np.float32(EXP2[5])
    p = p * f + np.float32(EXP2[4])
    p = p * f + np.float32(EXP2[3])
    p = p * f + np.float32(EXP2[2])
    p = p * f + np.float32(EXP2[1])
    p = p * f + np.float32(EXP2[0])
    return p * _power_of_two(n)


@_njit
def _drive(
    z: Array, a: Array, b: Array, z2: Array, a2: Array, at: int, n: int, parts: int, round_: bool,
    d: Array,
) -> None:  # fmt: skip
    """d = a z + b + a2 z2 of one tile at one timestep; integers when `round_`."""
    x = z[at : at + n]
    if round_:
        for j in range(n):
            d[j] = _rint(_load(x[j])) * a[j] + b[j]
    else:
        for j in range(n):
            d[j] = _load(x[j]) * a[j] + b[j]
    if parts == 2:
        x = z2[at : at + n]
        if round_:
            for j in range(n):
                d[j] += _rint(_load(x[j])) * a2[j]
        else:
            for j in range(n):
                d[j] += _load(x[j]) * a2[j]


@_njit
def _integrate(v: Array, d: Array, n: int, keep: float, scale: float) -> None:
    """v <- trunc(keep v) + trunc(scale d), in state units."""
    if keep == 0 or keep == 1 or keep == 0.5 or keep == 0.25:
        k = np.float32(keep)
        for j in range(n):
            v[j] = trunc(v[j] * k) + trunc(d[j] * np.float32(scale))
    else:
        # 24 bits of state times 12 of decay need float64.
        for j in range(n):
            v[j] = trunc(np.float32(np.trunc(np.float64(v[j]) * keep)))
        for j in range(n):
            v[j] += trunc(d[j] * np.float32(scale))


@_njit
def forward(
    z: Array, a: Array, b: Array, z2: Array, a2: Array, parts: int, round_: bool, timesteps: int,
    first: int, last: int, keep: float, fire: float, scale: float, out: Array,
) -> None:  # fmt: skip
    """Spikes of tiles first .. last - 1.

    Args:
        z, z2: stored values, flat (T * M,); z2 is looked at only with two parts.
        a, b, a2: float32 (L,), coefficients of one tile.
        round_: whether sums are rounded to integers.
        keep: what remains of the potential, (4096 - decay) / 4096.
        fire: threshold in state units; `scale`: state units per unit of drive.
        out: spikes, 0 or 1.
    """
    size, span = len(z) // timesteps, len(a)
    v = np.empty(span, np.float32)
    d = np.empty(span, np.float32)
    one, zero = _store(np.float32(1), out[0]), _store(np.float32(0), out[0])
    limit = np.float32(fire)
    for tile in range(first, last):
        n = min(span, size - tile * span)
        v[:] = 0
        for t in range(timesteps):
            at = t * size + tile * span
            _drive(z, a, b, z2, a2, at, n, parts, round_, d)
            _integrate(v, d, n, keep, scale)
            row = out[at : at + n]
            for j in range(n):
                row[j] = one if v[j] > limit else zero
            for j in range(n):
                v[j] = np.float32(0) if v[j] > limit else v[j]


@_njit
def backward(
    z: Array, a: Array, b: Array, z2: Array, a2: Array, parts: int, round_: bool, timesteps: int,
    first: int, last: int, keep: float, fire: float, scale: float, theta: float, tau: float,
    height: float, grad_out: Array, grad: Array, sums: Array,
) -> None:  # fmt: skip
    """Gradient of the drive, and the sums that a batch norm's own gradient needs.

    Args:
        theta: centre of the surrogate, tau its width and height its value there.
        grad_out: of the spikes; grad: of the drive, written.
        sums: float64 (3, L), added to: grad, grad * z and grad * z2, by place in the tile.
    """
    size, span = len(z) // timesteps, len(a)
    v = np.empty(span, np.float32)
    d = np.empty(span, np.float32)
    g = np.empty(span, np.float32)
    potentials = np.empty((timesteps, span), np.float32)
    part = np.empty((3, span), np.float32)
    limit, unit = np.float32(fire), np.float32(1 / scale)
    centre, slope, peak = np.float32(theta), np.float32(-1 / tau), np.float32(height)
    k, first_value = np.float32(keep), grad[0]
    part[:] = 0
    for tile in range(first, last):
        n = min(span, size - tile * span)
        v[:] = 0
        for t in range(timesteps):
            _drive(z, a, b, z2, a2, t * size + tile * span, n, parts, round_, d)
            _integrate(v, d, n, keep, scale)
            row = potentials[t]
            for j in range(n):
                row[j] = v[j]
                v[j] = np.float32(0) if v[j] > limit else v[j]
        g[:] = 0
        for t in range(timesteps - 1, -1, -1):
            at = t * size + tile * span
            row = potentials[t]
            for j in range(n):
                row[j] = peak * exp(fabs(row[j] * unit - centre) * slope)
            x = grad_out[at : at + n]
            for j in range(n):
                g[j] = g[j] * k + row[j] * _load(x[j])
            x = grad[at : at + n]
            for j in range(n):
                x[j] = _store(g[j], first_value)
            row = part[0]
            for j in range(n):
                row[j] += g[j]
            row, x = part[1], z[at : at + n]
            for j in range(n):
                row[j] += g[j] * _load(x[j])
            if parts == 2:
                row, x = part[2], z2[at : at + n]
                for j in range(n):
                    row[j] += g[j] * _load(x[j])
        if (tile - first) % 32 == 31 or tile == last - 1:
            for i in range(3):
                for j in range(span):
                    sums[i, j] += part[i, j]
            part[:] = 0


@_njit
def affine(
    grad: Array, z: Array, a: Array, c: Array, e: Array, size: int, first: int, last: int,
    out: Array,
) -> None:  # fmt: skip
    """out = a grad + c z + e, tile by tile: a batch norm's gradient. `out` may be `grad` itself.

    Args:
        a, c, e: float32 (L,), coefficients of one tile.
        size: values in all.
    """
    span, like = len(a), out[0]
    d = np.empty(span, np.float32)
    for tile in range(first, last):
        n, at = min(span, size - tile * span), tile * span
        g, x, y = grad[at : at + n], z[at : at + n], out[at : at + n]
        for j in range(n):
            d[j] = _load(g[j]) * a[j] + e[j]
        for j in range(n):
            d[j] += _load(x[j]) * c[j]
        for j in range(n):
            y[j] = _store(d[j], like)


@_njit
def scaled(grad: Array, a: Array, size: int, first: int, last: int, out: Array) -> None:
    """out = a grad, tile by tile."""
    span, like = len(a), out[0]
    for tile in range(first, last):
        n, at = min(span, size - tile * span), tile * span
        g, y = grad[at : at + n], out[at : at + n]
        for j in range(n):
            y[j] = _store(_load(g[j]) * a[j], like)


@_njit
def moments(z: Array, span: int, size: int, first: int, last: int, sums: Array) -> None:
    """Adds the sums of z and of z squared, by place in the tile, to float64 `sums` (2, L)."""
    total = np.zeros(span, np.float32)
    square = np.zeros(span, np.float32)
    for tile in range(first, last):
        n, at = min(span, size - tile * span), tile * span
        x = z[at : at + n]
        for j in range(n):
            value = _load(x[j])
            total[j] += value
            square[j] += value * value
        if (tile - first) % 32 == 31 or tile == last - 1:
            for j in range(span):
                sums[0, j] += total[j]
                sums[1, j] += square[j]
            total[:] = 0
            square[:] = 0
