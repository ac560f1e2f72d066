"""What may go wrong on a link, as data: a `FaultProxy` does it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from neucodex_lava.errors import ConfigError

_SHARES: Final = ("reset", "corrupt", "corrupt_data", "stall")


@dataclass(frozen=True)
class Faults:
    """What a link does beside carrying bytes. A *chunk* is what one read of a socket gave, on an
    unloaded machine mostly one message; shares are probabilities from 0 to 1.

    Args:
        reset: share of chunks at which the connection is reset (TCP RST to both sides).
        corrupt: share of chunks in which one bit is flipped, anywhere: HTTP/2's frames and headers too.
        corrupt_data: share of HTTP/2 DATA frames in which one bit of the payload is flipped: messages
            arrive, damaged. Not for TLS.
        stall: share of chunks before which the connection stands still for `stall_s`.
        stall_s: length of a stall, in seconds.
        stalled: everything stands still until this is taken back; nothing is lost.
        half_open: bytes are swallowed while connections look open, as when the other side lost power;
            what was swallowed never comes.
        refuse: new connections are reset, as with no server there.

    Raises:
        ConfigError: a share outside 0..1, or a negative length.
    """

    reset: float = 0.0
    corrupt: float = 0.0
    corrupt_data: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.0
    stalled: bool = False
    half_open: bool = False
    refuse: bool = False

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"the share {name} is {getattr(self, name)}, expected 0..1")
        if not 0 <= self.stall_s < math.inf:
            raise ConfigError(f"stall_s is {self.stall_s}, expected 0 or more seconds")


NONE: Final = Faults()
