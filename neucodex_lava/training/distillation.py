"""What a network with a bottleneck learns from its base: features behind the cut, and answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.config import DistillConfig
from neucodex_lava.models.bottleneck import DECODER
from neucodex_lava.models.split import SplitModel


class Distillation:
    """The base network, frozen, and how far another is from it.

    weight_features * MSE(decoder's spikes, base's spikes at the split point)
    + weight_logits * tau^2 * mean_t KL(softmax(y_base(T) / tau) || softmax(y(t) / tau))

    (Romero et al., ICLR 2015; Hinton et al., 2015.) Every answer is drawn to the base's last one.

    Args:
        config: weights and temperature tau.
        base: the base network.
        split: i of SPi.
    """

    def __init__(self, config: DistillConfig, base: SplitModel, split: int) -> None:
        self.config = config
        self.base = base.eval().requires_grad_(False)
        self.feature = base.sender(base.split_points[split]).name

    def __call__(self, x: Tensor, outputs: Tensor, values: dict[str, Tensor]) -> Tensor:
        """The weighted sum.

        Args:
            x: input (T, N, C, H, W).
            outputs: y(t), (T, N, K).
            values: spikes by node.
        """
        with torch.no_grad():
            theirs, features = self.base.run(x)
        config = self.config
        far = values[DECODER].float() - features[self.feature].float()
        answer = F.softmax(theirs[-1] / config.distill_temperature, -1).expand_as(outputs)
        ours = F.log_softmax(outputs / config.distill_temperature, -1)
        divergence = F.kl_div(ours.flatten(0, 1), answer.flatten(0, 1), reduction="batchmean")
        return (
            config.distill_features * far.square().mean()
            + config.distill_logits * config.distill_temperature**2 * divergence
        )
