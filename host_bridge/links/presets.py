"""A link to the cloud: rate, delay, jitter, energy; presets are data with a source for every number.

The presets are in ``presets.json``. None of their numbers is a measurement of ours: what is computed
with them is *modelled*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from neucodex_lava.errors import ConfigError, FormatError

STATUSES: Final = ("published", "modelled", "assumed")
DATA: Final = Path(__file__).with_name("presets.json")

_NUMBERS: Final = ("up_bps", "down_bps", "delay_s", "bit_j", "message_j")


@dataclass(frozen=True)
class Source:
    """Where a number of a preset comes from.

    Args:
        status: ``published`` (read in a paper, a standard or a datasheet), ``modelled`` (computed from
            such numbers, the source says how) or ``assumed``.
        text: the publication, or the computation.
    """

    status: str
    text: str


@dataclass(frozen=True)
class Link:
    """What lies between the edge and its cloud.

    Args:
        up_bps: bits a second from the edge to the cloud; infinite for no limit.
        down_bps: bits a second back.
        delay_s: one way, in seconds, whatever the size.
        jitter_s: up to so many seconds more, evenly spread; order is kept.
        bit_j: joules that a bit sent takes on the edge.
        message_j: joules that a message takes on the edge, whatever its size.
        name: of the preset; empty for a link of one's own.
        description: one line.
        sources: of a preset's numbers, by name.

    Raises:
        ConfigError: a number out of range.
    """

    up_bps: float = math.inf
    down_bps: float = math.inf
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bit_j: float = 0.0
    message_j: float = 0.0
    name: str = ""
    description: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict[str, Source], compare=False)

    def __post_init__(self) -> None:
        for name in ("up_bps", "down_bps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"a link's {name} is {getattr(self, name)}, expected above 0")
        for name in ("delay_s", "jitter_s", "bit_j", "message_j"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"a link's {name} is {getattr(self, name)}, expected 0 or more")

    @property
    def roundtrip_s(self) -> float:
        """Seconds of a message and its answer apart from their bits, on average."""
        return 2 * self.delay_s + self.jitter_s

    def up_s(self, bits: float) -> float:
        """Seconds until the last of so many bits has left the edge."""
        return bits / self.up_bps

    def up_j(self, bits: float) -> float:
        """Joules that a message of so many bits takes on the edge."""
        return self.message_j + bits * self.bit_j


LOOPBACK: Final = Link(description="no limits")


@cache
def links() -> Mapping[str, Link]:
    """All presets by name.

    Raises:
        FormatError: the file of presets is malformed.
    """
    raw: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return MappingProxyType({name: _link(name, preset) for name, preset in raw.items()})


def link(name: str) -> Link:
    """The preset of this name.

    Raises:
        ConfigError: no such preset.
    """
    presets = links()
    if name not in presets:
        raise ConfigError(f"unknown link '{name}'", f"choose one of {', '.join(presets)}")
    return presets[name]


def _link(name: str, raw: Mapping[str, Any]) -> Link:
    if set(raw) != {"description", *_NUMBERS}:
        raise FormatError(f"link '{name}' must hold description, {', '.join(_NUMBERS)}")
    numbers: dict[str, float] = {}
    sources: dict[str, Source] = {}
    for key in _NUMBERS:
        value, status, text = raw[key]
        if status not in STATUSES or not text:
            raise FormatError(
                f"link '{name}', {key}: no status of {', '.join(STATUSES)}, or no source"
            )
        numbers[key] = float(value)
        sources[key] = Source(status, text)
    return Link(
        **numbers,
        name=name,
        description=str(raw["description"]),
        sources=MappingProxyType(sources),
    )
