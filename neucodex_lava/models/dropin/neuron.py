"""SLAYER's CUBA neuron, computed faster: the same object, parameters, states, spikes and gradients."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from neucodex_lava.models.dropin.dynamics import Constants, State, fire, integrate
from neucodex_lava.models.dropin.layout import time_first, time_last
from neucodex_lava.models.slayer import cuba, norm

DECAY_ONE = 4096


class FastNeuron(cuba.Neuron):
    """A `cuba.Neuron` whose dynamics run in compiled kernels, with time first in memory.

    Decays per channel (``shared_param=False``), other dtypes than float32 and SLAYER's debug mode stay
    SLAYER's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Spikes (N, C, ..., T) of a drive (N, C, ..., T)."""
        if not self._takes(input):
            spikes: Any = super().forward(input)
            return spikes
        if not self._fuses():
            spikes = self.spike(self.dynamics(input)[1])
            return spikes
        (keep_u, keep_v), state = self._keeps(), self._states(input)
        drive = time_first(input)
        if self.norm is not None:
            before = None if state is None else state[0]
            current = integrate(drive, before, self.current_decay, keep_u, math.inf, self.s_scale)
            drive, keep_u = self._normed(current), 0.0
        tau = float(self.tau_rho) * cuba.TAU_RHO_MULT
        height = float(self.scale_rho) * cuba.SCALE_RHO_MULT / 2 / tau
        threshold = self.threshold + self.threshold_eps
        constants = Constants(keep_u, keep_v, threshold, float(self.s_scale), tau, height)
        spikes, *after = fire(drive, state, constants)
        if self.persistent_state:
            if self.norm is not None:
                after[0] = drive[-1].detach().clone()
            self.current_state, self.voltage_state = (_channels_second(a) for a in after)
        out = time_last(spikes)
        return out if self.drop is None else self.drop(out)

    def dynamics(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Current and potential (N, C, ..., T), before each reset, of a drive (N, C, ..., T)."""
        if not self._takes(input):
            both: Any = super().dynamics(input)
            return both
        (keep_u, keep_v), state = self._keeps(), self._states(input)
        u0, v0 = state or (None, None)
        scale, threshold = float(self.s_scale), self.threshold + self.threshold_eps
        drive = time_first(input)
        current = integrate(drive, u0, self.current_decay, keep_u, math.inf, scale)
        if self.norm is not None:
            current = self._normed(current)
        limit = threshold if threshold > 0 else math.inf
        voltage = integrate(current, v0, self.voltage_decay, keep_v, limit, scale)
        current, voltage = time_last(current), time_last(voltage)
        if self.persistent_state:
            self.current_state = current[..., -1].detach().clone()
            self.voltage_state = voltage[..., -1].detach().clone()
        return current, voltage

    def _takes(self, x: Tensor) -> bool:
        """Whether this input is one for the fast path; gives the neuron its shape, as SLAYER does."""
        if (
            not self.shared_param
            or self.debug
            or x.dtype != torch.float32
            or x.dim() < 3
            or not x.numel()
        ):
            return False
        if self.shape is None:
            self.shape = x.shape[1:-1]
            self.num_neurons = math.prod(self.shape)
        if x.shape[1:-1] != self.shape:
            return False
        if self.current_state.shape == self.voltage_state.shape == x.shape[:-1]:
            return True
        # SLAYER makes new states for a batch of another size; without states there is nothing to make.
        return not (self.persistent_state or self.current_state.any() or self.voltage_state.any())

    def _fuses(self) -> bool:
        """Whether current, potential and spikes may be computed in one go."""
        scale = int(self.s_scale)
        return (
            scale & (scale - 1) == 0
            and self.threshold + self.threshold_eps > 0
            and float(self.tau_rho) > 0
            and not self.graded_spike
            and not self.current_decay.requires_grad
            and not self.voltage_decay.requires_grad
        )

    def _keeps(self) -> tuple[float, float]:
        if self.requires_grad:
            self.clamp()
        decays = (self.current_decay, self.voltage_decay)
        u, v = ((DECAY_ONE - round(float(d.detach()))) / DECAY_ONE for d in decays)
        return u, v

    def _states(self, x: Tensor) -> State:
        """Current and potential (N, ..., C) before `x`; None when they are 0 and stay so."""
        u, v = self.current_state, self.voltage_state
        if not self.persistent_state and not (u.any() or v.any()):
            return None
        return _channels_last(u), _channels_last(v)

    def _normed(self, current: Tensor) -> Tensor:
        """SLAYER's norm of currents (T, N, ..., C), on the memory layout that it sums over."""
        x, own = time_last(current), cast(Any, self.norm)
        if type(own) not in _NORMS or (own.training and own.update):
            x = x.contiguous()
        return time_first(own(x))


_NORMS: tuple[Any, ...] = (norm.MeanOnlyBatchNorm, norm.WgtScaleBatchNorm)


def _channels_last(state: Tensor) -> Tensor:
    return state.movedim(1, -1).contiguous()


def _channels_second(state: Tensor) -> Tensor:
    return state.movedim(-1, 1)
