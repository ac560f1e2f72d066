"""LIF dynamics, spike-identical to SLAYER's CUBA neuron and gradient-equal to it, in torch operations.

SLAYER's neuron is an int64 loop in Python; here the same integers live in float32 and time is the
first axis, (T, N, ...). With s the state scale (64 * weight scale), d the voltage decay and theta the
threshold::

    V[t] = trunc(V[t-1] * (4096 - d) / 4096) + trunc(s * x[t])
    spike[t] = V[t] > s * theta;   V[t] = 0 where it spikes

The surrogate derivative is SLAYER's, exp(-|v - theta| / tau) * scale / (2 tau), with tau = theta and
scale = 2: its constructor's defaults (tau_grad = scale_grad = 1) give gradients about 500 times too
small, see `slayer_neuron`. As in SLAYER, gradients pass through time by the decay alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neucodex_lava.models.slayer import cuba

DECAY_ONE = 4096
FLOAT_SCALE = 64
"""SLAYER's weight scale in the float phase: states in steps of 1/4096."""
TAU_RHO_UNIT, SCALE_RHO_UNIT = 100.0, 0.1
"""What SLAYER multiplies its neurons' tau_rho and scale_rho by, inside."""


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
    neuron.tau_rho = neuron.threshold / TAU_RHO_UNIT
    neuron.scale_rho = round(2 / SCALE_RHO_UNIT)
    neuron.threshold_eps = 0.5 / neuron.s_scale
    return neuron


@dataclass(frozen=True)
class LIF:
    """The numbers of a LIF neuron.

    Attributes:
        keep: what a timestep leaves of the potential, (4096 - decay) / 4096.
        fire: largest potential that does not spike, in state units.
        scale: state units per unit of input current.
        centre, width, height: of the surrogate derivative height * exp(-|v - centre| / width), v in
            units of input current.
    """

    keep: float
    fire: float
    scale: float
    centre: float
    width: float
    height: float

    @classmethod
    def of(cls, neuron: cuba.Neuron) -> LIF:
        """The numbers of a neuron made by `slayer_neuron`."""
        width = TAU_RHO_UNIT * float(neuron.tau_rho)
        return cls(
            keep=(DECAY_ONE - round(float(neuron.voltage_decay))) / DECAY_ONE,
            fire=float(neuron.threshold) * float(neuron.s_scale),
            scale=float(neuron.s_scale),
            centre=float(neuron.threshold) + float(neuron.threshold_eps),
            width=width,
            height=SCALE_RHO_UNIT * float(neuron.scale_rho) / (2 * width),
        )

    @property
    def exact_in_float32(self) -> bool:
        """Whether 24 bits of state times the decay fit float32: the decay is 0 or a power of two."""
        left = round(self.keep * DECAY_ONE)
        return left & (left - 1) == 0


class _LIF(torch.autograd.Function):
    """Spikes of a block by plain torch operations, on any device; see the module's equations."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, lif: LIF) -> Tensor:
        potential = torch.empty_like(drive)
        v = torch.zeros_like(drive[0])
        for t in range(drive.shape[0]):
            old = v if lif.exact_in_float32 else v.double()
            v = torch.trunc(old * lif.keep).to(drive.dtype).add_(torch.trunc(drive[t] * lif.scale))
            potential[t] = v
            v = v.masked_fill(v > lif.fire, 0.0)
        ctx.save_for_backward(potential)
        ctx.lif = lif
        return (potential > lif.fire).to(drive.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (potential,) = ctx.saved_tensors
        lif: LIF = ctx.lif
        distance = potential.div(lif.scale).sub_(lif.centre).abs_()
        grad = distance.div_(-lif.width).exp_().mul_(lif.height).mul_(grads[0])
        for t in range(grad.shape[0] - 2, -1, -1):
            grad[t].add_(grad[t + 1], alpha=lif.keep)
        return grad, None


def lif_torch(drive: Tensor, lif: LIF) -> Tensor:
    """Spikes (T, N, ...) of input current `drive` (T, N, ...), float32, on any device."""
    return _LIF.apply(drive, lif)  # type: ignore[no-any-return]
