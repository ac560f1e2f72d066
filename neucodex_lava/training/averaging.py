"""A moving average of the weights, which generalises better than the last step's."""

from __future__ import annotations

from typing import Any

import torch

from neucodex_lava.models.split import SplitModel


class WeightAverage:
    """An exponential moving average (EMA) of weights and of the batch norms' running statistics.

    After update n, average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)):
    a short run is not held back by the weights it started from.

    Args:
        model: what to average, in the phase it is in.
        decay: d, in [0, 1).
        state: what `state` gave, of a run that goes on.

    Attributes:
        model: a network with the averaged weights.
    """

    def __init__(
        self, model: SplitModel, decay: float, state: dict[str, Any] | None = None
    ) -> None:
        self.model = model.copy().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        if state:
            self.updates = int(state["updates"])
            self.model.load_state_dict(state["model"])

    @torch.no_grad()
    def update(self, model: SplitModel) -> None:
        """Take one step's weights in."""
        self.updates += 1
        new = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values()):
            if mine.is_floating_point():
                mine.lerp_(theirs, new)
            else:
                mine.copy_(theirs)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {"updates": self.updates, "model": self.model.state_dict()}
