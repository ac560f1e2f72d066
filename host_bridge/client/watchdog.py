"""A limit on how long an answer may take, at no cost to the loop that waits for it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

_LOOKS_PER_TIMEOUT: Final = 20


class Watchdog:
    """Calls `expire` once when an armed wait has lasted `timeout_s` seconds (up to a twentieth more).

    gRPC's own deadline is for a whole stream, and a stream lasts as long as the session. Arming and
    disarming is one assignment, so an exchange of 0.2 ms does not pay for a timer.

    Args:
        timeout_s: longest wait, in seconds.
        expire: called from the watchdog's thread; must make the waiting thread return.
    """

    def __init__(self, timeout_s: float, expire: Callable[[], object]) -> None:
        self.expired = False
        self._timeout_s = timeout_s
        self._expire = expire
        self._deadline = math.inf
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="neucodex-watchdog", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """A wait begins."""
        self._deadline = time.monotonic() + self._timeout_s

    def disarm(self) -> None:
        """The wait is over."""
        self._deadline = math.inf

    def stop(self) -> None:
        """End the watchdog's thread."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._timeout_s / _LOOKS_PER_TIMEOUT):
            if time.monotonic() > self._deadline:
                self.expired = True
                self._expire()
                return
