"""The Top-K policy: stop once the best class is far enough ahead of the next (SNNCutoff).

    stop at the first t with  y(t)_(1) - y(t)_(2) > beta_t

SNNCutoff (Wu et al., "Optimising Event-Driven Spiking Neural Network with Regularisation and
Cutoff", arXiv 2301.09522; github.com/Dengyu-Wu/snncutoff) reads the sum, S_t / gain; thresholds come
from `calibration.topk`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neucodex_lava.config import require
from neucodex_lava.exits.logits import Floats, LogitsPolicy


def top_gap(logits: Floats) -> Floats:
    """By how much the largest logit exceeds the second largest, along the last axis.

    Args:
        logits: (..., K).

    Returns:
        (...), at least 0; NaN where a logit is; infinite for a single class.
    """
    classes = logits.shape[-1]
    if classes == 1:
        return np.where(np.isnan(logits[..., 0]), np.nan, np.inf)
    ordered = np.partition(logits, classes - 2, axis=-1)
    return ordered[..., -1] - ordered[..., -2]


@dataclass(frozen=True)
class TopKPolicy(LogitsPolicy):
    """Stop at the first timestep whose gap exceeds that timestep's threshold.

    Attributes:
        thresholds: beta_1 ... beta_(T_max), in logits; None never stops there; the last is not used.

    Raises:
        ConfigError: numbers out of range, or thresholds for another T_max.
    """

    thresholds: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.thresholds) == self.t_max,
            f"Top-K policy: {len(self.thresholds)} thresholds for T_max = {self.t_max}",
            "one for each timestep; calibrate for this T_max: neucodex calibrate BUNDLE",
        )
        require(
            all(beta is None or math.isfinite(beta) for beta in self.thresholds),
            f"Top-K policy: thresholds {self.thresholds} are not all numbers",
        )

    @cached_property
    def _betas(self) -> Floats:
        return np.array([math.inf if beta is None else beta for beta in self.thresholds])

    def sure(self, y: Floats, at: int | slice) -> Any:
        """See `LogitsPolicy.sure`."""
        return top_gap(y) > self._betas[at]
