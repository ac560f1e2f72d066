"""From running sums to logits, and what the policies that read them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.policy import Action, Sums

Reading = Literal["mean", "sum"]
Floats = NDArray[np.float64]


def require_reading(t_max: int, gain: float, logits: str, temperature: float) -> None:
    """Refuse numbers that make no logits.

    Raises:
        ConfigError: T_max below 1, gain or temperature not positive, an unknown reading.
    """
    require(t_max >= 1, f"T_max is {t_max}, it must be at least 1")
    for name, value in (("gain", gain), ("temperature", temperature)):
        require(
            math.isfinite(value) and value > 0,
            f"exit policy: {name} {value} is not a positive number",
        )
    require(logits in ("mean", "sum"), f"logits '{logits}' are not mean or sum")


def read_logits(
    sums: Sums, gain: float, logits: Reading = "mean", temperature: float = 1.0
) -> Floats:
    """Logits of whole runs: y(t) = S_t / (gain * t * temperature), or without t.

    Args:
        sums: S_t, (N, K, T).
        gain: the readout's gain.
        logits: ``mean`` or ``sum`` of the outputs so far.
        temperature: see `calibration.temperature`.

    Returns:
        (N, T, K), C-contiguous.
    """
    y = np.ascontiguousarray(np.moveaxis(np.asarray(sums), 1, 2), np.float64)
    t = np.arange(1, y.shape[1] + 1, dtype=np.float64)
    divisor = gain * t if logits == "mean" else np.full(y.shape[1], gain)
    return y / (divisor * temperature)[:, None]


@dataclass(frozen=True)
class LogitsPolicy(ABC):
    """A policy that looks at one timestep's logits and remembers nothing.

    Attributes:
        t_max: T_max, at least 1.
        gain: the readout's gain: logits are S_t / (gain * t) or S_t / gain. For the exit heads of a
            cascade the sums are logits already: gain 1, ``sum``.
        logits: ``mean`` or ``sum`` of the outputs so far.
        temperature: logits are divided by it, so that probabilities fit (Guo et al., ICML 2017).

    Raises:
        ConfigError: numbers out of range.
    """

    t_max: int
    gain: float
    logits: Reading = field(default="mean", kw_only=True)
    temperature: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        require_reading(self.t_max, self.gain, self.logits, self.temperature)

    @abstractmethod
    def sure(self, y: Floats, at: int | slice) -> Any:
        """Whether to stop; False where a logit is NaN, which comparisons with NaN are by themselves.

        Args:
            y: logits (K,) of one timestep, or (N, T_max, K), C-contiguous: numpy then runs the same
                loops over one sample as over many, and both forms are equal to the last bit.
            at: t - 1, or all timesteps.

        Returns:
            A truth value, or bool (N, T_max).
        """

    def start(self) -> None:
        """No state."""
        return

    def step(self, state: None, t: int, sums: Sums) -> tuple[None, Action]:
        """See `ExitPolicy.step`."""
        if t >= self.t_max:
            return state, Action.STOP
        divisor = self.gain * t if self.logits == "mean" else self.gain
        # Ascending and contiguous, whatever view the caller passes: see `sure`.
        y = np.ascontiguousarray(sums, np.float64) / (divisor * self.temperature)
        return state, Action.STOP if self.sure(y, t - 1) else Action.CONTINUE

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `ExitPolicy.actions`."""
        stops = self.sure(self.read(sums), slice(None))
        stops[:, -1] = True
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)

    def read(self, sums: Sums) -> Floats:
        """Logits of whole runs (N, K, T_max), as (N, T_max, K)."""
        return read_logits(sums, self.gain, self.logits, self.temperature)
