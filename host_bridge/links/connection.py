"""One connection through a proxy: its two ends, and the two ways between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from typing import Final

from host_bridge.links.http2 import PREFACE_BYTES, DataFrames
from host_bridge.links.road import Road

_CHUNK_BYTES: Final = 16_384
_IN_FLIGHT_BYTES: Final = 1 << 20
"""How much one way may hold: beyond it the sender is not read."""

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: close sends RST

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connection:
    """A connection to a proxy and its continuation to the target.

    Args:
        road: what the proxy's connections share.
        here: the end towards the client.
        there: the end towards the target.
    """

    def __init__(self, road: Road, here: Ends, there: Ends) -> None:
        self._road = road
        self._here, self._there = here, there
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Carry bytes until both sides have ended, or either is reset."""
        ways = [
            asyncio.create_task(self._carry(self._here[0], self._there[1], up=True)),
            asyncio.create_task(self._carry(self._there[0], self._here[1], up=False)),
        ]
        try:
            await asyncio.gather(*ways)
        except (OSError, asyncio.CancelledError):
            self.reset()
        finally:
            for way in ways:
                way.cancel()
            for _, writer in (self._here, self._there):
                writer.close()

    def wake(self) -> None:
        """Faults have changed."""
        self._changed.set()

    def reset(self) -> None:
        """End both ends with a RST."""
        for _, writer in (self._here, self._there):
            reset(writer)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        way = _Way(self._road, up)
        emptying = asyncio.create_task(self._empty(way, writer))
        filling = asyncio.create_task(_fill(way, reader))
        try:
            # Whichever fails first ends both; a reset shows on the writing side as well.
            await asyncio.gather(filling, emptying)
        finally:
            filling.cancel()
            emptying.cancel()

    async def _empty(self, way: _Way, writer: asyncio.StreamWriter) -> None:
        swallowing = False
        while True:
            chunk = await way.get()
            await self._stand_still()
            # A stream with a hole in it never mends: it stays half open when others work again.
            swallowing = swallowing or self._road.faults.half_open
            if swallowing:
                self._road.happened["half_open"] += 1
                continue
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            if self._road.happens("reset"):
                raise ConnectionResetError
            writer.write(way.damage(chunk))
            await writer.drain()
            self._road.count(len(chunk), up=way.up)

    async def _stand_still(self) -> None:
        road = self._road
        if road.happens("stall"):
            await asyncio.sleep(road.faults.stall_s)
        while road.faults.stalled:
            road.happened["stalled"] += 1
            self._changed.clear()
            if road.faults.stalled:
                await self._changed.wait()


async def _fill(way: _Way, reader: asyncio.StreamReader) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        await way.put(chunk)
    way.put_end()


class _Way:
    """One direction: chunks on their way, each with the time when it is due."""

    def __init__(self, road: Road, up: bool) -> None:
        self.up = up
        self._road = road
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._due = 0.0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._frames = DataFrames(PREFACE_BYTES if up else 0, self._pick)

    async def put(self, chunk: bytes) -> None:
        """Take a chunk from the sender; waits while too much is under way."""
        while self._bytes > _IN_FLIGHT_BYTES:
            self._room.clear()
            await self._room.wait()
        self._due = max(self._due, self._road.arrival(len(chunk), up=self.up))
        self._add(chunk)

    def put_end(self) -> None:
        """The sender has nothing more to say."""
        self._add(b"")

    async def get(self) -> bytes:
        """The next chunk, when it is due; empty at the end."""
        while not self._chunks:
            self._news.clear()
            await self._news.wait()
        due, chunk = self._chunks.popleft()
        if (wait_s := due - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        self._bytes -= len(chunk)
        self._room.set()
        return chunk

    def damage(self, chunk: bytes) -> bytes:
        """The chunk as it arrives."""
        chunk = self._frames.pass_on(chunk)
        if self._road.happens("corrupt"):
            place, bit = self._road.bit_of(len(chunk))
            chunk = chunk[:place] + bytes((chunk[place] ^ bit,)) + chunk[place + 1 :]
        return chunk

    def _add(self, chunk: bytes) -> None:
        self._chunks.append((self._due, chunk))
        self._bytes += len(chunk)
        self._news.set()

    def _pick(self, length: int) -> tuple[int, int] | None:
        return self._road.bit_of(length) if self._road.happens("corrupt_data") else None


def reset(writer: asyncio.StreamWriter) -> None:
    """End one end of a connection with a RST."""
    transport = writer.transport
    plain = transport.get_extra_info("socket")
    if plain is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()
