"""Options that say what a server grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host_bridge.server.limits import Limits


@dataclass(frozen=True, kw_only=True)
class SessionLimits:
    """Of a server, in all and to each session."""

    max_sessions: int = 2048
    """Sessions held at once; one more is refused."""
    max_sessions_per_peer: int = 0
    """Sessions of one name (of a token or certificate) at once; 0 for no such limit."""
    max_ahead: int = 4
    """Codes of a session that may be unanswered at once."""
    max_batch: int = 64
    """Timesteps taken together, at most one of each session."""
    batch_wait_us: int = 0
    """Microseconds that an idle tail waits for company."""
    max_queue: int = 1024
    """Timesteps of a bundle that may wait; for one more the edge is told when to try again."""
    max_wait: float = 2.5
    """Seconds that a timestep may be expected to wait; beyond, the edge is told when to try again."""
    messages_per_s: float = 0
    """Messages read from one session a second; a faster one is held up; 0 for no such limit."""
    opens_per_s: float = 0
    """Sessions that one name may open a second; one more is refused; 0 for no such limit."""
    idle: float = 300
    """Seconds after which a session that says nothing is ended; 0 for never."""

    def limits(self) -> Limits:
        """What they say; `ConfigError` for one out of its range."""
        from host_bridge.server.limits import Limits

        return Limits(
            max_sessions=self.max_sessions,
            max_sessions_per_peer=self.max_sessions_per_peer,
            max_ahead=self.max_ahead,
            max_batch=self.max_batch,
            batch_wait_us=self.batch_wait_us,
            max_queue=self.max_queue,
            max_wait_s=self.max_wait,
            messages_per_s=self.messages_per_s,
            opens_per_s=self.opens_per_s,
            idle_s=self.idle,
        )
