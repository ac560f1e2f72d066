"""A session's link: used while it holds, mended when it breaks, given up when patience is over."""

from __future__ import annotations

import math
import time

from host_bridge.client.connector import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    OPENING_S,
    Connected,
    Connector,
)
from host_bridge.client.exchange import Exchange
from host_bridge.client.faults import GAP, Setback
from host_bridge.client.log import LinkCounts, SampleLog
from host_bridge.handshake import Opened
from neucodex_lava.errors import BridgeError, ProtocolError

_MOST_DOUBLINGS = 16
_SEEN_ONCE_MORE = ("INTERNAL", GAP)


class SessionLink:
    """Carries the running sample over whatever stream there is. For one thread at a time.

    Args:
        connector: opens the session, again and again.
        patience_s: how long a sample waits for a lost link or a busy server, in seconds.

    Attributes:
        exchange: the running sample on the present stream; None without one.
        counts: what was met on the way.
        classes, gain: of the tail; 0 and NaN before the session is open.
    """

    def __init__(self, connector: Connector, patience_s: float) -> None:
        self.exchange: Exchange | None = None
        self.counts = LinkCounts()
        self.classes, self.gain = 0, math.nan
        self._connector, self._patience_s = connector, patience_s
        self._losses, self._trouble_since = 0, math.inf
        self._first_loss: BridgeError | None = None
        self._failed_at: tuple[int, int] | None = None

    @property
    def target(self) -> str:
        """The server that the session is on; without a stream the one that comes first."""
        return self.exchange.stream.target if self.exchange else self._connector.targets.first

    def open(self, *, required: bool) -> None:
        """Open the session for the first time; without `required` in the background if need be.

        Raises:
            BridgeError: it did not come about.
        """
        try:
            limit_s = self._patience_s if required else min(OPENING_S, self._patience_s)
            connected = self._connector.connect(limit_s)
        except Setback as setback:
            error = self._connector.explain(setback.error)
            if required or error is not setback.error:
                raise error from setback
            self._connector.start(FIRST_WAIT_S)
            return
        self._take(connected)

    def begin(self) -> None:
        """Another sample begins; takes over a session that has been opened in the background.

        Raises:
            BridgeError: refused for good.
        """
        if self.exchange is not None:
            self.exchange.begin()
        elif (connected := self._connector.result(0.0)) is not None:
            self._take(connected)

    def fill(self, log: SampleLog) -> None:
        """Send what can be sent now."""
        if self.exchange is not None:
            self.exchange.fill(log)

    def end(self, log: SampleLog) -> int:
        """The sample is over; returns the modelled bytes of the message that says so, if any."""
        exchange = self.exchange
        if exchange is None:
            return 0
        sent_bytes = exchange.end(log)
        if exchange.drain is not None:
            self._leave(exchange)
        return sent_bytes

    def close(self) -> None:
        """End the session; may be called again."""
        exchange, self.exchange = self.exchange, None
        self._connector.stop()
        if exchange is not None:
            exchange.close()

    def listen(self, log: SampleLog, until: float) -> bool:
        """Do the next thing that may bring an answer; False when `until` comes first.

        Raises:
            BridgeError: refused for good, or lost for longer than patience lasts.
        """
        exchange = self.exchange
        try:
            if exchange is None:
                return self._reconnect(log, until)
            if not self._resend(exchange, log, until):
                return False
            within_s = math.inf if until == math.inf else until - time.monotonic()
            raw = exchange.stream.receive(within_s, log.where)
            if raw is None:
                return False
            if not exchange.take(raw, log, until):
                exchange.fill(log)
                # A server that talks without end must not outlast the deadline.
                return until == math.inf or time.monotonic() < until
            self._losses, self._trouble_since = 0, math.inf
            self._first_loss = self._failed_at = None
            if len(log.replies) < len(log.codes):
                exchange.fill(log)
            return True
        except Setback as setback:
            self._lose(setback, log)
            return True
        except BaseException:
            self.exchange = None
            if exchange is not None:
                exchange.stream.abandon()
            raise

    def _resend(self, exchange: Exchange, log: SampleLog, until: float) -> bool:
        """Send again what a busy server did not take; False when `until` comes first."""
        if exchange.resend_at == -math.inf:
            return True
        now = time.monotonic()
        self._trouble_since = min(self._trouble_since, now)
        patience = self._trouble_since + self._patience_s
        while True:
            if now >= until:
                return False
            if now >= patience:
                raise BridgeError(
                    f"the cloud server at {exchange.stream.target} has been busy for "
                    f"{self._patience_s:g} s at {log.where()}",
                    "try again later",
                    "RESOURCE_EXHAUSTED",
                )
            if now >= exchange.resend_at:
                break
            time.sleep(min(exchange.resend_at, until, patience) - now)
            now = time.monotonic()
        exchange.resend_at = -math.inf
        exchange.fill(log)
        return True

    def _reconnect(self, log: SampleLog, until: float) -> bool:
        """Wait for the session to be open again, and send the sample anew."""
        self._trouble_since = min(self._trouble_since, time.monotonic())
        patience = self._trouble_since + self._patience_s
        connected = self._connector.result(min(until, patience) - time.monotonic())
        if connected is None:
            if time.monotonic() >= patience:
                raise self._given_up()
            return False
        self._take(connected).fill(log)
        return True

    def _take(self, connected: Connected) -> Exchange:
        self.counts.reconnects += self.classes > 0
        self._agree(connected.opened)
        self.exchange = Exchange(connected, self.counts)
        return self.exchange

    def _lose(self, setback: Setback, log: SampleLog) -> None:
        """The stream is gone: begin to connect again, or give up."""
        exchange, self.exchange = self.exchange, None
        self._trouble_since = min(self._trouble_since, time.monotonic())
        at = (log.number, len(log.replies))
        # What failed twice at the same timestep would fail a third time.
        failed_again = setback.error.status in _SEEN_ONCE_MORE and self._failed_at == at
        if setback.error.status in _SEEN_ONCE_MORE:
            self._failed_at = at
        if exchange is not None:
            exchange.stream.abandon()
            wait_s = setback.retry_after_s
            if exchange.drain is not None:
                wait_s = max(wait_s, exchange.drain.retry_after_ms * 1e-3)
            if wait_s:
                self._connector.targets.avoid(exchange.stream.target, wait_s)
            elif self._losses:
                self._connector.targets.set_aside(exchange.stream.target)
        self._first_loss = self._first_loss or setback.error
        if failed_again:
            # It is the sample's, not the link's: the next one begins anew.
            log.failed = True
            self._trouble_since, self._first_loss = math.inf, None
            raise setback.error from setback
        if not self._patience_s:
            raise setback.error from setback
        first_wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**self._losses) if self._losses else 0.0
        self._losses = min(self._losses + 1, _MOST_DOUBLINGS)
        self._connector.targets.last_error = setback.error
        self._connector.start(first_wait_s)

    def _given_up(self) -> BridgeError:
        """What to raise when patience is over: what was lost, and why it did not come back."""
        last = self._connector.targets.last_error
        first = self._first_loss or last or BridgeError(f"{self.target} has not answered")
        why = f": {last.message}" if last is not None and last is not first else ""
        tried = f"; tried again for {self._patience_s:g} s{why}"
        return type(first)(first.message + tried, first.hint, first.status)

    def _leave(self, exchange: Exchange) -> None:
        """Go where the server that drains is not."""
        assert exchange.drain is not None
        self.exchange = None
        exchange.close()
        wait_s = exchange.drain.retry_after_ms * 1e-3
        self._connector.targets.avoid(exchange.stream.target, wait_s)
        self._connector.targets.last_error = BridgeError(
            exchange.drain.message, status="UNAVAILABLE"
        )
        self._connector.start()

    def _agree(self, opened: Opened) -> None:
        """Take over what the server says of itself; the next one must say the same."""
        if self.classes and (self.classes, self.gain) != (opened.classes, opened.gain):
            raise ProtocolError(
                f"a server with {opened.classes} classes and gain {opened.gain:g} has taken over from "
                f"one with {self.classes} and {self.gain:g}",
                status="DATA_LOSS",
            )
        self.classes, self.gain = opened.classes, opened.gain
