"""A link in a process: a TCP proxy with rate, delay, jitter and faults, in a thread of its own.

It needs no privileges and works wherever Python does, so every test uses it. What it does not model:
packets, their loss and TCP's answer to it, radio scheduling.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Final

from host_bridge.address import join_address, parse_address
from host_bridge.links.connection import Connection, reset
from host_bridge.links.faults import NONE, Faults
from host_bridge.links.presets import LOOPBACK, Link
from host_bridge.links.road import Road

_HOST: Final = "127.0.0.1"


class FaultProxy:
    """Carries TCP connections to `target`, as a link would::

        proxy = FaultProxy(server_address, link("lte-m"), Faults(reset=0.01), seed=7)
        with proxy as address, EdgeClient(address, ...) as client:
            ...
            proxy.faults = Faults(stalled=True)

    Rate is shared by all connections of a direction, as on a radio. What happens is drawn from `seed`;
    with several connections at once, which of them it hits depends on timing.

    Args:
        target: host:port of the server; may be changed while running, for connections to come.
        link: rate, delay and jitter; none by default.
        faults: what goes wrong; may be changed while running.
        seed: of everything random.

    Attributes:
        connections: how many have been taken so far.
    """

    def __init__(
        self, target: str, link: Link = LOOPBACK, faults: Faults = NONE, seed: int = 0
    ) -> None:
        parse_address(target)
        self.target = target
        self.connections = 0
        self._road = Road(link, faults, seed)
        self._address = ""
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = asyncio.Event()

    @property
    def address(self) -> str:
        """host:port to connect to; empty before it runs."""
        return self._address

    @property
    def faults(self) -> Faults:
        """What goes wrong now."""
        return self._road.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._road.faults = faults
        self._soon(self._wake)

    @property
    def link(self) -> Link:
        """Rate, delay and jitter now; may be changed while running."""
        return self._road.link

    @link.setter
    def link(self, link: Link) -> None:
        self._road.link = link

    @property
    def happened(self) -> Counter[str]:
        """How often each fault was done so far, by its name in `Faults`."""
        return self._road.happened

    @property
    def up_bytes(self) -> int:
        """Bytes handed to the target so far."""
        return self._road.up_bytes

    @property
    def down_bytes(self) -> int:
        """Bytes that came back so far."""
        return self._road.down_bytes

    def reset_all(self) -> None:
        """Reset all connections now."""
        self._soon(self._reset_all)

    def __enter__(self) -> str:
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="neucodex-proxy", daemon=True
        )
        self._thread.start()
        started.result()
        return self._address

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._soon(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    def _soon(self, call: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            # The loop may be closing at this moment, and then there is nothing left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(call)

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self._connected, _HOST, 0)
        port = int(listener.sockets[0].getsockname()[1])
        self._address = join_address(_HOST, port)
        started.set_result(None)
        await self._stop.wait()
        listener.close()
        self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._road.faults.refuse:
            self._road.happened["refuse"] += 1
            reset(writer)
            return
        host, port = parse_address(self.target)
        try:
            there_reader, there_writer = await asyncio.open_connection(host, port)
        except OSError:
            reset(writer)
            return
        connection = Connection(self._road, (reader, writer), (there_reader, there_writer))
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def _wake(self) -> None:
        for connection in self._open:
            connection.wake()

    def _reset_all(self) -> None:
        for connection in list(self._open):
            connection.reset()
