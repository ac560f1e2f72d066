"""A server for programs without asyncio: in a thread of theirs, or as the whole process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final

from host_bridge.security.server import ServerSecurity
from host_bridge.server.limits import Limits
from host_bridge.server.metrics import serve_metrics
from host_bridge.server.server import DEFAULT_HOST, DEFAULT_PORT, BridgeServer, start_server
from host_bridge.tail import Tail
from neucodex_lava.errors import ConfigError, NeucodexError

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_LOG: Final = logging.getLogger(__name__)


@contextmanager
def serving(
    tails: Mapping[str, Tail] | Tail,
    host: str = DEFAULT_HOST,
    port: int = 0,
    *,
    limits: Limits | None = None,
    security: ServerSecurity | None = None,
    grace_s: float = 0.5,
) -> Generator[str, None, None]:
    """Serve from a thread of this process while the block runs; gives the address, host:port.

    Start Lava before it: Lava forks, and a fork does not carry gRPC's threads over.

    Args:
        tails, host, port, limits, security: as `start_server` takes them; any free port by default.
        grace_s: seconds that open samples get when the block ends.

    Raises:
        ConfigError, BridgeError: as `start_server`; ConfigError also for a grace that is no length.
    """
    _check_grace(grace_s)
    listening: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        server = await start_server(tails, host, port, limits=limits, security=security)
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
    reload: Callable[[], Mapping[str, Tail]] | None = None,
    limits: Limits | None = None,
    security: ServerSecurity | None = None,
    services: bool = False,
    metrics_port: int | None = None,
    grace_s: float = 0.5,
) -> None:
    """Serve until SIGINT or SIGTERM; call it from the main thread.

    The first signal drains: open sessions are told, and have `grace_s` seconds to finish their
    samples. A second one ends them at once.

    Args:
        tails, host, port, limits, security, services: as `start_server` takes them.
        on_listening: called once with host and port when clients may come.
        reload: on SIGHUP, gives the tails to serve from then on; called in a thread. When it raises,
            or they cannot be served, the old ones stay.
        metrics_port: also answer Prometheus on this port of 127.0.0.1; 0 takes a free one.
        grace_s: seconds that open samples get after the signal.

    Raises:
        ConfigError, BridgeError, MissingDependencyError: as `start_server` and `serve_metrics`;
            ConfigError also for a grace that is no length.
    """
    _check_grace(grace_s)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stop, stop_now = asyncio.Event(), asyncio.Event()
        reloading = asyncio.Lock()

        def signalled() -> None:
            (stop_now if stop.is_set() else stop).set()

        async def take_anew() -> None:
            async with reloading:
                await _reload(server, reload)

        def hung_up() -> None:
            task = loop.create_task(take_anew())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, signalled)
        server = await start_server(
            tails, host, port, limits=limits, security=security, services=services
        )
        tasks: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGHUP, hung_up)
        end_metrics: Callable[[], None] | None = None
        try:
            if metrics_port is not None:
                end_metrics = serve_metrics(server.stats, lambda: server.sessions, metrics_port)
            if on_listening is not None:
                on_listening(server.host, server.port)
            # What is loaded now stays for good: the collector need not walk over torch in mid-step.
            gc.collect()
            gc.freeze()
            await stop.wait()
        finally:
            await server.stop(grace_s if stop.is_set() else 0, stop_now)
            if end_metrics is not None:
                end_metrics()

    asyncio.run(serve())


def _check_grace(grace_s: float) -> None:
    # NaN fails this comparison too.
    if not grace_s >= 0:
        raise ConfigError(f"a grace of {grace_s:g} s is no length", "give 0 or more seconds")


async def _reload(server: BridgeServer, load: Callable[[], Mapping[str, Tail]] | None) -> None:
    if load is None:
        _LOG.info("nothing to load anew")
        return
    try:
        tails = await asyncio.get_running_loop().run_in_executor(None, load)
        fresh = server.replace(tails)
    except NeucodexError as error:
        _LOG.error("the bundles stay as they are: %s", error)
    except Exception:
        _LOG.exception("the bundles stay as they are: loading them anew failed")
    else:
        for model in fresh:
            _LOG.info("bundle %s is served to new sessions", model)
        if not fresh:
            _LOG.info("no bundle has changed")
