"""LIF dynamics for a whole block, spike-identical to SLAYER's CUBA neuron and gradient-equal to it.

SLAYER's neuron is an int64 loop in Python; here the same integers live in float32 and the loop runs
over contiguous time slices, (T, N, ...). With s the state scale (64 * weight scale), d the voltage
decay and theta the threshold::

    V[t] = trunc(V[t-1] * (4096 - d) / 4096) + trunc(s * x[t])
    spike[t] = V[t] > s * theta;   V[t] = 0 where it spikes

The surrogate derivative is SLAYER's, exp(-|v - theta| / tau) * scale / (2 tau), with tau = theta and
scale = 2: its constructor's defaults (tau_grad = scale_grad = 1) give gradients about 500 times too
small, see `slayer_neuron`. As in SLAYER, gradients pass through time by the decay alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neucodex_lava.models.slayer import cuba

DECAY_ONE = 4096
FLOAT_SCALE = 64
"""SLAYER's weight scale in the float phase: states in steps of 1/4096."""


def slayer_neuron(threshold: float, voltage_decay: float, scale: int) -> cuba.Neuron:
    """A SLAYER CUBA neuron without current memory, with a sound surrogate gradient.

    Args:
        threshold: in weight units; exact when it is a multiple of 1 / scale.
        voltage_decay: 0 (none) to 1.
        scale: SLAYER's weight scale: `FLOAT_SCALE`, or 1 for integer weights.

    SLAYER multiplies tau_rho by 100 and scale_rho by 0.1 inside, and compares v >= threshold + eps
    with an eps that vanishes in float32 from 4,096 on: all three are set so that the surrogate has
    the width of the threshold and v == threshold never spikes.
    """
    neuron = cuba.Neuron(
        threshold=threshold, current_decay=1.0, voltage_decay=voltage_decay, scale=scale
    )
    neuron.tau_rho = 0.01 * neuron.threshold
    neuron.scale_rho = 20
    neuron.threshold_eps = 0.5 / neuron.s_scale
    return neuron


class _LIF(torch.autograd.Function):
    """Spikes of a block; see the module's equations."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, decay: int, threshold: float, s_scale: float) -> Tensor:
        keep = (DECAY_ONE - decay) / DECAY_ONE
        # 24 state bits fit float32; times a decay that is no power of two they need float64.
        exact = keep == 0 or (DECAY_ONE - decay) & (DECAY_ONE - decay - 1) == 0
        fire = threshold * s_scale
        potential = torch.empty_like(drive)
        v = torch.zeros_like(drive[0])
        for t in range(drive.shape[0]):
            old = v if exact else v.double()
            v = torch.trunc(old * keep).to(drive.dtype).add_(torch.trunc(drive[t] * s_scale))
            potential[t] = v
            v = v.masked_fill(v > fire, 0.0)
        ctx.save_for_backward(potential)
        ctx.constants = (keep, threshold, s_scale)
        return (potential > fire).to(drive.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (potential,) = ctx.saved_tensors
        keep, threshold, s_scale = ctx.constants
        eps = 0.5 / s_scale
        distance = potential.div(s_scale).sub_(threshold + eps).abs_()
        grad = distance.div_(-threshold).exp_().mul_(1.0 / threshold).mul_(grads[0])
        for t in range(grad.shape[0] - 2, -1, -1):
            grad[t].add_(grad[t + 1], alpha=keep)
        return grad, None, None, None


def lif(drive: Tensor, neuron: cuba.Neuron) -> Tensor:
    """Spikes (T, N, ...) of float input current `drive` (T, N, ...), as SLAYER's neuron gives them.

    Args:
        drive: weighted spikes plus bias at each timestep, in weight units.
        neuron: made by `slayer_neuron`; its decay, threshold and scales are used.
    """
    decay = round(float(neuron.voltage_decay))
    return _LIF.apply(drive, decay, neuron.threshold, float(neuron.s_scale))  # type: ignore[no-any-return]


def integrate(drive: Tensor) -> Tensor:
    """The readout: running sums (T, N, ...) of its input current, neither decaying nor spiking."""
    return drive.cumsum(0)
