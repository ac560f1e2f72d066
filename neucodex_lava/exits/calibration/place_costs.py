"""What a link costs, and what accuracy is given up for that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neucodex_lava.config import require


@dataclass(frozen=True)
class Link:
    """What the link costs. Each timestep's code is a message of its own, kept ones too.

    Attributes:
        up: whether there is one.
        message_s: seconds of a message and its answer, whatever its size.
        bit_s: seconds of each bit of a code.
        message_j, bit_j: joules on the edge, likewise.

    Raises:
        ConfigError: a negative cost.
    """

    up: bool = True
    message_s: float = 0.0
    bit_s: float = 0.0
    message_j: float = 0.0
    bit_j: float = 0.0

    def __post_init__(self) -> None:
        _require_costs(self)


@dataclass(frozen=True)
class Prices:
    """What accuracy is given for a joule and for a second: 0.01 gives up one point.

    Attributes:
        per_j, per_s: shares of accuracy.

    Raises:
        ConfigError: a negative price.
    """

    per_j: float = 0.0
    per_s: float = 0.0

    def __post_init__(self) -> None:
        _require_costs(self)

    def __call__(self, joules: Any, seconds: Any) -> Any:
        """Joules and seconds in accuracy."""
        return self.per_j * joules + self.per_s * seconds


def _require_costs(costs: Link | Prices) -> None:
    for name, value in vars(costs).items():
        good = np.isfinite(value) and value >= 0
        require(
            bool(good), f"{type(costs).__name__.lower()}: {name} {value} is not a cost of 0 or more"
        )
