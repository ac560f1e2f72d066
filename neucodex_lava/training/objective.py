"""The one number that a step makes smaller: cross-entropies and the weighted terms beside them.

With exit heads, the network's own cross-entropy and `exit_weight` times that of every head are summed
up (BranchyNet, Teerapittayanon et al., ICPR 2016, equation 1).
"""

from __future__ import annotations

from torch import Tensor

from neucodex_lava.config import TrainConfig
from neucodex_lava.models.bottleneck import ENCODER
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.distillation import Distillation
from neucodex_lava.training.forward import Sent
from neucodex_lava.training.losses import every_step_loss, last_step_loss, tet_loss
from neucodex_lava.training.regularisers import SynOpTerm, code_entropy, peakedness, steadiness


class Objective:
    """What training minimises.

    Args:
        config: which loss, and the weight of each term; a term with weight 0 is not computed.
        model: the network that is trained.
        distillation: what it learns from its base, if anything.
    """

    def __init__(
        self, config: TrainConfig, model: SplitModel, distillation: Distillation | None = None
    ) -> None:
        self.config = config
        self.distillation = distillation
        self.syn_ops = SynOpTerm(model) if config.loss.synop_weight else None

    def __call__(self, x: Tensor, sent: Sent, targets: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            x: input (T, N, C, H, W).
            sent: what the network made of it.
            targets: classes (N,), or their probabilities (N, K).
        """
        terms = self.config.loss
        loss = self._cross_entropy(sent.outputs, targets)
        for answers in sent.early.values():
            loss = loss + terms.exit_weight * self._cross_entropy(answers, targets)
        if terms.rate_weight:
            loss = loss + terms.rate_weight * code_entropy(sent.values[ENCODER])
        if self.syn_ops:
            loss = loss + terms.synop_weight * self.syn_ops(sent.values)
        if terms.rcs_weight:
            labels = hard(targets)
            loss = loss + terms.rcs_weight * steadiness(
                sent.values, sent.potentials, sent.outputs, labels
            )
        if self.distillation:
            loss = loss + self.distillation(x, sent.outputs, sent.values)
        return loss

    def _cross_entropy(self, outputs: Tensor, targets: Tensor) -> Tensor:
        terms, smoothing = self.config.loss, self.config.label_smoothing
        if terms.loss == "tet":
            return tet_loss(outputs, targets, smoothing, terms.tet_mse)
        if terms.loss == "last-step":
            return last_step_loss(outputs, targets, smoothing)
        return every_step_loss(outputs, targets, smoothing)


class ArtificialObjective:
    """What training an artificial network minimises: cross-entropies, and RCS where asked for.

    Args:
        config: the weights.
        model: the network that is trained.
    """

    def __init__(self, config: TrainConfig, model: SplitModel) -> None:
        self.config = config
        # Before spiking epochs RCS has its own form for spikes, later.
        wanted = config.artificial and config.loss.rcs_weight > 0
        self.steady = [b.name for b in model.block_list() if not b.readout] if wanted else []

    def __call__(self, sent: Sent, targets: Tensor) -> Tensor:
        """The loss of one batch; see `Objective`."""
        terms, smoothing = self.config.loss, self.config.label_smoothing
        loss = last_step_loss(sent.outputs, targets, smoothing)
        for answers in sent.early.values():
            loss = loss + terms.exit_weight * last_step_loss(answers, targets, smoothing)
        if self.steady:
            loss = loss + terms.rcs_weight * peakedness([sent.values[n] for n in self.steady])
        return loss


def hard(targets: Tensor) -> Tensor:
    """The class of each target, (N,): the likelier one of two that were mixed."""
    return targets if targets.dim() == 1 else targets.argmax(1)
