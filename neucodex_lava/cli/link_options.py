"""Options that say what the link to the cloud costs, where the edge may answer without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neucodex_lava.evaluation.place.placement import LinkPrices


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Of bundles that are calibrated to answer at an exit head on the edge."""

    link_ms: float = 10.0
    """Milliseconds of a message to the cloud and its answer, whatever its size."""
    link_mbit_s: float = 18.9
    """Megabits a second of the link."""
    link_mj: float = 0.0
    """Millijoules that a message takes on the edge, whatever its size."""
    link_nj_bit: float = 0.0
    """Nanojoules that a bit sent takes on the edge."""
    points_per_s: float = 100.0
    """Points of accuracy that a second may cost: 100 gives a point for 10 ms."""
    points_per_mj: float = 100.0
    """Points of accuracy that a millijoule on the edge may cost: 100 gives a point for 10 uJ."""

    def costs(self) -> LinkPrices:
        """What they say.

        Raises:
            ConfigError: a negative cost, or a link of no speed.
        """
        from neucodex_lava.config import require
        from neucodex_lava.evaluation.place.placement import LinkPrices
        from neucodex_lava.exits.calibration.place import Link, Prices

        require(self.link_mbit_s > 0, f"--link-mbit-s {self.link_mbit_s} is not above 0")
        link = Link(
            message_s=self.link_ms / 1e3,
            bit_s=1e-6 / self.link_mbit_s,
            message_j=self.link_mj / 1e3,
            bit_j=self.link_nj_bit / 1e9,
        )
        return LinkPrices(
            link, Prices(per_j=self.points_per_mj * 10, per_s=self.points_per_s / 100)
        )
