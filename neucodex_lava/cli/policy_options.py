"""Options that give an exit policy its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neucodex_lava.evaluation.policies import Numbers


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Numbers of exit policies; by default the bundle's."""

    alpha: float | None = None
    """confidence: the largest softmax probability to reach, in (0, 1]; by default the bundle's."""
    threshold: float | None = None
    """entropy: the normalised entropy to fall to, in [0, 1], by default 0.2; topk: the gap between the
    two largest logits to exceed, by default the bundle's calibrated ones."""
    patience: int | None = None
    """patience: how often in a row the answer must stay the same, by default once."""

    def numbers(self) -> Numbers:
        """Those that were given."""
        from neucodex_lava.evaluation.policies import Numbers

        return Numbers(self.alpha, self.threshold, self.patience)
