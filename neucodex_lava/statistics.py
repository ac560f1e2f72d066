"""Intervals for measured shares."""

from __future__ import annotations

import math
from statistics import NormalDist

from neucodex_lava.config import require


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share such as an accuracy.

        centre = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4 n^2)

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Args:
        correct: successes, 0..total.
        total: trials; without any the interval is (0, 1).
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        (low, high), within [0, 1].

    Raises:
        ConfigError: numbers out of range.
    """
    require(0 <= correct <= total, f"{correct} of {total} is no share")
    require(0 < confidence < 1, f"confidence {confidence} is outside (0, 1)")
    if total == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    p, n = correct / total, total
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # Rounding must not push the ends past the share itself, nor past 0 and 1.
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))
