"""A stream through Ray Serve as the bridge's conversations take streams: read, write, abort."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from host_bridge._grpc import grpc
from host_bridge.messages import Kind

_KIND_AT: Final = 3


class RawMessage(bytes):
    """Bytes that Ray Serve takes for a protobuf message: they go out as they are."""

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """The bytes."""
        return bytes(self)


class CallEndedError(Exception):
    """Ends the call with the status that its context has been given."""


class RayCall:
    """Stands in for the gRPC context of one stream.

    Args:
        requests: what the edge sends, as Ray Serve hands it over.
        context: Ray Serve's `RayServegRPCContext`; its status and trailing metadata reach the edge.
    """

    def __init__(self, requests: Any, context: Any) -> None:
        self._requests, self._context = requests, context
        # Of one message: who writes waits until Ray has taken the message before.
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._aborted = self._unread = False

    async def read(self) -> Any:
        """The next message, or gRPC's mark of the end."""
        try:
            return await self._requests.__anext__()
        except StopAsyncIteration:
            return grpc().aio.EOF

    async def write(self, raw: bytes) -> None:
        """Send a message."""
        await self._out.put(raw)

    async def abort(self, code: Any, message: str, trailing: tuple[tuple[str, str], ...]) -> None:
        """End the stream with a status."""
        self._context.set_code(code)
        self._context.set_details(message)
        self._context.set_trailing_metadata(list(trailing))
        self._aborted = True

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """What the edge's call carries."""
        return list(self._context.invocation_metadata())

    def auth_context(self) -> dict[str, Any]:
        """What TLS knows of the peer: nothing, Ray Serve's port is plain."""
        return dict(self._context.auth_context())

    def peer(self) -> str:
        """The other side's address."""
        return str(self._context.peer())

    async def answers(self, conversation: Any) -> AsyncIterator[RawMessage]:
        """Run a conversation over this stream; what it says, message by message.

        Raises:
            CallEndedError: it ended the call with a status.
        """
        task = asyncio.create_task(self._run(conversation))
        last: bytes | None = None
        try:
            while (raw := await self._out.get()) is not None:
                if raw[_KIND_AT] == Kind.ERROR:
                    # Ray passes the status on with a message, so the last one waits for it.
                    last = raw
                else:
                    yield RawMessage(raw)
            await task
            if last is not None:
                yield RawMessage(last)
            if self._aborted:
                raise CallEndedError(self._context.details())
        finally:
            self._unread = True
            task.cancel()

    async def _run(self, conversation: Any) -> None:
        try:
            await conversation.run()
        finally:
            # Where nobody reads any more, there would never be room.
            if not self._unread:
                await self._out.put(None)
