"""The policy that always runs the same number of timesteps (configurations F-B and F+B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.policy import Action, Sums, has_nan, not_numbers


@dataclass(frozen=True)
class FixedPolicy:
    """Stop after a fixed number of timesteps, or at the first after it whose logits are numbers.

    Attributes:
        t_max: T_max, at least 1.
        timesteps: stop after these many, 1..T_max; None for T_max.

    Raises:
        ConfigError: numbers out of range.
    """

    t_max: int
    timesteps: int | None = None

    def __post_init__(self) -> None:
        require(self.t_max >= 1, f"T_max is {self.t_max}, it must be at least 1")
        require(
            self.timesteps is None or 1 <= self.timesteps <= self.t_max,
            f"fixed policy: {self.timesteps} timesteps is outside [1, T_max = {self.t_max}]",
        )

    @property
    def stop_at(self) -> int:
        """The timestep it stops after."""
        return self.t_max if self.timesteps is None else self.timesteps

    def start(self) -> None:
        """No state."""
        return

    def step(self, state: None, t: int, sums: Sums) -> tuple[None, Action]:
        """See `ExitPolicy.step`."""
        stops = t >= self.t_max or (t >= self.stop_at and not has_nan(sums))
        return state, Action.STOP if stops else Action.CONTINUE

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `ExitPolicy.actions`."""
        stops = (np.arange(1, self.t_max + 1) >= self.stop_at) & ~not_numbers(sums)
        stops[:, -1] = True
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)
