"""The composed policy: stop when any, or when all, of several policies stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.policy import Action, ExitPolicy, Sums

Mode = Literal["any", "all"]


@dataclass(frozen=True)
class ComposedPolicy:
    """Stop when ``any`` or ``all`` of the parts stop after the same timestep.

    Attributes:
        parts: policies for the same T_max, at least one.
        mode: ``any`` or ``all``.

    Raises:
        ConfigError: no parts, parts for different T_max, an unknown mode.
    """

    parts: tuple[ExitPolicy, ...]
    mode: Mode = "any"

    def __post_init__(self) -> None:
        require(len(self.parts) > 0, "composed policy: it has no parts")
        found = sorted({part.t_max for part in self.parts})
        require(len(found) == 1, f"composed policy: its parts are for T_max = {found}, not for one")
        require(
            self.mode in ("any", "all"), f"composed policy: mode '{self.mode}' is not any or all"
        )

    @property
    def t_max(self) -> int:
        """T_max of the parts."""
        return self.parts[0].t_max

    def start(self) -> tuple[Any, ...]:
        """The parts' states."""
        return tuple(part.start() for part in self.parts)

    def step(self, state: tuple[Any, ...], t: int, sums: Sums) -> tuple[tuple[Any, ...], Action]:
        """See `ExitPolicy.step`."""
        found = [part.step(s, t, sums) for part, s in zip(self.parts, state)]
        stops = [action is not Action.CONTINUE for _, action in found]
        stop = any(stops) if self.mode == "any" else all(stops)
        return tuple(s for s, _ in found), Action.STOP if stop else Action.CONTINUE

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `ExitPolicy.actions`."""
        stops = np.stack([part.actions(sums) != Action.CONTINUE for part in self.parts])
        stop = stops.any(axis=0) if self.mode == "any" else stops.all(axis=0)
        return np.where(stop, Action.STOP, Action.CONTINUE).astype(np.uint8)
