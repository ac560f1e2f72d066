"""Cross-entropies of a network's outputs over its timesteps.

All take the mean outputs y(t) = S_t / t, (T, N, K), and targets: classes (N,), or their probabilities
(N, K).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TET_TARGET = 1.0
"""What TET's regulariser draws each output to: the paper's code takes 1, its threshold."""


def every_step_loss(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of y(t) against the target, mean over timesteps and samples.

    Early answers are trained as well as the last one (after TET, applied to running means).
    """
    repeats = (len(outputs),) + (1,) * (targets.dim() - 1)
    return F.cross_entropy(
        outputs.flatten(0, 1), targets.repeat(repeats), label_smoothing=label_smoothing
    )


def last_step_loss(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of y(T) against the target."""
    return F.cross_entropy(outputs[-1], targets, label_smoothing=label_smoothing)


def tet_loss(outputs: Tensor, targets: Tensor, label_smoothing: float, share: float) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, equations 9 to 11).

    (1 - share) * mean_t CE(o(t), target) + share * mean_t MSE(o(t), 1), where o(t) = S_t - S_(t-1) is
    what timestep t alone gives.

    Args:
        outputs: y(t), (T, N, K).
        targets: classes or probabilities.
        label_smoothing: 0..1.
        share: lambda, the weight of the regulariser; the paper's code takes 0.05.
    """
    own = each_step(outputs)
    cross_entropy = every_step_loss(own, targets, label_smoothing)
    return (1 - share) * cross_entropy + share * (own - TET_TARGET).square().mean()


def each_step(outputs: Tensor) -> Tensor:
    """Each timestep's own output o(t) = t y(t) - (t - 1) y(t - 1), (T, N, K)."""
    steps = torch.arange(1, len(outputs) + 1, device=outputs.device)[:, None, None]
    sums = outputs * steps
    return torch.cat([sums[:1], sums[1:] - sums[:-1]])
