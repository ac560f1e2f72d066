"""The confidence policy: stop once the softmax is sure enough (NeuCODEX, arXiv 2509.19156).

    stop at the first t with  max_k softmax(y(t))_k >= alpha

The paper does not say whether y(t) is one step's output, their mean or their sum. The mean,
y(t) = S_t / (gain * t), is the default; the sum, S_t / gain, is what SNNCutoff uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neucodex_lava.config import require
from neucodex_lava.exits.logits import Floats, LogitsPolicy


def max_softmax(logits: Floats) -> Floats:
    """Largest softmax probability along the last axis: 1 / sum_k exp(y_k - max y).

    No exponent is positive, so nothing overflows. Arrays must be C-contiguous: numpy then runs the
    same loops over one sample as over many, and results are equal to the last bit.

    Args:
        logits: (..., K), C-contiguous.

    Returns:
        (...), in (0, 1]; NaN where a logit is.
    """
    largest = np.maximum.reduce(logits, axis=-1, keepdims=True)
    return 1.0 / np.add.reduce(np.exp(logits - largest), axis=-1)


@dataclass(frozen=True)
class ConfidencePolicy(LogitsPolicy):
    """Stop at the first timestep whose largest softmax probability is at least alpha.

    Attributes:
        alpha: confidence to reach, in (0, 1]; at 1 only a probability that rounds to 1 stops early.

    Raises:
        ConfigError: numbers out of range.
    """

    alpha: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.alpha <= 1,
            f"alpha {self.alpha} is outside (0, 1]",
            "0.9 is the usual confidence",
        )

    def sure(self, y: Floats, at: int | slice) -> Any:
        """See `LogitsPolicy.sure`."""
        return max_softmax(y) >= self.alpha
