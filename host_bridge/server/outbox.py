"""What one stream still has to say: written one message at a time, by whoever is at hand."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from host_bridge.server.stats import Stats


class Outbox:
    """Messages on their way to one edge; gRPC takes one at a time.

    Args:
        context: gRPC's, of the stream.
        stats: to count in.

    Attributes:
        broken: the edge is gone, and nothing more is written.
    """

    def __init__(self, context: Any, stats: Stats) -> None:
        self.broken = False
        self._context = context
        self._stats = stats
        self._waiting: deque[bytes] = deque()
        self._writing = False
        self._closed = False
        self._wake: asyncio.Future[None] | None = None
        self._empty: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, *raws: bytes) -> None:
        """Have `run` write these."""
        self._waiting += raws
        self._notify()

    async def put_now(self, raw: bytes) -> None:
        """Write a message from this task, where none is under way: it saves waking another one."""
        if self._writing or self._waiting:
            self.put(raw)
            return
        await self._write(raw)
        if self._closed or self._waiting:
            self._notify()

    async def emptied(self) -> None:
        """Wait until nothing waits; for one task."""
        self._empty = asyncio.get_running_loop().create_future()
        self._notify()
        await self._empty

    def close(self) -> None:
        """Have `run` return once everything is written."""
        self._closed = True
        self._notify()

    async def run(self) -> None:
        """Write what comes, until closed."""
        while True:
            while self._waiting and not self._writing:
                await self._write(self._waiting.popleft())
            if self._empty is not None and not self._waiting:
                if not self._empty.done():
                    self._empty.set_result(None)
                self._empty = None
            if self.broken or (self._closed and not self._waiting and not self._writing):
                return
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def _write(self, raw: bytes) -> None:
        self._writing = True
        try:
            await self._context.write(raw)
            self._stats.bytes_out += len(raw)
        except Exception:  # gRPC's own words for a stream that broke; there is nobody to tell.
            self.broken = True
            self._waiting.clear()
            self._notify()
        finally:
            self._writing = False

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
