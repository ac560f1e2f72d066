"""The cloud's side of one inference session: which message may come when, and what it answers.

    OPEN -> OPENED, then per sample: CODE 1 -> LOGITS, CODE 2 -> LOGITS, ..., END_SAMPLE; at last CLOSE

Knows no sockets, threads or clocks but its own stopwatch: a message in, a message or nothing out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from host_bridge.codecs import limit_bytes, unpack
from host_bridge.handshake import Open, Opened, Refusal, short
from host_bridge.messages import (
    HEADER_BYTES,
    MAX_JSON_BYTES,
    Kind,
    Message,
    decode,
    encode,
    pack_logits,
)
from host_bridge.tail import Tail
from neucodex_lava.errors import BridgeError, NeucodexError, ProtocolError

_INTERNAL_HINT: Final = "the server's log says more"


@dataclass
class _Opened:
    """What is known once OPEN has been accepted."""

    tail: Tail
    number: int
    epoch: int
    t_max: int
    versions: Mapping[str, str]


def payload_limit(tails: Mapping[str, Tail]) -> int:
    """The longest payload a session on one of these tails may send, in bytes."""
    codes = (limit_bytes(tail.code_shape, tail.code_bits) for tail in tails.values())
    return max(MAX_JSON_BYTES, *codes)


def message_limit(tails: Mapping[str, Tail]) -> int:
    """The longest whole message, header included, that a session may send, in bytes."""
    return HEADER_BYTES + payload_limit(tails)


class Session:
    """One stream's state: the tail, its state within the running sample, and where the sample is.

    Args:
        tails: the tails served, by sha256 of their bundle.
    """

    def __init__(self, tails: Mapping[str, Tail]) -> None:
        self._tails = tails
        self._limit = payload_limit(tails)
        self._opened: _Opened | None = None
        self._state: Any = None
        self._sample = 0
        self._timestep = 0
        self.closed = False
        self.last_step_s = math.inf
        """What the latest timestep took, in seconds; infinite before the first."""

    @property
    def name(self) -> str:
        """The session's number for logs, 16 hex digits; dashes before OPEN."""
        return f"{self._opened.number:016x}" if self._opened else "-" * 16

    @property
    def peer(self) -> str:
        """The bundle and the edge's versions, for logs."""
        if self._opened is None:
            return "not open"
        versions = " ".join(f"{name} {value}" for name, value in self._opened.versions.items())
        return f"bundle {short(self._opened.tail.model)}, edge runs {versions}"

    def read(self, raw: bytes) -> Message:
        """Decode what came over the stream; `ProtocolError` when it is malformed."""
        return decode(raw, self._limit)

    def answer(self, message: Message) -> bytes | None:
        """Act on a message.

        Returns:
            The encoded reply, or None where the kind has none (END_SAMPLE, CLOSE).

        Raises:
            ProtocolError: the message does not fit the session's state.
            BridgeError: the bundle asked for is not served.
        """
        if message.kind is Kind.OPEN:
            return self._open(message)
        opened = self._opened
        if opened is None:
            raise ProtocolError(f"{message.kind.name} before OPEN")
        if (message.session, message.epoch) != (opened.number, opened.epoch):
            raise ProtocolError(
                f"message of session {message.session:016x} epoch {message.epoch} in the stream of "
                f"session {opened.number:016x} epoch {opened.epoch}"
            )
        if message.kind is Kind.CODE:
            return self._step(opened, message)
        if message.kind is Kind.END_SAMPLE:
            return self._end_sample(message)
        if message.kind is Kind.CLOSE:
            self.free()
            self.closed = True
            return None
        raise ProtocolError(f"{message.kind.name} is not for the edge to send")

    def refusal(self, error: Exception) -> bytes:
        """The ERROR message for what ended the session; defects of ours are named, not spread out."""
        if isinstance(error, NeucodexError):
            reason = Refusal.of(error)
        else:
            text = f"the tail failed at sample {self._sample}, timestep {self._timestep + 1}"
            reason = Refusal(
                BridgeError.__name__, f"{text}: {type(error).__name__}", _INTERNAL_HINT
            )
        number = self._opened.number if self._opened else 0
        return encode(Message(Kind.ERROR, number, payload=reason.to_bytes()))

    def free(self) -> None:
        """Let go of the tail's state."""
        self._state = None

    def _open(self, message: Message) -> bytes:
        if self._opened is not None:
            raise ProtocolError("a second OPEN in the same session")
        asked = Open.from_bytes(message.payload)
        tail = self._tails.get(asked.model)
        if tail is None:
            served = ", ".join(short(model) for model in self._tails)
            raise BridgeError(
                f"the server serves bundle {served}, the edge runs {short(asked.model)}",
                "give both sides the same bundle: neucodex serve BUNDLE",
            )
        theirs, ours = (asked.code_shape, asked.code_bits), (tail.code_shape, tail.code_bits)
        if theirs != ours:
            raise ProtocolError(
                f"the edge sends codes of shape {theirs[0]} at {theirs[1]} bit, "
                f"bundle {short(asked.model)} takes {ours[0]} at {ours[1]} bit"
            )
        if asked.t_max > tail.t_max:
            raise ProtocolError(
                f"the edge asks for {asked.t_max} timesteps, the tail takes {tail.t_max} at most"
            )
        self._opened = _Opened(tail, message.session, message.epoch, asked.t_max, asked.versions)
        reply = Opened(tail.model, tail.classes, tail.t_max, float(tail.gain))
        return encode(
            Message(Kind.OPENED, message.session, message.epoch, payload=reply.to_bytes())
        )

    def _step(self, opened: _Opened, message: Message) -> bytes:
        expected = (self._sample, self._timestep + 1)
        if (message.sample, message.timestep) != expected:
            raise ProtocolError(
                f"got sample {message.sample} timestep {message.timestep}, "
                f"expected sample {expected[0]} timestep {expected[1]}",
                "timesteps are sent once each, in order; END_SAMPLE comes before the next sample",
            )
        if message.timestep > opened.t_max:
            raise ProtocolError(
                f"timestep {message.timestep} is beyond the session's {opened.t_max}"
            )
        start = time.perf_counter()
        tail = opened.tail
        code = unpack(message.payload, tail.code_shape, tail.code_bits, message.codec)
        state = tail.new_state() if message.timestep == 1 else self._state
        self._state, sums = tail.step(state, code)
        self.last_step_s = time.perf_counter() - start
        if sums.shape != (tail.classes,):
            raise BridgeError(f"the tail gave {sums.shape} sums, the bundle has {tail.classes}")
        self._timestep = message.timestep
        return encode(
            Message(
                Kind.LOGITS,
                message.session,
                message.epoch,
                message.sample,
                message.timestep,
                payload=pack_logits(sums, self.last_step_s),
            )
        )

    def _end_sample(self, message: Message) -> None:
        if message.sample != self._sample:
            raise ProtocolError(
                f"END_SAMPLE of sample {message.sample}, the running one is {self._sample}"
            )
        self.free()
        self._sample += 1
        self._timestep = 0
