"""A server for programs without asyncio: in a thread of theirs, or as the whole process."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

from host_bridge.server.server import (
    DEFAULT_HOST,
    DEFAULT_MAX_SESSIONS,
    DEFAULT_PORT,
    BridgeServer,
    start_server,
)
from host_bridge.tail import Tail

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def serving(
    tails: Mapping[str, Tail] | Tail,
    host: str = DEFAULT_HOST,
    port: int = 0,
    *,
    max_sessions: int = DEFAULT_MAX_SESSIONS,
    grace_s: float = 0.5,
) -> Generator[str, None, None]:
    """Serve from a thread of this process while the block runs; gives the address, host:port.

    Start Lava before it: Lava forks, and a fork does not carry gRPC's threads over.

    Args:
        tails, host, port, max_sessions: as `start_server` takes them; any free port by default.
        grace_s: seconds that open sessions get when the block ends.

    Raises:
        ConfigError, BridgeError: as `start_server`.
    """
    listening: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        server = await start_server(tails, host, port, max_sessions=max_sessions)
        listening.set_result((server.address, asyncio.get_running_loop(), stop))
        await stop.wait()
        await server.stop(grace_s)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    thread = threading.Thread(target=run, name="neucodex-server", daemon=True)
    thread.start()
    try:
        address, loop, stop = listening.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def serve_forever(
    tails: Mapping[str, Tail] | Tail,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    on_listening: Callable[[str, int], None] | None = None,
    max_sessions: int = DEFAULT_MAX_SESSIONS,
    allow_remote: bool = False,
    grace_s: float = 0.5,
) -> None:
    """Serve until SIGINT or SIGTERM; call it from the main thread.

    Args:
        tails, host, port, max_sessions, allow_remote: as `start_server` takes them.
        on_listening: called once with host and port when clients may come.
        grace_s: seconds that open sessions get after the signal.

    Raises:
        ConfigError, BridgeError: as `start_server`.
    """

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, stop.set)
        server: BridgeServer = await start_server(
            tails, host, port, max_sessions=max_sessions, allow_remote=allow_remote
        )
        if on_listening is not None:
            on_listening(server.host, server.port)
        await stop.wait()
        await server.stop(grace_s)

    asyncio.run(serve())
