"""The cloud's side of one inference session: which message may come when, and what it answers.

    OPEN -> OPENED, then per sample: CODE 1 -> LOGITS, CODE 2 -> LOGITS, ..., END_SAMPLE; at last CLOSE

Knows no sockets, threads, tails at work or clocks: a message in; a message, a step to run or nothing
out; and the outcome of a step in, a message out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from host_bridge.codecs import Code
from host_bridge.handshake import Drain, Opened, Refusal
from host_bridge.messages import Kind, Message, decode, encode, pack_busy, pack_logits
from host_bridge.server.bundle import ServedBundle
from host_bridge.server.opening import Opening, accept
from host_bridge.server.step import Step
from neucodex_lava.errors import BridgeError, NeucodexError, ProtocolError

_INTERNAL_HINT: Final = "the server's log says more"
_ORDER_HINT: Final = "timesteps are sent in order, samples count up"


class Session:
    """One stream's state: what was opened, and the running sample's state, answers and waiting steps.

    Args:
        bundles: those served, by sha256.
        limit_bytes: the longest payload while nothing is open, in bytes.
        max_ahead: how many codes may be unanswered at once.
        owner: of its steps; by default the session.

    Attributes:
        opening: what OPEN asked for; None before it.
        sample: number of the running or latest sample; -1 before the first.
        timestep: its latest answered one.
        in_sample: whether it is running.
        closed: CLOSE has come.
    """

    def __init__(
        self,
        bundles: Mapping[str, ServedBundle],
        limit_bytes: int,
        max_ahead: int = 1,
        owner: Any = None,
    ) -> None:
        self.opening: Opening | None = None
        self.sample = -1
        self.timestep = 0
        self.in_sample = False
        self.closed = False
        self._bundles = bundles
        self._limit = limit_bytes
        self._max_ahead = max_ahead
        self._owner = self if owner is None else owner
        self._state: Any = None
        self._previous: Code | None = None
        self._answers: list[bytes] = []
        self._waiting: deque[Step] = deque()
        self._busy_s: float | None = None

    @property
    def name(self) -> str:
        """The session's number for logs, 16 hex digits; dashes before OPEN."""
        return self.opening.name if self.opening else "-" * 16

    @property
    def unanswered(self) -> int:
        """Codes that wait or run."""
        return len(self._waiting)

    def read(self, raw: bytes) -> Message:
        """Decode what came over the stream; `ProtocolError` when it is malformed."""
        return decode(raw, self._limit)

    def receive(self, message: Message) -> bytes | Step | None:
        """Act on a message.

        Returns:
            The encoded reply, a step that is to be run now, or None: END_SAMPLE and CLOSE have no
            reply, and a code that waits for the one before it comes from `next_step` later.

        Raises:
            ProtocolError: the message does not fit the session's state.
            BridgeError: the bundle asked for is not served.
        """
        if message.kind is Kind.OPEN:
            return self._open(message)
        opening = self.opening
        if opening is None:
            raise ProtocolError(f"{message.kind.name} before OPEN")
        if (message.session, message.epoch) != (opening.number, opening.epoch):
            raise ProtocolError(
                f"message of session {message.session:016x} epoch {message.epoch} in the stream of "
                f"session {opening.name} epoch {opening.epoch}"
            )
        if message.kind is Kind.CODE:
            return self._code(opening, message)
        if message.kind is Kind.END_SAMPLE:
            return self._end_sample(message)
        if message.kind is Kind.CLOSE:
            self.free()
            self.closed = True
            return None
        raise ProtocolError(f"{message.kind.name} is not for the edge to send")

    def finish(self, step: Step) -> bytes | None:
        """A step has been run: the LOGITS to send, or None when nobody waits for it any more.

        Raises:
            Exception: what the step failed with.
        """
        if step.cancelled:
            return None
        if step.error is not None:
            raise step.error
        assert step is self._waiting[0]
        assert step.sums is not None
        try:
            payload = pack_logits(step.sums, step.compute_s)
        except ProtocolError as error:
            raise BridgeError(error.message, _INTERNAL_HINT, "INTERNAL") from error
        reply = self._message(Kind.LOGITS, step.sample, step.timestep, payload)
        self._waiting.popleft()
        self._state, self._previous, self.timestep = step.state, step.code, step.timestep
        self._answers.append(reply)
        return reply

    def next_step(self) -> Step | None:
        """The first waiting step, ready to be run once the one before it has been finished."""
        if not self._waiting:
            return None
        step = self._waiting[0]
        step.state, step.previous = self._state, self._previous
        return step

    def refuse_step(self, step: Step, retry_after_s: float) -> list[bytes]:
        """A step was not taken: BUSY for it and for all that wait behind it; the state stays."""
        if step.cancelled:
            return []
        self._busy_s = retry_after_s
        refused = [self._busy(waiting.timestep, retry_after_s) for waiting in self._waiting]
        self._cancel_waiting()
        return refused

    def drain(self, message: str, retry_after_ms: int) -> bytes:
        """The DRAIN message."""
        return self._message(Kind.DRAIN, 0, 0, Drain(message, retry_after_ms).to_bytes())

    def refusal(self, error: Exception) -> tuple[bytes, Refusal]:
        """The ERROR message that ends the session; defects of ours are named, not spread out."""
        if isinstance(error, BridgeError):
            reason = Refusal.of(error)
        else:
            # The tail's, whatever its class: the edge has done nothing wrong.
            what = error.message if isinstance(error, NeucodexError) else type(error).__name__
            text = f"the tail failed at sample {self.sample}, timestep {self.timestep + 1}: {what}"
            reason = Refusal(BridgeError.__name__, text, _INTERNAL_HINT, "INTERNAL")
        return self._message(Kind.ERROR, 0, 0, reason.to_bytes()), reason

    def free(self) -> None:
        """Let go of the sample's state and of what waits."""
        self._cancel_waiting()
        self.in_sample = False
        self._state = self._previous = self._busy_s = None
        self._answers = []

    def _open(self, message: Message) -> bytes:
        if self.opening is not None:
            raise ProtocolError("a second OPEN in the same session")
        self.opening = accept(message, self._bundles)
        tail, self._limit = self.opening.bundle.tail, self.opening.bundle.payload_limit
        reply = Opened(tail.model, tail.classes, tail.t_max, float(tail.gain), self._max_ahead)
        return self._message(Kind.OPENED, 0, 0, reply.to_bytes())

    def _code(self, opening: Opening, message: Message) -> bytes | Step | None:
        sample, timestep = message.sample, message.timestep
        if timestep > opening.t_max:
            raise ProtocolError(
                f"timestep {timestep} is beyond the session's {opening.t_max}",
                status="OUT_OF_RANGE",
            )
        if sample > self.sample and timestep == 1:
            self.free()
            self.sample, self.timestep, self.in_sample = sample, 0, True
        if sample != self.sample or not self.in_sample or timestep < 1:
            raise self._out_of_order(message)
        if timestep <= self.timestep:
            return self._answers[timestep - 1]
        expected = self.timestep + len(self._waiting) + 1
        if timestep < expected:
            return None
        if timestep > expected:
            if self._busy_s is None:
                raise self._out_of_order(message)
            # Sent before the edge could know that the one before it was not taken.
            return self._busy(timestep, self._busy_s)
        if len(self._waiting) >= self._max_ahead:
            raise ProtocolError(
                f"{expected - self.timestep} codes unanswered, a session may have {self._max_ahead}"
            )
        self._busy_s = None
        code = message.codec, message.payload
        step = Step(self._owner, sample, timestep, *code, opening.decoder, opening.deadline_s)
        self._waiting.append(step)
        return self.next_step() if len(self._waiting) == 1 else None

    def _end_sample(self, message: Message) -> None:
        if message.sample < self.sample:
            raise self._out_of_order(message)
        # One that never began here, after a reconnection, is over as well.
        self.free()
        self.sample = message.sample

    def _out_of_order(self, message: Message) -> ProtocolError:
        expected = self.timestep + len(self._waiting) + 1
        place = (
            f"sample {self.sample} timestep {expected}"
            if self.in_sample
            else f"timestep 1 of a sample from {self.sample + 1} on"
        )
        return ProtocolError(
            f"got {message.kind.name} of sample {message.sample} timestep {message.timestep}, "
            f"expected {place}",
            _ORDER_HINT,
            "OUT_OF_RANGE",
        )

    def _busy(self, timestep: int, retry_after_s: float) -> bytes:
        return self._message(Kind.BUSY, self.sample, timestep, pack_busy(retry_after_s))

    def _cancel_waiting(self) -> None:
        for step in self._waiting:
            step.cancel()
        self._waiting.clear()

    def _message(self, kind: Kind, sample: int, timestep: int, payload: bytes) -> bytes:
        number, epoch = (self.opening.number, self.opening.epoch) if self.opening else (0, 0)
        return encode(Message(kind, number, epoch, sample, timestep, payload=payload))
