"""The entropy policy: stop once the softmax is concentrated enough.

stop at the first t with  H(softmax(y(t))) / log K <= threshold
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from neucodex_lava.config import require
from neucodex_lava.exits.logits import Floats, LogitsPolicy

LOWEST = -700.0
"""Logits that far below the largest have no share in the sum, and exp does not underflow."""


def normalised_entropy(logits: Floats) -> Floats:
    """Entropy of the softmax along the last axis, as a share of log K.

    With z = y - max y and s = sum_k exp z_k, H = log s - sum_k z_k exp(z_k) / s.

    Args:
        logits: (..., K), C-contiguous (see `max_softmax`).

    Returns:
        (...), from 0 (certain) to 1 (no idea); NaN where a logit is; 0 for a single class.
    """
    z = np.maximum(logits - np.maximum.reduce(logits, axis=-1, keepdims=True), LOWEST)
    e = np.exp(z)
    s = np.add.reduce(e, axis=-1)
    entropy = np.log(s) - np.add.reduce(e * z, axis=-1) / s
    # Rounding must not push it past 1: that threshold stops every sample.
    return np.minimum(entropy / math.log(max(logits.shape[-1], 2)), 1.0)


@dataclass(frozen=True)
class EntropyPolicy(LogitsPolicy):
    """Stop at the first timestep whose normalised entropy is at most the threshold.

    Attributes:
        threshold: in [0, 1]; at 1 every sample stops after the first timestep.

    Raises:
        ConfigError: numbers out of range.
    """

    threshold: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.threshold <= 1,
            f"entropy threshold {self.threshold} is outside [0, 1]",
            "0 is certain, 1 is no idea",
        )

    def sure(self, y: Floats, at: int | slice) -> Any:
        """See `LogitsPolicy.sure`."""
        return normalised_entropy(y) <= self.threshold
