"""Neurons of converted networks, and the activation of the artificial network they take the place of.

QCFS, quantised clip-floor-shift (Bu et al., "Optimal ANN-SNN conversion for high-accuracy and
ultra-low-latency spiking neural networks", ICLR 2022, equation 11)::

    h(d) = clip(floor(d L / theta + 1/2), 0, L) / L

An integrate-and-fire neuron of threshold theta that starts at theta / 2 and is reset by subtraction
spikes at just that rate in T = L timesteps of a constant drive d, and at any other T within 1 / T of
it. The paper's activation is theta times this one: here theta is left to the next layer's weights,
since a spike weighs 1.

SLAYER has no such neuron. Its place as the witness of docs/semantics.md is taken by `fire_plainly`, in
int64 and with nothing in common with the executor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neucodex_lava.integer_net import DECAY_ONE, STATE_SHIFT

FIRST_THRESHOLD = 4.0
"""Two standard deviations of a new block's drive: few values are clipped."""
LEAST_THRESHOLD = 1e-2
STATE_UNIT = 1 << STATE_SHIFT
STATE_MAX = (1 << 23) - 1
"""Potentials are clipped at 24 bits, in state units."""


@dataclass(frozen=True)
class Converted:
    """Neurons that a conversion gave a block.

    Attributes:
        voltage_decay: in 4096ths per timestep; 0: none.
        soft: whether they keep what exceeds the threshold, and start at half of it.
        timesteps: T_max.
    """

    voltage_decay: int
    soft: bool
    timesteps: int

    @property
    def growth(self) -> float:
        """How many times a constant input a potential can become."""
        longest = float(self.timesteps)
        return min(DECAY_ONE / self.voltage_decay, longest) if self.voltage_decay else longest


class QCFS(nn.Module):
    """The activation, with a trainable threshold.

    Args:
        levels: L.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.theta = nn.Parameter(torch.tensor(FIRST_THRESHOLD))

    @property
    def threshold(self) -> Tensor:
        """theta, kept positive."""
        return self.theta.clamp(min=LEAST_THRESHOLD)

    def forward(self, drive: Tensor) -> Tensor:
        """h(drive), in [0, 1]; its gradient is that of the clip alone."""
        share = (drive / self.threshold).clamp(0, 1) * self.levels
        return (share + (torch.floor(share + 0.5) - share).detach()) / self.levels


def fire(drive: Tensor, threshold: float, initial: float) -> Tensor:
    """Spikes (T, N, ...) of neurons without a leak that are reset by subtraction, in float32.

    v[t] = clip(v[t-1] + x[t]); s[t] = v[t] > threshold; v[t] -= threshold * s[t]; v[0] = initial.
    Exact where drive, threshold and initial are integers.

    Args:
        drive: x, (T, N, ...), in weight units.
        threshold, initial: in weight units.
    """
    limit = STATE_MAX / STATE_UNIT
    v = torch.full_like(drive[0], initial)
    spikes = torch.empty_like(drive)
    for t, x in enumerate(drive):
        v = (v + x).clamp(-limit, limit)
        spikes[t] = v > threshold
        v = v - threshold * spikes[t]
    return spikes


def fire_plainly(drive: Tensor, threshold: int, initial: int) -> tuple[Tensor, Tensor]:
    """The same in int64, one timestep after the other.

    Args:
        drive: integers (N, C, H, W, T), in weight units.
        threshold, initial: in weight units.

    Returns:
        Spikes, and potentials after the reset in weight units, both float (N, C, H, W, T).
    """
    current = drive.round().long() * STATE_UNIT
    theta = threshold * STATE_UNIT
    v = torch.full_like(current[..., 0], initial * STATE_UNIT)
    spikes, potentials = torch.zeros_like(current), torch.zeros_like(current)
    for t in range(current.shape[-1]):
        v = (v + current[..., t]).clamp(-STATE_MAX, STATE_MAX)
        fired = v > theta
        v = torch.where(fired, v - theta, v)
        spikes[..., t] = fired.long()
        potentials[..., t] = v
    return spikes.to(drive.dtype), potentials.double() / STATE_UNIT
