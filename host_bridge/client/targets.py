"""Which server a session is opened on: a hash ring, and those that are left alone for a while."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from pybreaker import CircuitBreaker, CircuitBreakerError
from uhashring import HashRing

from host_bridge.client.faults import Setback
from neucodex_lava.errors import BridgeError

BREAKS_AFTER: Final = 5
LEFT_ALONE_S: Final = 3.0
"""A server that failed that often in a row is left alone for that long, in seconds."""

_Found = TypeVar("_Found")


class Targets:
    """Servers in the order of a hash ring, so that the sessions of a dead one spread over the others.

    Args:
        targets: host:port of each.
        key: of the session.

    Attributes:
        last_error: what went wrong last, with any of them.
    """

    def __init__(self, targets: Sequence[str], key: str) -> None:
        ring: Any = HashRing(list(targets))
        nodes = ring.range(key, size=len(targets), unique=True)
        self.order: list[str] = [node["nodename"] for node in nodes]
        self.last_error: BridgeError | None = None
        self._not_before = dict.fromkeys(targets, -math.inf)
        self._breakers = {
            target: CircuitBreaker(
                fail_max=BREAKS_AFTER,
                reset_timeout=LEFT_ALONE_S,
                # Who says when to come again is there, and is asked again then.
                exclude=[lambda error: not isinstance(error, Setback) or error.retry_after_s > 0],
                throw_new_error_on_trip=False,
            )
            for target in targets
        }

    @property
    def first(self) -> str:
        """The one that is asked first."""
        return self.order[0]

    def avoid(self, target: str, seconds: float) -> None:
        """Do not ask a server for that long."""
        self._not_before[target] = time.monotonic() + seconds

    def set_aside(self, target: str) -> None:
        """Ask the other servers first, where there are any: this one takes sessions and breaks them."""
        if len(self.order) > 1:
            self.avoid(target, LEFT_ALONE_S)

    def try_each(self, call: Callable[[str], _Found]) -> _Found:
        """Call with one server after the other until it works, once each but those left alone.

        Raises:
            Setback: with none; it says when the first may be asked again, where one said so.
            BridgeError: refused for good.
        """
        error: BridgeError | None = None
        for target in self.order:
            if time.monotonic() < self._not_before[target]:
                continue
            try:
                return self._breakers[target].call(call, target)
            except CircuitBreakerError:
                continue
            except Setback as setback:
                error = self.last_error = setback.error
                if setback.retry_after_s:
                    self.avoid(target, setback.retry_after_s)
        error = error or self.last_error
        if error is None:
            text = f"the cloud server at {self.first} asks to be left alone"
            error = BridgeError(text, status="UNAVAILABLE")
        soonest_s = min(self._not_before.values()) - time.monotonic()
        raise Setback(error, max(0.0, soonest_s))
