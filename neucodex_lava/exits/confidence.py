"""The confidence policy: stop once the softmax is sure enough (NeuCODEX, arXiv 2509.19156).

    stop at the first t with  max_k softmax(y(t))_k >= alpha

The paper does not say whether y(t) is one step's output, their mean or their sum. The mean,
y(t) = S_t / (gain * t), is the default; the sum, S_t / gain, is what SNNCutoff uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.policy import Action, Sums

Reading = Literal["mean", "sum"]


def max_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest softmax probability along the last axis: 1 / sum_k exp(y_k - max y).

    No exponent is positive, so nothing overflows. Arrays must be C-contiguous: numpy then runs the
    same loops over one sample as over many, and results are equal to the last bit.

    Args:
        logits: (..., K), C-contiguous.

    Returns:
        (...), in (0, 1].
    """
    largest = np.maximum.reduce(logits, axis=-1, keepdims=True)
    return 1.0 / np.add.reduce(np.exp(logits - largest), axis=-1)


@dataclass(frozen=True)
class ConfidencePolicy:
    """Stop at the first timestep whose largest softmax probability is at least alpha.

    Attributes:
        t_max: T_max, at least 1.
        gain: the readout's gain: logits are S_t / (gain * t) or S_t / gain.
        alpha: confidence to reach, in (0, 1]; at 1 only a probability that rounds to 1 stops early.
        logits: ``mean`` or ``sum`` of the outputs so far.

    Raises:
        ConfigError: numbers out of range.
    """

    t_max: int
    gain: float
    alpha: float = 0.9
    logits: Reading = "mean"

    def __post_init__(self) -> None:
        require(self.t_max >= 1, f"T_max is {self.t_max}, it must be at least 1")
        require(
            math.isfinite(self.gain) and self.gain > 0,
            f"confidence policy: gain {self.gain} is not a positive number",
        )
        require(
            0 < self.alpha <= 1,
            f"alpha {self.alpha} is outside (0, 1]",
            "0.9 is the usual confidence",
        )
        require(self.logits in ("mean", "sum"), f"logits '{self.logits}' are not mean or sum")

    def start(self) -> None:
        """No state."""
        return

    def step(self, state: None, t: int, sums: Sums) -> tuple[None, Action]:
        """See `ExitPolicy.step`."""
        if t >= self.t_max:
            return state, Action.STOP
        divisor = self.gain * t if self.logits == "mean" else self.gain
        # Ascending and contiguous, whatever view the caller passes: see max_softmax.
        y = np.ascontiguousarray(sums, np.float64) / divisor
        return state, Action.STOP if max_softmax(y) >= self.alpha else Action.CONTINUE

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `ExitPolicy.actions`."""
        stops = self.confidences(sums) >= self.alpha
        stops[:, -1] = True
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)

    def confidences(self, sums: Sums) -> NDArray[np.float64]:
        """Largest softmax probability after each timestep.

        Args:
            sums: S_t, (N, K, T_max).

        Returns:
            (N, T_max).
        """
        y = np.ascontiguousarray(np.moveaxis(np.asarray(sums), 1, 2), np.float64)
        t = np.arange(1, self.t_max + 1, dtype=np.float64)
        divisor = self.gain * t if self.logits == "mean" else np.full(self.t_max, self.gain)
        return max_softmax(y / divisor[:, None])
