"""The cloud's end of the bridge: a gRPC asyncio server that holds one `Conversation` per stream."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any, Final

from host_bridge._grpc import COMMON_OPTIONS, METHOD, SERVICE, grpc
from host_bridge.address import join_address
from host_bridge.handshake import Refusal
from host_bridge.security.server import ServerSecurity
from host_bridge.server.conversation import LAST_WORDS_S, Conversation
from host_bridge.server.hub import DRAINING, Hub
from host_bridge.server.limits import Limits
from host_bridge.server.logs import log_refusal
from host_bridge.server.services import HealthService, add_services
from host_bridge.server.stats import Stats
from host_bridge.server.tracing import session_spans
from host_bridge.tail import Tail
from neucodex_lava.errors import BridgeError, ConfigError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 50_051
INLINE_BELOW_S: Final = 0.2e-3
"""A lone session whose latest step took less is served on the event loop: handing a step to a thread
and back cost 0.1 ms in itself (measured, 2 cores), and there is nobody else to hold up."""

_DRAIN_LOOK_S: Final = 0.02

_OTHER_STREAMS: Final = 128
"""Of one connection beyond `max_sessions`: those that are told of that limit, and health checks."""

_LOG: Final = logging.getLogger(__name__)


async def start_server(
    tails: Mapping[str, Tail] | Tail,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    limits: Limits | None = None,
    security: ServerSecurity | None = None,
    services: bool = False,
    inline_below_s: float = INLINE_BELOW_S,
) -> BridgeServer:
    """Start serving on the running event loop.

    Args:
        tails: one tail, or several by the sha256 of their bundle.
        host: address to listen on; loopback, unless `security` protects another.
        port: TCP port; 0 takes a free one.
        limits: what it grants; the defaults of `Limits`.
        security: TLS, and who is let in; by default a plain port for anyone on this machine.
        services: health (grpc.health.v1) and reflection beside the bridge; needs the extra ``cloud``.
        inline_below_s: see `INLINE_BELOW_S`; 0 hands every step to a thread.

    Raises:
        ConfigError: a host that nothing protects, a port out of range, a tail out of limits.
        BridgeError: the address cannot be listened on, for instance because the port is in use.
        MissingDependencyError: `services` without their packages, or tracing asked for without them.
    """
    if not 0 <= port <= 0xFFFF:
        raise ConfigError(f"port is {port}, expected 0..65535")
    security = security or ServerSecurity()
    security.check_host(host)
    hub = Hub(tails, limits or Limits(), inline_below_s)
    hub.trace = session_spans()
    server = BridgeServer(hub, host, security)
    await server.start(port, services=services)
    return server


class BridgeServer:
    """A running server; made by `start_server`.

    Attributes:
        host: the address it listens on.
        port: the TCP port it listens on.
    """

    def __init__(self, hub: Hub, host: str, security: ServerSecurity) -> None:
        self.host = host
        self.port = 0
        self._hub = hub
        self._security = security
        self._server: Any = None
        self._health: HealthService | None = None
        self._reaper: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port, as clients take it."""
        return join_address(self.host, self.port)

    @property
    def sessions(self) -> int:
        """How many streams are open now."""
        return len(self._hub.conversations)

    @property
    def stats(self) -> Stats:
        """What it has counted."""
        return self._hub.stats

    @property
    def models(self) -> list[str]:
        """The bundles that new sessions may open, by sha256."""
        return list(self._hub.bundles)

    async def start(self, port: int, *, services: bool) -> None:
        """Listen on `port`; 0 takes a free one. `BridgeError` when that fails."""
        _check_free(self.host, port)
        limits = (
            ("grpc.max_receive_message_length", self._hub.message_limit),
            ("grpc.max_concurrent_streams", self._hub.limits.max_sessions + _OTHER_STREAMS),
        )
        self._server = grpc().aio.server(options=[*COMMON_OPTIONS, *limits])
        method = grpc().stream_stream_rpc_method_handler(self._infer)
        self._server.add_generic_rpc_handlers(
            (grpc().method_handlers_generic_handler(SERVICE, {METHOD: method}),)
        )
        if services:
            self._health = add_services(self._server)
        try:
            self.port = self._security.add_port(self._server, join_address(self.host, port))
        except RuntimeError as error:
            raise _cannot_listen(self.host, port, "gRPC cannot bind it") from error
        await self._server.start()
        if self._health is not None:
            await self._health.set_serving(True)
        self._reaper = asyncio.create_task(self._hub.reap())
        _LOG.info("listening on %s, %d bundle(s)", self.address, len(self._hub.bundles))

    def replace(self, tails: Mapping[str, Tail] | Tail) -> list[str]:
        """Serve these bundles to new sessions; open ones keep what they have. See `Hub.replace`."""
        return self._hub.replace(tails)

    async def stop(self, grace_s: float = 0.5, hurry: asyncio.Event | None = None) -> None:
        """Drain, end what is then still open, and stop listening.

        No session is taken from now on, and the open ones are told by DRAIN: a client cannot see that
        a server wants to go while a stream is open. Once none is in a sample, each gets an ERROR.

        Args:
            grace_s: longest wait for the running samples, in seconds.
            hurry: wait no longer once this is set.
        """
        await self._drain()
        if not await self._samples_ended(grace_s, hurry):
            _LOG.info("%d sessions are ended within a sample", self.sessions)
        self._hub.end_all(
            self._hub.conversations, BridgeError(DRAINING, "open it anew", "UNAVAILABLE")
        )
        await self._server.stop(LAST_WORDS_S)
        if self._reaper is not None:
            self._reaper.cancel()
        self._hub.close()
        _LOG.info("stopped listening on %s", self.address)

    async def _drain(self) -> None:
        if self._hub.draining:
            return
        self._hub.draining = True
        if self._health is not None:
            await self._health.set_serving(False)
        _LOG.info("draining: %d sessions are open", self.sessions)
        for conversation in list(self._hub.conversations):
            conversation.drain(self._hub.limits.retry_after_ms)

    async def _samples_ended(self, grace_s: float, hurry: asyncio.Event | None) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while any(conversation.in_sample for conversation in self._hub.conversations):
            if loop.time() >= until or (hurry is not None and hurry.is_set()):
                return False
            await asyncio.sleep(_DRAIN_LOOK_S)
        return True

    async def _infer(self, _requests: Any, context: Any) -> None:
        try:
            peer = self._security.authorise(context.invocation_metadata(), context.auth_context())
        except BridgeError as error:
            await self._turn_away(context, error)
        else:
            await Conversation(self._hub, context, peer).run()

    async def _turn_away(self, context: Any, error: BridgeError) -> None:
        # The status alone: flow control holds up messages, ERROR too, but not what ends a stream, and
        # a stranger that reads nothing would keep it for good.
        reason = Refusal.of(error)
        self._hub.stats.refused[reason.status] += 1
        log_refusal("-" * 16, context.peer(), reason, error)
        await context.abort(getattr(grpc().StatusCode, reason.status), reason.message)


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
