"""SLAYER's CUBA dynamics with autograd, time first in memory: Numba on the CPU, torch elsewhere.

Spikes and potentials are SLAYER's to the last bit, gradients up to float32's rounding. On the CPU
states live in float32; should one reach 2^24 (the chip's have 24 bits, sign included), all is done once
more in torch with float64 states, exact to 2^41.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neucodex_lava.models.dropin import kernels
from neucodex_lava.workers import share_out

EXACT = float(1 << 24)
"""Integers below it are exact in float32."""
FEW = 16 * kernels.TILE
"""Not worth a second thread."""


@dataclass(frozen=True)
class Constants:
    """What one neuron computes with.

    Attributes:
        keep_u, keep_v: what remains of current and potential per timestep, (4096 - decay) / 4096.
        threshold: with SLAYER's eps, in weight units; inf when nothing spikes.
        scale: state units per weight unit, a power of two where current and potential are fused.
        tau, height: of the surrogate height * exp(-|v - threshold| / tau).
    """

    keep_u: float
    keep_v: float
    threshold: float
    scale: float
    tau: float = 1.0
    height: float = 0.0

    @property
    def limit(self) -> float:
        """Threshold in state units, as the float32 that SLAYER compares with."""
        return float(np.float32(self.threshold * self.scale))


State = tuple[Tensor, Tensor] | None
"""Current and potential before the first timestep, (M,) float32, in weight units."""


def fire(x: Tensor, state: State, constants: Constants) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes of a drive, and the states after it.

    Args:
        x: (T, ...) float32, contiguous.
        state: None when all are 0.
        constants: with a finite threshold above 0.

    Returns:
        Spikes (T, ...), current and potential after the last timestep (...), in weight units, without
        gradients; empty when `state` is None.
    """
    u, v = state or (x.new_empty(0), x.new_empty(0))
    return _Fire.apply(x, u, v, constants)  # type: ignore[no-any-return]


def integrate(
    x: Tensor, state: Tensor | None, decay: Tensor, keep: float, threshold: float, scale: float
) -> Tensor:
    """Potentials (T, ...) of one leaky integrator, in weight units, before each reset.

    Args:
        x: (T, ...) float32, contiguous.
        state: (...) before the first timestep; None when all are 0.
        decay: the parameter that gets the decay's gradient.
        keep: (4096 - decay) / 4096.
        threshold: with SLAYER's eps; inf when nothing resets.
        scale: state units per weight unit.
    """
    before = x.new_empty(0) if state is None else state
    constants = Constants(0.0, keep, threshold, scale)
    return _Integrate.apply(x, before, decay, constants)  # type: ignore[no-any-return]


class _Fire(torch.autograd.Function):
    """Drive to spikes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, u0: Tensor, v0: Tensor, c: Constants
    ) -> tuple[Tensor, Tensor, Tensor]:
        u0, v0 = _integers(u0, c.scale), _integers(v0, c.scale)
        ctx.constants, found = c, None
        if x.device.type == "cpu":
            found = _fire_numba(x, u0, v0, c)
        ctx.numba = found is not None
        if found is None:
            found, potentials = _fire_torch(x, u0, v0, c)
            ctx.save_for_backward(potentials)
        else:
            ctx.save_for_backward(x, u0, v0)
        ctx.mark_non_differentiable(*found[1:])
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        c: Constants = ctx.constants
        above = grads[0].contiguous()
        if ctx.numba:
            x, u0, v0 = ctx.saved_tensors
            grad = torch.empty_like(x)
            flat = [_flat(a) for a in (x, u0, v0, above, grad)]
            rest = (c.keep_u, c.keep_v, c.limit, c.scale, c.threshold, c.tau, c.height)
            _share(
                x,
                lambda first, last: kernels.fire_backward(
                    *flat[:3], len(x), first, last, *rest, *flat[3:]
                ),
            )
            return grad, None, None, None
        (potentials,) = ctx.saved_tensors
        distance = potentials.sub(float(np.float32(c.threshold))).abs_()
        g = distance.div_(-c.tau).exp_().mul_(c.height).mul_(above)
        _through_time(g, c.keep_v)
        if c.keep_u:
            _through_time(g, c.keep_u)
        return g, None, None, None


class _Integrate(torch.autograd.Function):
    """Drive to potentials."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v0: Tensor, decay: Tensor, c: Constants) -> Tensor:
        v0 = _integers(v0, c.scale)
        out = _integrate_numba(x, v0, c) if x.device.type == "cpu" else None
        if out is None:
            out = _integrate_torch(x, v0, c)
        ctx.keep, ctx.decay_shape = c.keep_v, decay.shape
        ctx.save_for_backward(out if decay.requires_grad else None)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        (out,) = ctx.saved_tensors
        g = grads[0].clone(memory_format=torch.contiguous_format)
        _through_time(g, ctx.keep)
        decay = None if out is None else (g[1:] * out[:-1]).sum().reshape(ctx.decay_shape)
        return g, None, decay, None


