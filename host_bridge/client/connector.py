"""Getting a session onto a server, now or in the background, however often it takes."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from typing import Final

from tenacity import RetryCallState, Retrying, sleep_using_event, wait_random_exponential

from host_bridge.client.channels import Channels
from host_bridge.client.faults import Setback
from host_bridge.client.hearing import hear
from host_bridge.client.stream import Stream
from host_bridge.client.targets import Targets
from host_bridge.handshake import Open, Opened
from host_bridge.messages import Kind, Message, encode
from neucodex_lava.errors import BridgeError, ConfigError, ProtocolError

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 2.0
"""Waits before tries are drawn evenly from 0 to a limit that doubles from the first to the longest."""

OPENING_S: Final = 1.0
"""How long the first connection is tried, where nobody asks for more, in seconds."""

_MAX_EPOCH: Final = 0xFFFF
_TAKEN: Final = "ABORTED"
_SESSION_HEADER: Final = "x-neucodex-session"


@dataclass(frozen=True, eq=False)
class Connected:
    """A session on a server.

    Args:
        stream: after OPENED.
        opened: what the server said.
        session, epoch: that its messages carry.
    """

    stream: Stream
    opened: Opened
    session: int
    epoch: int


class Connector:
    """Opens the session, again and again if need be, in the caller's thread or in its own.

    Args:
        targets: host:port of each server.
        hello: what every OPEN says.
        channels: where connections come from.
        timeout_s: longest wait for any one answer, in seconds.

    Attributes:
        targets: the servers, in the order in which they are asked.
    """

    def __init__(
        self, targets: Sequence[str], hello: Open, channels: Channels, timeout_s: float
    ) -> None:
        self._hello, self._channels, self._timeout_s = hello, channels, timeout_s
        self._session, self._epoch = secrets.randbits(64), -1
        self.targets = Targets(targets, _digits(self._session))
        self._was_open = False
        self._opening: Stream | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._found: Future[Connected] = Future()

    def connect(self, patience_s: float) -> Connected:
        """Open the session for the first time.

        Args:
            patience_s: for how long a server is asked again that says when it may be, in seconds.
                Any other is tried for a second.

        Raises:
            Setback: it did not come about.
            BridgeError: refused for good.
        """

        asked = False

        def enough(state: RetryCallState) -> bool:
            nonlocal asked
            setback = _setback(state)
            asked |= setback is not None and setback.retry_after_s > 0
            limit_s = patience_s if asked else min(OPENING_S, patience_s)
            return (state.seconds_since_start or 0.0) + state.upcoming_sleep > limit_s

        return Retrying(
            retry=_is_setback, wait=_wait, stop=enough, sleep=self._sleep, reraise=True
        )(self._try_each)

    def start(self, first_wait_s: float = 0.0) -> None:
        """Begin to connect in the background, for as long as it takes; `result` has the outcome.

        Args:
            first_wait_s: upper limit of the wait before the first try, in seconds.
        """
        if self._thread is not None:
            return
        self._found = Future()
        self._thread = threading.Thread(
            target=self._run,
            args=(self._found, first_wait_s),
            name="neucodex-connect",
            daemon=True,
        )
        self._thread.start()

    def result(self, within_s: float) -> Connected | None:
        """The session, once it is open again; None when it is not by then.

        Raises:
            BridgeError: refused for good.
        """
        self.start()
        try:
            found = self._found.result(None if within_s == math.inf else max(0.0, within_s))
        except TimeoutError:
            return None
        except BaseException:
            self._thread = None
            raise
        self._thread = None
        return found

    def explain(self, error: BridgeError) -> BridgeError:
        """The same error, or what TLS has to do with it."""
        if error.status != "UNAVAILABLE" or self._was_open:
            return error
        return self._channels.explain(self.targets.first) or error

    def stop(self) -> None:
        """Give up what is under way; may be called again."""
        self._stopped.set()
        if (opening := self._opening) is not None:
            opening.abandon()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
            if self._found.exception() is None:
                self._found.result().stream.abandon()

    def _run(self, found: Future[Connected], first_wait_s: float) -> None:
        try:
            if first_wait_s:
                self._sleep(secrets.SystemRandom().uniform(0.0, first_wait_s))
            retrying = Retrying(
                retry=_is_setback,
                wait=_wait,
                stop=lambda _: self._stopped.is_set(),
                sleep=self._sleep,
                reraise=True,
            )
            found.set_result(retrying(self._try_each))
        except ConfigError as error:
            # A certificate that was there when the session began and is gone or over.
            told = BridgeError(error.message, error.hint, "UNAUTHENTICATED")
            found.set_exception(told)
        except BaseException as error:
            found.set_exception(error)

    def _sleep(self, seconds: float) -> None:
        sleep_using_event(self._stopped)(seconds)

    def _try_each(self) -> Connected:
        return self.targets.try_each(self._open)

    def _open(self, target: str) -> Connected:
        self._epoch += 1
        if self._epoch > _MAX_EPOCH:
            self._renew()
            self._epoch += 1
        stream = Stream(
            self._channels,
            target,
            self._timeout_s,
            ((_SESSION_HEADER, _digits(self._session)),),
            was_open=self._was_open,
        )
        self._opening = stream
        try:
            if self._stopped.is_set():
                raise Setback(BridgeError("the session was closed", status="CANCELLED"))
            payload = self._hello.to_bytes()
            stream.send(encode(Message(Kind.OPEN, self._session, self._epoch, payload=payload)))
            opened = self._read_opened(stream)
        except BaseException as error:
            stream.abandon()
            if isinstance(error, Setback) and error.error.status == _TAKEN:
                # Somebody holds the number at a later epoch. A replay needs nothing of that session.
                self._renew()
            raise
        finally:
            self._opening = None
        self._was_open = True
        return Connected(stream, opened, self._session, self._epoch)

    def _renew(self) -> None:
        self._session, self._epoch = secrets.randbits(64), -1

    def _read_opened(self, stream: Stream) -> Opened:
        raw = stream.receive()
        assert raw is not None, "no limit was set"
        message = hear(stream, raw)
        expected = (Kind.OPENED, self._session, self._epoch)
        if (message.kind, message.session, message.epoch) != expected:
            raise ProtocolError(
                f"the cloud server answered {message.kind.name} for sample {message.sample} timestep "
                f"{message.timestep}, expected OPENED"
            )
        opened = Opened.from_bytes(message.payload)
        if opened.model != self._hello.model:
            raise ProtocolError("the server answered for another bundle than it was asked for")
        return opened


def _digits(session: int) -> str:
    return f"{session:016x}"


def _setback(state: RetryCallState) -> Setback | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, Setback) else None


def _is_setback(state: RetryCallState) -> bool:
    return _setback(state) is not None


_BACKOFF: Final = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)


def _wait(state: RetryCallState) -> float:
    setback = _setback(state)
    return max(_BACKOFF(state), setback.retry_after_s if setback is not None else 0.0)
