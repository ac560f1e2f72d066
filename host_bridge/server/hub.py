"""What the streams of one server share: the bundles, who is there, the limits, the counts."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from host_bridge.messages import HEADER_BYTES
from host_bridge.server.batcher import Batcher
from host_bridge.server.bundle import ServedBundle
from host_bridge.server.limits import Limits
from host_bridge.server.stats import Stats
from host_bridge.tail import Tail
from neucodex_lava.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from host_bridge.server.conversation import Conversation

DRAINING: Final = "the cloud server is stopping"

_LOG: Final = logging.getLogger(__name__)


class Hub:
    """The one thing that a server's conversations have in common.

    Args:
        tails: one tail, or several by the sha256 of their bundle.
        limits: what it grants.
        inline_below_s: a lone session's step that takes less runs on the event loop.

    Attributes:
        bundles: those that new sessions may open, by sha256.
        payload_limit: the longest payload of a session of one of them, in bytes.
        conversations: the open streams.
        draining: no session is taken any more.
        stats: what has been counted.
        trace: makes a span for a session; None: nobody traces.

    Raises:
        ConfigError: no tail, one under another's name, or one beyond the wire's limits.
    """

    def __init__(
        self, tails: Mapping[str, Tail] | Tail, limits: Limits, inline_below_s: float
    ) -> None:
        self.limits = limits
        self.inline_below_s = inline_below_s
        self.bundles = {model: ServedBundle(tail) for model, tail in by_model(tails).items()}
        # As the port was opened with; it cannot be changed later.
        self.payload_limit = max(bundle.payload_limit for bundle in self.bundles.values())
        self.conversations: set[Conversation] = set()
        self.draining = False
        self.stats = Stats()
        self.trace: Callable[[str, Mapping[str, Any]], Any] | None = None
        self._by_peer: Counter[str] = Counter()
        self._openings = limits.openings()
        self._by_number: dict[tuple[str, int], Conversation] = {}
        self._batchers: dict[ServedBundle, Batcher] = {}
        self._users: Counter[ServedBundle] = Counter()

    @property
    def message_limit(self) -> int:
        """The longest whole message, header included, in bytes."""
        return HEADER_BYTES + self.payload_limit

    def admit(self, conversation: Conversation, now_s: float) -> None:
        """Let a new stream in; `BridgeError` when the server drains or a limit is reached."""
        limits, held = self.limits, len(self.conversations)
        if self.draining:
            raise BridgeError(DRAINING, self._again(), "UNAVAILABLE")
        if held >= limits.max_sessions:
            raise BridgeError(
                f"the server already holds {held} sessions, its limit",
                self._again(),
                "RESOURCE_EXHAUSTED",
            )
        peer = conversation.peer
        if limits.max_sessions_per_peer and self._by_peer[peer] >= limits.max_sessions_per_peer:
            raise BridgeError(
                f"{peer} already holds {self._by_peer[peer]} sessions, the limit of one peer",
                self._again(),
                "RESOURCE_EXHAUSTED",
            )
        if self._openings is not None and self._openings.take(peer, now_s):
            raise BridgeError(
                f"{peer} opens sessions faster than {limits.opens_per_s:g} a second, the limit",
                self._again(),
                "RESOURCE_EXHAUSTED",
            )
        self.conversations.add(conversation)
        self._by_peer[peer] += 1

    def claim(self, conversation: Conversation, number: int, epoch: int) -> None:
        """Make a stream the one of its session; the one it had before is ended.

        Raises:
            BridgeError: the session is held at this epoch or a newer one, status ABORTED; or the server
                drains, UNAVAILABLE.
        """
        if self.draining:
            raise BridgeError(DRAINING, self._again(), "UNAVAILABLE")
        key = conversation.peer, number
        older = self._by_number.get(key)
        if older is not None:
            if older.epoch >= epoch:
                raise BridgeError(
                    f"session {number:016x} is held at epoch {older.epoch}, this is {epoch}",
                    status="ABORTED",
                )
            older.end(
                BridgeError(
                    f"session {number:016x} was taken up at epoch {epoch}", status="ABORTED"
                )
            )
        self._by_number[key] = conversation

    def batcher(self, bundle: ServedBundle) -> Batcher:
        """Where a session of this bundle hands in its steps; `leave` gives it back."""
        self._users[bundle] += 1
        if bundle not in self._batchers:
            self._batchers[bundle] = Batcher(bundle.tail, self.limits, self.stats)
        return self._batchers[bundle]

    def leave(self, conversation: Conversation) -> None:
        """A stream has ended."""
        self.conversations.discard(conversation)
        self._by_peer[conversation.peer] -= 1
        if not self._by_peer[conversation.peer]:
            del self._by_peer[conversation.peer]
        opening = conversation.opening
        if opening is None:
            return
        if self._by_number.get((conversation.peer, opening.number)) is conversation:
            del self._by_number[conversation.peer, opening.number]
        self._users[opening.bundle] -= 1
        self._retire()

    def replace(self, tails: Mapping[str, Tail] | Tail) -> list[str]:
        """Serve these from now on; open sessions keep what they have.

        Returns:
            The models that are new.

        Raises:
            ConfigError: as the class; and codes too long for the port as it was opened. Nothing has
                changed then.
        """
        found = {model: ServedBundle(tail) for model, tail in by_model(tails).items()}
        for model, old in self.bundles.items():
            # Coding tables are no part of a bundle's identity.
            if model in found and found[model].coding == old.coding:
                found[model] = old
        for model, bundle in found.items():
            if bundle.payload_limit > self.payload_limit:
                raise ConfigError(
                    f"bundle {model} has codes of {bundle.payload_limit} bytes, this server was"
                    f" started for {self.payload_limit}",
                    "start it anew",
                )
        fresh = [model for model in found if found[model] is not self.bundles.get(model)]
        # In place: conversations that have not opened yet look into the same mapping.
        for model in [model for model in self.bundles if model not in found]:
            del self.bundles[model]
        self.bundles.update(found)
        self._retire()
        return fresh

    def end_all(self, conversations: Iterable[Conversation], error: BridgeError) -> None:
        """End streams, each with this error."""
        for conversation in list(conversations):
            conversation.end(error)

    async def reap(self) -> None:
        """End sessions that have been idle for too long, for ever."""
        idle_s = self.limits.idle_s
        if not idle_s:
            return
        while True:
            await asyncio.sleep(min(1.0, idle_s / 10))
            then = asyncio.get_running_loop().time() - idle_s
            silent = [one for one in self.conversations if one.heard_s < then]
            reason = f"the session said nothing for {idle_s:g} s"
            self.end_all(silent, BridgeError(reason, status="DEADLINE_EXCEEDED"))

    def close(self) -> None:
        """End the tails' threads."""
        for batcher in self._batchers.values():
            batcher.close()
        self._batchers.clear()

    def _retire(self) -> None:
        served = set(self.bundles.values())
        for bundle in [b for b in self._batchers if b not in served and not self._users[b]]:
            self._batchers.pop(bundle).close()
            del self._users[bundle]
            _LOG.info("bundle %s is no longer in use", bundle.tail.model)

    def _again(self) -> str:
        return f"try again in {self.limits.retry_after_ms} ms"


def by_model(tails: Mapping[str, Tail] | Tail) -> dict[str, Tail]:
    """Tails by the sha256 of their bundle; `ConfigError` when there is none, or under another's."""
    served = dict(tails) if isinstance(tails, Mapping) else {tails.model: tails}
    if not served:
        raise ConfigError("no bundle to serve", "give at least one: neucodex serve BUNDLE")
    for model, tail in served.items():
        if model != tail.model:
            raise ConfigError(f"a tail of bundle {tail.model} is registered as {model}")
    return served
