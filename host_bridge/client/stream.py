"""One gRPC stream to a cloud server, as plain calls: bytes out, bytes back, or a `Setback`.

gRPC's synchronous stream, because it was as fast as asyncio driven from a plain loop (p50 0.19 to 0.24
ms against 0.18 to 0.27 on the calling thread, 0.22 to 0.33 on a thread of its own; 2 cores), works
where an event loop is already running, as in notebooks, and beside an asyncio server in one process,
where a second asyncio loop made gRPC log errors of its own.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from host_bridge._grpc import METHOD, SERVICE, grpc
from host_bridge.client.channels import Channels
from host_bridge.client.faults import Setback, explain, silent
from host_bridge.client.watchdog import Watchdog
from neucodex_lava.errors import BridgeError

_CLOSE_WITHIN_S: Final = 1.0
_MOST_UNREAD: Final = 64


def _nowhere() -> str:
    return ""


class Stream:
    """A stream over a shared channel; for one thread at a time. Any error ends it for good.

    Args:
        channels: where the connection comes from.
        target: host:port of the server.
        timeout_s: longest wait without hearing anything, in seconds.
        metadata: what the call carries beside what `channels` adds.
        was_open: whether a server has taken the session before.
    """

    def __init__(
        self,
        channels: Channels,
        target: str,
        timeout_s: float,
        metadata: tuple[tuple[str, str], ...] = (),
        *,
        was_open: bool = False,
    ) -> None:
        self.target = target
        self.was_open = was_open
        self._timeout_s = timeout_s
        self._unheard_s = 0.0
        self._channels, self._lease = channels, channels.take(target)
        self._lock, self._ended = threading.Lock(), False
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Once it is full nothing is read any more, and HTTP/2 stops the server.
        self._inbox: queue.Queue[bytes | Exception] = queue.Queue(_MOST_UNREAD)
        self._reader: threading.Thread | None = None
        method = self._lease.channel.stream_stream(f"/{SERVICE}/{METHOD}")
        self._call: Any = method(
            iter(self._outbox.get, None), metadata=(*channels.metadata, *metadata)
        )
        self._watchdog = Watchdog(timeout_s, self._call.cancel)

    def send(self, raw: bytes) -> None:
        """Send a message; a failure shows at the next `receive`."""
        self._outbox.put(raw)

    def receive(
        self, within_s: float = math.inf, where: Callable[[], str] = _nowhere
    ) -> bytes | None:
        """Wait for the next message.

        Args:
            within_s: how long, in seconds. The first limit that is given starts a thread that reads,
                which makes every message wait for one thread more.
            where: names sample and timestep for an error's text; nothing before the session is open.

        Returns:
            The message, or None when none came within that time.

        Raises:
            Setback: nobody there, silence for `timeout_s` in all, or the connection was lost.
            BridgeError: refused for good.
        """
        try:
            if within_s == math.inf and self._reader is None:
                return self._receive_here()
            return self._receive_from_reader(within_s)
        except StopIteration:
            self.abandon(dead=True)
            error = BridgeError(
                f"the cloud server at {self.target} ended the session", status="UNAVAILABLE"
            )
            raise Setback(error) from None
        except grpc().RpcError as error:
            overdue = self._watchdog.expired
            told = explain(self.target, error, where(), self.was_open)
            self.abandon(dead=overdue or (isinstance(told, Setback) and told.cut))
            raise (silent(self.target, self._timeout_s, where()) if overdue else told) from error
        except TimeoutError:
            self.abandon(dead=True)
            raise silent(self.target, self._timeout_s, where()) from None
        except BaseException:
            self.abandon()
            raise

    def _receive_here(self) -> bytes:
        self._watchdog.arm()
        answer: bytes = next(self._call)
        self._watchdog.disarm()
        return answer

    def _receive_from_reader(self, within_s: float) -> bytes | None:
        self._read_on()
        left_s = self._timeout_s - self._unheard_s
        began = time.monotonic()
        try:
            heard = self._inbox.get(timeout=max(0.0, min(within_s, left_s)))
        except queue.Empty:
            # Only waiting counts: an edge that was busy elsewhere has not been kept waiting.
            self._unheard_s += time.monotonic() - began
            if within_s >= left_s:
                raise TimeoutError from None
            return None
        self._unheard_s = 0.0
        if isinstance(heard, Exception):
            raise heard
        return heard

    def _read_on(self) -> None:
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name="neucodex-reader", daemon=True)
            self._reader.start()

    def _read(self) -> None:
        try:
            for raw in self._call:
                if self._ended:
                    break
                self._inbox.put(raw)
            self._inbox.put(StopIteration())
        except Exception as error:
            self._inbox.put(error)

    def close(self, last: bytes) -> None:
        """Send a last message and wait, briefly, until the server has ended the stream."""
        if not self._ended and self._call.is_active():
            self._outbox.put(last)
            self._outbox.put(None)
            self._read_on()
            until = time.monotonic() + min(_CLOSE_WITHIN_S, self._timeout_s)
            with contextlib.suppress(queue.Empty):
                while (left_s := until - time.monotonic()) > 0:
                    if isinstance(self._inbox.get(timeout=left_s), Exception):
                        break
        self.abandon()

    def abandon(self, *, dead: bool = False) -> None:
        """Cut the stream; may be called again, and from another thread.

        Args:
            dead: the connection is suspect as well.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._outbox.put(None)
        self._call.cancel()
        self._watchdog.stop()
        # Room for what the reader holds: it puts one message and the end, at most.
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()
        self._inbox.put(StopIteration())
        self._channels.give_back(self._lease, dead=dead)
