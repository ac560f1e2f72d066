"""What training minimises, from the mean outputs y(t) of a network and the spikes of its nodes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def every_step_loss(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of y(t) against the target, mean over timesteps and samples.

    Early answers are trained as well as the last one (after TET, applied to running means).

    Args:
        outputs: y(t), (T, N, K).
        targets: classes (N,), or their probabilities (N, K).
        label_smoothing: 0..1.
    """
    repeats = (len(outputs),) + (1,) * (targets.dim() - 1)
    return F.cross_entropy(
        outputs.flatten(0, 1), targets.repeat(repeats), label_smoothing=label_smoothing
    )
