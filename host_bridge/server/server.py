"""The cloud's end of the bridge: a gRPC asyncio server that holds one `Session` per stream."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from host_bridge._grpc import COMMON_OPTIONS, METHOD, SERVICE, grpc
from host_bridge.address import is_loopback, join_address
from host_bridge.codecs import check_shape
from host_bridge.messages import Kind
from host_bridge.server.session import Session, message_limit
from host_bridge.tail import Tail
from neucodex_lava.errors import BridgeError, ConfigError, NeucodexError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 50_051
DEFAULT_MAX_SESSIONS: Final = 64
INLINE_BELOW_S: Final = 0.2e-3
"""A lone session whose latest step took less is served on the event loop: handing a step to a thread
and back cost 0.1 ms in itself (measured, 2 cores), and there is nobody else to hold up."""

_LAST_WORDS_S: Final = 0.5
"""How long a stopping server tries to tell its open sessions so."""

_LOG: Final = logging.getLogger(__name__)


async def start_server(
    tails: Mapping[str, Tail] | Tail,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    max_sessions: int = DEFAULT_MAX_SESSIONS,
    allow_remote: bool = False,
    inline_below_s: float = INLINE_BELOW_S,
) -> BridgeServer:
    """Start serving on the running event loop.

    Args:
        tails: one tail, or several by the sha256 of their bundle.
        host: address to listen on; loopback unless `allow_remote`.
        port: TCP port; 0 takes a free one.
        max_sessions: streams held at once; further ones are refused with RESOURCE_EXHAUSTED.
        allow_remote: listen on other addresses than loopback, although nobody is authenticated.
        inline_below_s: see `INLINE_BELOW_S`; 0 hands every step to a thread.

    Raises:
        ConfigError: a host that is not loopback, a port or limit out of range, a tail out of limits.
        BridgeError: the address cannot be listened on, for instance because the port is in use.
    """
    served = _by_model(tails)
    if max_sessions < 1:
        raise ConfigError(f"max_sessions is {max_sessions}, expected 1 or more")
    if not 0 <= port <= 0xFFFF:
        raise ConfigError(f"port is {port}, expected 0..65535")
    if not allow_remote and not is_loopback(host):
        raise ConfigError(
            f"host {host} is not loopback and the bridge authenticates nobody",
            "listen on 127.0.0.1, or accept the risk with --allow-remote",
        )
    server = BridgeServer(served, host, max_sessions, inline_below_s)
    await server.start(port)
    return server


class BridgeServer:
    """A running server; made by `start_server`.

    Attributes:
        host: the address it listens on.
        port: the TCP port it listens on.
        sessions: how many streams are open now.
    """

    def __init__(
        self, tails: Mapping[str, Tail], host: str, max_sessions: int, inline_below_s: float
    ) -> None:
        self.host = host
        self.port = 0
        self.sessions = 0
        self._tails = tails
        self._max_sessions = max_sessions
        self._inline_below_s = inline_below_s
        self._workers = ThreadPoolExecutor(thread_name_prefix="neucodex-tail")
        self._server: Any = None
        self._streams: set[asyncio.Task[Any]] = set()
        self._stopping = False

    @property
    def address(self) -> str:
        """host:port, as clients take it."""
        return join_address(self.host, self.port)

    async def start(self, port: int) -> None:
        """Listen on `port`; 0 takes a free one. `BridgeError` when that fails."""
        _check_free(self.host, port)
        limit = message_limit(self._tails)
        self._server = grpc().aio.server(
            options=[*COMMON_OPTIONS, ("grpc.max_receive_message_length", limit)]
        )
        method = grpc().stream_stream_rpc_method_handler(self._infer)
        self._server.add_generic_rpc_handlers(
            (grpc().method_handlers_generic_handler(SERVICE, {METHOD: method}),)
        )
        try:
            self.port = self._server.add_insecure_port(join_address(self.host, port))
        except RuntimeError as error:
            raise _cannot_listen(self.host, port, "gRPC cannot bind it") from error
        await self._server.start()
        _LOG.info("listening on %s, %d bundle(s)", self.address, len(self._tails))

    async def stop(self, grace_s: float = 0.5) -> None:
        """Take no new sessions, give the open ones `grace_s` seconds to end, then end them.

        A client cannot see that a server wants to go while a stream is open, so each gets an ERROR.
        """
        self._stopping = True
        ending = asyncio.create_task(self._server.stop(grace_s + _LAST_WORDS_S))
        if self._streams:
            await asyncio.wait(self._streams, timeout=grace_s)
        for stream in self._streams:
            stream.cancel()
        await ending
        self._workers.shutdown(wait=False, cancel_futures=True)
        _LOG.info("stopped listening on %s", self.address)

    async def _infer(self, _requests: Any, context: Any) -> None:
        if self.sessions >= self._max_sessions:
            _LOG.warning("session %s refused: %d are open", "-" * 16, self.sessions)
            await context.abort(
                grpc().StatusCode.RESOURCE_EXHAUSTED,
                f"the server already holds {self.sessions} sessions, its limit",
            )
        self.sessions += 1
        session = Session(self._tails)
        stream = asyncio.current_task()
        assert stream is not None
        self._streams.add(stream)
        try:
            await self._converse(session, context)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            await context.write(session.refusal(BridgeError("the cloud server is stopping")))
        finally:
            # Also on the way of a cancelled or broken stream: nothing of a lost edge is kept.
            session.free()
            self.sessions -= 1
            self._streams.discard(stream)
            _LOG.info("session %s ended", session.name)

    async def _converse(self, session: Session, context: Any) -> None:
        end_of_stream = grpc().aio.EOF
        while not session.closed:
            raw = await context.read()
            if raw is end_of_stream:
                return
            try:
                reply = await self._answer(session, raw)
            except NeucodexError as error:
                _LOG.warning("session %s refused: %s", session.name, error)
                reply, session.closed = session.refusal(error), True
            except Exception as error:
                _LOG.exception("session %s: the tail failed", session.name)
                reply, session.closed = session.refusal(error), True
            if reply is not None:
                await context.write(reply)

    async def _answer(self, session: Session, raw: bytes) -> bytes | None:
        message = session.read(raw)
        inline = self.sessions == 1 and session.last_step_s < self._inline_below_s
        if message.kind is Kind.CODE and not inline:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._workers, session.answer, message)
        reply = session.answer(message)
        if message.kind is Kind.OPEN:
            _LOG.info("session %s opened: %s", session.name, session.peer)
        return reply


def _by_model(tails: Mapping[str, Tail] | Tail) -> dict[str, Tail]:
    if isinstance(tails, Mapping):
        served = dict(tails)
    else:
        served = {tails.model: tails}
    if not served:
        raise ConfigError("no bundle to serve", "give at least one: neucodex serve BUNDLE")
    for model, tail in served.items():
        if model != tail.model:
            raise ConfigError(f"a tail of bundle {tail.model} is registered as {model}")
        try:
            check_shape(tail.code_shape, tail.code_bits)
        except NeucodexError as error:
            raise ConfigError(f"bundle {model}: {error.message}") from error
    return served


def _check_free(host: str, port: int) -> None:
    # gRPC would log several lines of its own on a port in use; a plain socket says it in one.
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise _cannot_listen(host, port, error.strerror or str(error)) from error


def _cannot_listen(host: str, port: int, reason: str) -> BridgeError:
    return BridgeError(
        f"cannot listen on {join_address(host, port)}: {reason.lower()}",
        "stop the program that holds the port, or take another one with --port",
    )
