"""One gRPC stream to a cloud server, as a plain call: bytes out, bytes back, or a `BridgeError`.

gRPC's synchronous stream, because it was as fast as asyncio driven from a plain loop (p50 0.19 to 0.24
ms against 0.18 to 0.27 on the calling thread, 0.22 to 0.33 on a thread of its own; 2 cores), works
where an event loop is already running, as in notebooks, and beside an asyncio server in one process,
where a second asyncio loop made gRPC log errors of its own.
"""

from __future__ import annotations

import queue
from typing import Any, Final

from host_bridge._grpc import COMMON_OPTIONS, METHOD, SERVICE, grpc
from host_bridge.client.faults import explain, silent
from host_bridge.messages import HEADER_BYTES, MAX_CLASSES, MAX_JSON_BYTES
from host_bridge.client.watchdog import Watchdog
from neucodex_lava.errors import BridgeError

MAX_REPLY_PAYLOAD: Final = max(MAX_JSON_BYTES, 4 + 4 * MAX_CLASSES)
"""The longest payload an edge takes, in bytes."""

_OPTIONS: Final = [
    *COMMON_OPTIONS,
    ("grpc.max_receive_message_length", HEADER_BYTES + MAX_REPLY_PAYLOAD),
    ("grpc.enable_retries", 0),
]
_CLOSE_WITHIN_S: Final = 1.0


class Stream:
    """A connected stream; for one thread at a time. Any error ends it for good.

    Args:
        target: host:port of the server.
        timeout_s: longest wait for any one answer, in seconds.
    """

    def __init__(self, target: str, timeout_s: float) -> None:
        self.ended = False
        self._target = target
        self._timeout_s = timeout_s
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel: Any = grpc().insecure_channel(target, options=_OPTIONS)
        self._call: Any = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")(
            iter(self._outbox.get, None)
        )
        self._watchdog = Watchdog(timeout_s, self._call.cancel)

    def send(self, raw: bytes) -> None:
        """Send a message that has no answer; a failure shows at the next `ask`."""
        self._outbox.put(raw)

    def ask(self, raw: bytes, where: str) -> bytes:
        """Send a message and wait for its answer.

        Args:
            raw: the encoded message.
            where: sample and timestep for the error's text; empty before the session is open.

        Raises:
            BridgeError: nobody there, no answer in time, or the connection was lost.
        """
        self._watchdog.arm()
        self._outbox.put(raw)
        try:
            answer: bytes = next(self._call)
        except StopIteration:
            self.abandon()
            raise BridgeError(f"the cloud server at {self._target} ended the session") from None
        except grpc().RpcError as error:
            expired = self._watchdog.expired
            self.abandon()
            if expired:
                raise silent(self._target, self._timeout_s, where) from None
            raise explain(self._target, error, where) from error
        except BaseException:
            # An interrupted wait leaves an answer under way that nobody would match to its question.
            self.abandon()
            raise
        self._watchdog.disarm()
        return answer

    def close(self, last: bytes) -> None:
        """Send a last message and wait, briefly, until the server has ended the stream."""
        if not self.ended and self._call.is_active():
            self._outbox.put(last)
            self._outbox.put(None)
            closing = Watchdog(min(_CLOSE_WITHIN_S, self._timeout_s), self._call.cancel)
            closing.arm()
            try:
                next(self._call, None)
            except grpc().RpcError:
                pass  # It was to end anyway.
            finally:
                closing.stop()
        self.abandon()

    def abandon(self) -> None:
        """Cut the stream and the connection; may be called again."""
        if self.ended:
            return
        self.ended = True
        self._outbox.put(None)
        self._watchdog.stop()
        self._call.cancel()
        self._channel.close()
