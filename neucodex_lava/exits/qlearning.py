"""The policy that a Q-learning agent learned (SPARQ, arXiv 2603.14380): a table.

    stop at the first t with  Q(t, bin, exit) > Q(t, bin, continue)

where bin is the largest softmax probability in `bins` equal steps. t counts timesteps, or the exit
heads of a cascade from the first to the readout. `calibration.agent` learns it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.confidence import max_softmax
from neucodex_lava.exits.logits import Floats, LogitsPolicy


def confidence_bins(confidence: Floats, bins: int) -> NDArray[np.int64]:
    """Which of `bins` equal steps of [0, 1] each confidence is in; 0 for a NaN."""
    steps = np.minimum(confidence * bins, bins - 1)
    return np.where(np.isnan(steps), 0, steps).astype(np.int64)


@dataclass(frozen=True)
class QLearningPolicy(LogitsPolicy):
    """Stop where exiting is worth more than going on.

    Attributes:
        advantage: Q(t, bin, exit) - Q(t, bin, continue): a row of bins for each t, of equal lengths;
            the last row is not used.

    Raises:
        ConfigError: numbers out of range, or a table for another T_max.
    """

    advantage: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.advantage) == self.t_max,
            f"Q-learning policy: a table of {len(self.advantage)} rows for T_max = {self.t_max}",
            "calibrate for this T_max: neucodex calibrate BUNDLE",
        )
        widths = {len(row) for row in self.advantage}
        require(
            len(widths) == 1 and 0 not in widths,
            "Q-learning policy: the rows of its table are empty or of different lengths",
        )
        require(
            all(math.isfinite(value) for row in self.advantage for value in row),
            "Q-learning policy: its table does not hold numbers alone",
        )

    @cached_property
    def _stops(self) -> NDArray[np.bool_]:
        return np.array(self.advantage) > 0

    def sure(self, y: Floats, at: int | slice) -> Any:
        """See `LogitsPolicy.sure`."""
        confidence, bins = max_softmax(y), self._stops.shape[1]
        if isinstance(at, int):
            steps = float(confidence) * bins
            return steps == steps and self._stops[at, int(min(steps, bins - 1))]
        t = np.arange(self.t_max)
        return self._stops[t, confidence_bins(confidence, bins)] & ~np.isnan(confidence)
