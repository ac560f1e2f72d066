"""What a server grants, in all and to each session."""

from __future__ import annotations

import math
from dataclasses import dataclass

from host_bridge.handshake import MAX_WAIT_MS
from host_bridge.messages import MAX_TIMESTEPS
from host_bridge.security.rates import Bucket, PeerRates, Rate
from neucodex_lava.errors import ConfigError

_RANGES = {
    "max_sessions": (1, 1_000_000),
    "max_sessions_per_peer": (0, 1_000_000),
    "max_ahead": (1, MAX_TIMESTEPS),
    "max_batch": (1, 65_536),
    "max_queue": (1, 1_000_000),
    "max_wait_s": (0, math.inf),
    "batch_wait_us": (0, 1_000_000),
    "messages_per_s": (0, math.inf),
    "opens_per_s": (0, math.inf),
    "idle_s": (0, math.inf),
    "retry_after_ms": (0, MAX_WAIT_MS),
}


@dataclass(frozen=True)
class Limits:
    """Limits of a server. What goes beyond them is refused with the reason, never dropped silently.

    Args:
        max_sessions: streams held at once; one more is refused with RESOURCE_EXHAUSTED.
        max_sessions_per_peer: the same for one name (of a token or certificate); 0 for no such limit.
        max_ahead: codes of a session that may be unanswered at once.
        max_batch: timesteps a tail takes together, at most one of each session; a tail that says
            what suits it (`best_batch`) may take fewer.
        max_queue: timesteps of a bundle that may wait for their turn; one more is answered by BUSY.
        max_wait_s: the longest wait that a timestep is queued for, by what the tail took lately, in
            seconds; a longer one is answered by BUSY. 0 for no such limit.
        batch_wait_us: how long a tail that is idle waits for company, in microseconds.
        messages_per_s: messages read from one session; a faster one is held up. 0 for no such limit.
        opens_per_s: streams that one name may open; one more is refused with RESOURCE_EXHAUSTED. 0
            for no such limit.
        idle_s: a session that says nothing for so long is ended, in seconds; 0 for never.
        retry_after_ms: when a session that was refused may try again, in milliseconds.

    Raises:
        ConfigError: a value out of its range.
    """

    max_sessions: int = 2048
    max_sessions_per_peer: int = 0
    max_ahead: int = 4
    max_batch: int = 64
    max_queue: int = 1024
    max_wait_s: float = 2.5
    batch_wait_us: int = 0
    messages_per_s: float = 0
    opens_per_s: float = 0
    idle_s: float = 300
    retry_after_ms: int = 1000

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            # NaN fails this comparison too.
            if not least <= value <= most:
                raise ConfigError(f"{name} is {value}, expected {least}..{most}")

    def pace(self) -> Bucket | None:
        """A session's bucket of messages, a second's worth at most; None for no limit."""
        per_s = self.messages_per_s
        return Bucket(_rate(per_s)) if 0 < per_s < math.inf else None

    def openings(self) -> PeerRates | None:
        """A bucket of streams for each name, a second's worth at most; None for no limit."""
        per_s = self.opens_per_s
        return PeerRates(_rate(per_s)) if 0 < per_s < math.inf else None


def _rate(per_s: float) -> Rate:
    return Rate(per_s, max(1, int(per_s)))
