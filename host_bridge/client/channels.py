"""Connections by target: shared by the streams of a process, replaced once one is dead."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

from host_bridge._grpc import COMMON_OPTIONS
from host_bridge.messages import HEADER_BYTES, MAX_CLASSES, MAX_JSON_BYTES
from host_bridge.security import ClientSecurity
from neucodex_lava.errors import BridgeError

MAX_REPLY_PAYLOAD: Final = max(MAX_JSON_BYTES, 4 + 4 * MAX_CLASSES)
"""The longest payload an edge takes, in bytes."""

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    *COMMON_OPTIONS,
    ("grpc.max_receive_message_length", HEADER_BYTES + MAX_REPLY_PAYLOAD),
    # Retries are this package's: gRPC knows nothing of samples.
    ("grpc.enable_retries", 0),
    # Else a new channel would be given the dead connection of the one that it replaces.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(eq=False)
class Lease:
    """A channel for one stream; given back when the stream has ended."""

    target: str
    channel: Any
    users: int = 0
    dead: bool = False


class Channels:
    """One connection a target, for any number of streams and threads.

    Args:
        security: what to trust and to show; by default a plain channel and no token.
    """

    def __init__(self, security: ClientSecurity | None = None) -> None:
        self._security = security or ClientSecurity()
        self._lock = threading.Lock()
        self._current: dict[str, Lease] = {}

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return self._security.metadata()

    def explain(self, target: str) -> BridgeError | None:
        """Why a server cannot be reached, if TLS is the reason; may take two seconds."""
        return self._security.explain(target)

    def take(self, target: str) -> Lease:
        """The target's channel; connects when a call is made over it."""
        with self._lock:
            lease = self._current.get(target)
            if lease is None:
                lease = Lease(target, self._security.channel(target, _OPTIONS))
                self._current[target] = lease
            lease.users += 1
            return lease

    def give_back(self, lease: Lease, *, dead: bool = False) -> None:
        """A stream has ended.

        Args:
            lease: from `take`.
            dead: the connection is suspect: the next stream gets a new one.
        """
        with self._lock:
            lease.users -= 1
            lease.dead |= dead
            if lease.dead and self._current.get(lease.target) is lease:
                del self._current[lease.target]
            if lease.dead and lease.users == 0:
                lease.channel.close()

    def close(self) -> None:
        """Close what nobody uses any more, and the rest when its last stream ends."""
        with self._lock:
            for lease in self._current.values():
                lease.dead = True
                if lease.users == 0:
                    lease.channel.close()
            self._current.clear()
