"""One stream: a `Session` between gRPC and the tail."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from host_bridge._grpc import grpc
from host_bridge.handshake import Refusal
from host_bridge.messages import Kind
from host_bridge.server.batcher import Batcher
from host_bridge.server.hub import DRAINING, Hub
from host_bridge.server.logs import log, log_refusal
from host_bridge.server.opening import Opening
from host_bridge.server.outbox import Outbox
from host_bridge.server.session import Session
from host_bridge.server.step import Step
from neucodex_lava.errors import BridgeError

LAST_WORDS_S: Final = 0.5
"""How long a session that is ended gets to take the reason."""

_OUTBOX_FULL: Final = 64
"""Messages that an edge may leave unread before nothing more is read from it."""

_RETRY_STATUSES: Final = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


class Conversation:
    """Reads one stream's messages and writes its answers, until either side ends it.

    Two tasks share the stream: one reads, and answers at once what can be answered at once; the other,
    gRPC's own, writes what comes from the tail's batches and ends the call.

    Args:
        hub: of the server.
        context: gRPC's, of this stream.
        peer: the other side's name, for logs and limits.

    Attributes:
        heard_s: when the latest message came, on the event loop's clock.
    """

    def __init__(self, hub: Hub, context: Any, peer: str) -> None:
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self.heard_s = self._loop.time()
        self._hub = hub
        self._context = context
        self._session = Session(hub.bundles, hub.payload_limit, hub.limits.max_ahead, self)
        self._batcher: Batcher | None = None
        self._outbox = Outbox(context, hub.stats)
        self._task: Any = None
        self._last_words: asyncio.TimerHandle | None = None
        self._reason: Refusal | None = None
        self._ended = False
        self._half_closed = False
        self._span: Any = None
        self._pace = hub.limits.pace()

    @property
    def opening(self) -> Opening | None:
        """What the session asked for; None before."""
        return self._session.opening

    @property
    def epoch(self) -> int:
        """How often the session has been taken up again."""
        return self._session.opening.epoch if self._session.opening else 0

    @property
    def in_sample(self) -> bool:
        """Whether a sample is running."""
        return self._session.in_sample

    async def run(self) -> None:
        """The whole conversation; gRPC's handler."""
        self._task = asyncio.current_task()
        try:
            await self._converse()
            if self._reason is not None and not self._outbox.broken:
                await self._abort(self._reason)
        finally:
            if self._last_words is not None:
                self._last_words.cancel()

    async def _converse(self) -> None:
        reader: asyncio.Task[None] | None = None
        try:
            # Whoever was refused before takes no place from those who may come in.
            if not self._ended:
                self._hub.admit(self, self._loop.time())
                reader = self._loop.create_task(self._read())
        except BridgeError as error:
            self.end(error)
        try:
            await self._outbox.run()
        finally:
            # Also on the way of a cancelled or broken stream: nothing of a lost edge is kept.
            self._ended = True
            self._session.free()
            if reader is not None:
                reader.cancel()
                self._leave()

    def end(self, error: Exception | None = None) -> None:
        """End the stream; with an error, say it. What has been answered before still goes out."""
        if self._ended:
            return
        self._ended = True
        self._session.in_sample = False
        if error is not None:
            raw, self._reason = self._session.refusal(error)
            self._outbox.put(raw)
            self._hub.stats.refused[self._reason.status] += 1
            log_refusal(self._session.name, self.peer, self._reason, error)
        # Whoever is refused before `run` has no task yet.
        self._last_words = self._loop.call_later(LAST_WORDS_S, lambda: self._task.cancel())
        self._outbox.close()

    def drain(self, retry_after_ms: int) -> None:
        """Tell the edge that the server wants to go."""
        if self._session.opening is not None and not self._ended:
            self._outbox.put(self._session.drain(DRAINING, retry_after_ms))

    def step_done(self, step: Step) -> None:
        """A step of the session has been run."""
        if self._ended:
            return
        try:
            reply = self._session.finish(step)
        except Exception as error:
            self.end(error)
            return
        if reply is not None:
            self._outbox.put(reply)
            if (following := self._session.next_step()) is not None:
                self._submit(following)
        self._end_if_answered()

    def step_late(self, step: Step) -> None:
        """A step of the session waited beyond its deadline."""
        self._refuse(step, 0)
        self._end_if_answered()

    async def _read(self) -> None:
        end_of_stream = grpc().aio.EOF
        try:
            while not self._ended:
                try:
                    raw = await self._context.read()
                except Exception:  # The stream broke; gRPC's own words, and nobody to tell.
                    break
                if raw is end_of_stream:
                    self._half_closed = True
                    self._end_if_answered()
                    return
                self.heard_s = self._loop.time()
                while self._pace is not None and (wait_s := self._pace.take(self._loop.time())):
                    await asyncio.sleep(wait_s)
                if self._ended:  # ERROR is the last message, whatever came since.
                    return
                self._hub.stats.bytes_in += len(raw)
                if (reply := self._receive(raw)) is not None:
                    await self._outbox.put_now(reply)
                if len(self._outbox) >= _OUTBOX_FULL:
                    await self._outbox.emptied()
        except Exception as error:
            self.end(error)
        else:
            self.end()

    def _receive(self, raw: bytes) -> bytes | None:
        """Act on a message; the reply, where there is one at once."""
        message = self._session.read(raw)
        outcome = self._session.receive(message)
        if isinstance(outcome, Step):
            return self._take(outcome)
        if message.kind is Kind.OPEN:
            self._opened()
        elif message.kind is Kind.END_SAMPLE:
            self._hub.stats.samples += 1
            if self._span is not None:
                self._span.add_event("sample", {"sample": message.sample})
        elif self._session.closed:
            self.end()
        return outcome

    def _take(self, step: Step) -> bytes | None:
        batcher = self._batcher
        assert batcher is not None
        alone = len(self._hub.conversations) == 1 and batcher.idle
        if not alone or batcher.last_lone_s >= self._hub.inline_below_s:
            self._submit(step)
            return None
        batcher.run_now(step)
        return self._session.finish(step)

    def _submit(self, step: Step) -> None:
        assert self._batcher is not None
        if (wait_s := self._batcher.submit(step)) is not None:
            self._refuse(step, wait_s)

    def _refuse(self, step: Step, retry_after_s: float) -> None:
        refused = self._session.refuse_step(step, retry_after_s)
        self._hub.stats.busy += len(refused)
        if refused and not self._ended:
            self._outbox.put(*refused)

    def _opened(self) -> None:
        opening = self._session.opening
        assert opening is not None
        self._batcher = self._hub.batcher(opening.bundle)
        self._hub.claim(self, opening.number, opening.epoch)
        self._hub.stats.sessions += 1
        model = opening.bundle.tail.model
        versions = " ".join(f"{name} {value}" for name, value in opening.versions.items())
        fields: dict[str, Any] = {"peer": self.peer, "bundle": model, "epoch": opening.epoch}
        log(
            logging.INFO,
            opening.name,
            "opened",
            f": bundle {model[:12]}, edge runs {versions}",
            edge=dict(opening.versions),
            **fields,
        )
        if self._hub.trace is not None:
            self._span = self._hub.trace(opening.name, fields)

    def _end_if_answered(self) -> None:
        # An edge that has nothing more to say may still wait for answers.
        if self._half_closed and not self._session.unanswered:
            self.end()

    async def _abort(self, reason: Refusal) -> None:
        retry = (("retry-after-ms", str(self._hub.limits.retry_after_ms)),)
        trailing = retry if reason.status in _RETRY_STATUSES else ()
        code = getattr(grpc().StatusCode, reason.status, grpc().StatusCode.UNKNOWN)
        await self._context.abort(code, reason.message, trailing)

    def _leave(self) -> None:
        self._hub.leave(self)
        if self._span is not None:
            if self._reason is not None:
                self._span.add_event("refused", {"status": self._reason.status})
            self._span.end()
        if self._session.opening is not None:
            log(logging.INFO, self._session.name, "ended", peer=self.peer)