def _through_time(g: Tensor, keep: float) -> None:
    for t in range(len(g) - 2, -1, -1):
        g[t].add_(g[t + 1], alpha=keep)


def _integers(state: Tensor, scale: float) -> Tensor:
    return state.mul(scale).trunc_()


def _fire_numba(
    x: Tensor, u0: Tensor, v0: Tensor, c: Constants
) -> tuple[Tensor, Tensor, Tensor] | None:
    """None when a state left float32's exact integers."""
    out, u, v = torch.empty_like(x), torch.empty_like(u0), torch.empty_like(v0)
    flat = [_flat(a) for a in (x, u0, v0, out, u, v)]
    rest = (c.keep_u, c.keep_v, c.limit, c.scale)
    peak = _share(
        x, lambda first, last: kernels.fire(*flat[:3], len(x), first, last, *rest, *flat[3:])
    )
    if not peak < EXACT:
        return None
    if c.keep_u == 0 and u.numel():
        u = torch.trunc(x[-1] * c.scale)
    return out, u.div_(c.scale), v.div_(c.scale)


def _fire_torch(
    x: Tensor, u0: Tensor, v0: Tensor, c: Constants
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Spikes and states; potentials before each reset."""
    wide = torch.float64
    shape = x.shape[1:]
    u = u0.to(wide) if u0.numel() else x.new_zeros(shape, dtype=wide)
    v = v0.to(wide) if v0.numel() else x.new_zeros(shape, dtype=wide)
    potentials, limit = torch.empty_like(x), c.limit
    for t in range(len(x)):
        drive = torch.trunc(x[t] * c.scale).to(wide)
        u = torch.trunc(u * c.keep_u).add_(drive) if c.keep_u else drive
        v = torch.trunc(v * c.keep_v).add_(u)
        as_compared = v.to(x.dtype)
        potentials[t] = as_compared / c.scale
        v = v.masked_fill(as_compared >= limit, 0.0)
    spikes = (potentials >= c.threshold).to(x.dtype)
    if not u0.numel():
        return (spikes, u0, v0), potentials
    return (spikes, u.to(x.dtype).div_(c.scale), v.to(x.dtype).div_(c.scale)), potentials


def _integrate_numba(x: Tensor, v0: Tensor, c: Constants) -> Tensor | None:
    out = torch.empty_like(x)
    flat = [_flat(a) for a in (x, v0, out)]
    rest = (c.keep_v, c.limit, c.scale)
    peak = _share(
        x, lambda first, last: kernels.integrate(*flat[:2], len(x), first, last, *rest, flat[2])
    )
    return out if peak < EXACT else None


def _integrate_torch(x: Tensor, v0: Tensor, c: Constants) -> Tensor:
    wide = torch.float64
    v = v0.to(wide) if v0.numel() else x.new_zeros(x.shape[1:], dtype=wide)
    out, limit = torch.empty_like(x), c.limit
    for t in range(len(x)):
        v = torch.trunc(v * c.keep_v).add_(torch.trunc(x[t] * c.scale).to(wide))
        as_compared = v.to(x.dtype)
        out[t] = as_compared / c.scale
        if math.isfinite(limit):
            v = v.masked_fill(as_compared >= limit, 0.0)
    return out


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).numpy()


def _share(x: Tensor, job: Callable[[int, int], float | None]) -> float:
    """Run `job` over all tiles of `x` (T, ...) on torch's number of threads; the largest result."""
    values = x[0].numel() if len(x) else 0
    tiles = -(-values // kernels.TILE)
    found = [0.0] * (torch.get_num_threads() if x.numel() >= FEW else 1)

    def one(first: int, last: int, share: int) -> None:
        found[share] = job(first, last) or 0.0

    share_out(tiles, len(found), one)
    return max(found)
