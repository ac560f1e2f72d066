"""The patience policy: stop once the prediction has not changed for a while.

Zhou et al., "BERT Loses Patience: Fast and Robust Inference with Early Exit", NeurIPS 2020, there
along depth, here along time (and along depth for the exit heads of a cascade).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.policy import Action, Sums, not_numbers

NOTHING = -1
"""The prediction before the first timestep, and after one with a NaN."""


@dataclass(frozen=True)
class PatiencePolicy:
    """Stop when the prediction has stayed the same `patience` times in a row.

    Attributes:
        t_max: T_max, at least 1.
        patience: how often, at least 1; the earliest stop is after patience + 1 timesteps.

    Raises:
        ConfigError: numbers out of range.
    """

    t_max: int
    patience: int = 1

    def __post_init__(self) -> None:
        require(self.t_max >= 1, f"T_max is {self.t_max}, it must be at least 1")
        require(self.patience >= 1, f"patience is {self.patience}, it must be at least 1")

    def start(self) -> tuple[int, int]:
        """No prediction so far, unchanged 0 times."""
        return NOTHING, 0

    def step(self, state: tuple[int, int], t: int, sums: Sums) -> tuple[tuple[int, int], Action]:
        """See `ExitPolicy.step`; the state is the last prediction and how often it stayed."""
        if t >= self.t_max:
            return state, Action.STOP
        prediction = int(sums.argmax())
        if sums[prediction] != sums[prediction]:  # a NaN, which argmax finds first
            return (NOTHING, 0), Action.CONTINUE
        last, unchanged = state
        unchanged = unchanged + 1 if prediction == last else 0
        return (prediction, unchanged), Action(unchanged >= self.patience)

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `ExitPolicy.actions`."""
        predictions = np.where(not_numbers(sums), NOTHING, np.asarray(sums).argmax(axis=1))
        unchanged = np.zeros(predictions.shape, np.int64)
        for t in range(1, self.t_max):
            same = (predictions[:, t] == predictions[:, t - 1]) & (predictions[:, t] != NOTHING)
            unchanged[:, t] = np.where(same, unchanged[:, t - 1] + 1, 0)
        stops = unchanged >= self.patience
        stops[:, -1] = True
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)
