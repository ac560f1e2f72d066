"""Options that say what the link to the cloud costs, where the edge may answer without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host_bridge.links import Link
    from neucodex_lava.evaluation.place.placement import LinkPrices


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Of bundles that are calibrated to answer at an exit head on the edge."""

    link: str | None = None
    """Preset of the link's numbers: paper (18.9 Mbit/s, the default), lora, ble, nb-iot, lte-m, wifi or
    5g."""
    link_ms: float | None = None
    """Milliseconds of a message to the cloud and its answer, whatever its size; else the preset's."""
    link_mbit_s: float | None = None
    """Megabits a second of the link towards the cloud; else the preset's."""
    link_mj: float | None = None
    """Millijoules that a message takes on the edge, whatever its size; else the preset's."""
    link_nj_bit: float | None = None
    """Nanojoules that a bit sent takes on the edge; else the preset's."""
    points_per_s: float = 100.0
    """Points of accuracy that a second may cost: 100 gives a point for 10 ms."""
    points_per_mj: float = 100.0
    """Points of accuracy that a millijoule on the edge may cost: 100 gives a point for 10 uJ."""

    def chosen_link(self) -> Link:
        """The preset, with what was given in its place.

        Raises:
            ConfigError: no such preset, a negative cost, or a link of no speed.
        """
        from dataclasses import replace

        from host_bridge.links import link
        from neucodex_lava.config import require

        own: dict[str, float] = {}
        if self.link_ms is not None:
            require(self.link_ms >= 0, f"--link-ms {self.link_ms} is below 0")
            own |= {"delay_s": self.link_ms / 2e3, "jitter_s": 0.0}
        if self.link_mbit_s is not None:
            require(self.link_mbit_s > 0, f"--link-mbit-s {self.link_mbit_s} is not above 0")
            own["up_bps"] = self.link_mbit_s * 1e6
        if self.link_mj is not None:
            require(self.link_mj >= 0, f"--link-mj {self.link_mj} is below 0")
            own["message_j"] = self.link_mj / 1e3
        if self.link_nj_bit is not None:
            require(self.link_nj_bit >= 0, f"--link-nj-bit {self.link_nj_bit} is below 0")
            own["bit_j"] = self.link_nj_bit / 1e9
        return replace(link(self.link or "paper"), **own)

    def rate_bps(self) -> float | None:
        """Bits a second towards the cloud; None where no option says."""
        given = self.link is not None or self.link_mbit_s is not None
        return self.chosen_link().up_bps if given else None

    def priced(self) -> list[str]:
        """The options given that only a placement weighs."""
        names = ("link_ms", "link_mj", "link_nj_bit")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]

    def costs(self) -> LinkPrices:
        """What they say, as a placement needs it.

        Raises:
            ConfigError: as `chosen_link`.
        """
        from neucodex_lava.evaluation.place.placement import LinkPrices
        from neucodex_lava.exits.calibration.place import Link, Prices

        chosen = self.chosen_link()
        link = Link(
            message_s=chosen.roundtrip_s,
            bit_s=1 / chosen.up_bps,
            message_j=chosen.message_j,
            bit_j=chosen.bit_j,
        )
        return LinkPrices(
            link, Prices(per_j=self.points_per_mj * 10, per_s=self.points_per_s / 100)
        )
