"""The running sample on one stream: what has been sent over it, and what has come back."""

from __future__ import annotations

import math
import time
from typing import Final

import numpy as np

from host_bridge.client.connector import Connected
from host_bridge.client.faults import GAP, Setback
from host_bridge.client.hearing import hear
from host_bridge.client.log import LinkCounts, SampleLog, StepReply
from host_bridge.handshake import Drain
from host_bridge.messages import Kind, Message, encode, unpack_busy, unpack_logits, wire_bytes
from neucodex_lava.errors import BridgeError, ProtocolError

_MOST_CHATTER: Final = 1000
"""Messages in a row that ask for nothing and are put up with: a replay brings some old answers, an
endless stream is no server's."""


class Exchange:
    """Sends a sample's codes in order, as many ahead as the server takes, and files the answers.

    On a new stream nothing of the sample has been sent, so it is all sent again: a replay needs no
    code of its own. What comes back must then equal what is known.

    Args:
        connected: the open session.
        counts: added to.
    """

    def __init__(self, connected: Connected, counts: LinkCounts) -> None:
        self.stream = connected.stream
        self.drain: Drain | None = None
        self.resend_at = -math.inf
        self._ids = connected.session, connected.epoch
        self._classes, self._max_ahead = connected.opened.classes, connected.opened.max_ahead
        self._counts = counts
        self._sent = self._answered = self._chatter = 0
        self._up: dict[int, int] = {}

    def begin(self) -> None:
        """Another sample: nothing of it has been sent."""
        self._sent = self._answered = 0
        self.resend_at = -math.inf

    @property
    def unanswered(self) -> bool:
        """Whether an answer is to come."""
        return self._answered < self._sent

    def fill(self, log: SampleLog) -> None:
        """Send what the server takes now; nothing while it is busy."""
        if self.resend_at != -math.inf:
            return
        while self._sent < len(log.codes) and self._sent - self._answered < self._max_ahead:
            written = log.codes[self._sent]
            self._sent += 1
            raw = encode(
                Message(
                    Kind.CODE,
                    *self._ids,
                    log.number,
                    self._sent,
                    written.codec,
                    written.payload,
                )
            )
            self._up[self._sent] = len(raw)
            self._counts.codes += 1
            self._counts.payload_bits += 8 * len(written.payload)
            self._counts.wire_bytes += wire_bytes(len(raw))
            self._counts.replayed += self._sent <= len(log.replies)
            self.stream.send(raw)

    def end(self, log: SampleLog) -> int:
        """Tell the server that the edge has stopped; returns the message's modelled bytes."""
        if not self._sent:
            return 0
        raw = encode(Message(Kind.END_SAMPLE, *self._ids, log.number, self._sent))
        self.stream.send(raw)
        self._counts.wire_bytes += wire_bytes(len(raw))
        return wire_bytes(len(raw))

    def close(self) -> None:
        """End the session on this stream."""
        self.stream.close(encode(Message(Kind.CLOSE, *self._ids)))

    def take(self, raw: bytes, log: SampleLog | None, until: float = math.inf) -> bool:
        """File one message; whether it brought the sample on.

        Args:
            raw: the message.
            log: of the running sample.
            until: when the caller's time is over, in seconds of `time.monotonic()`.

        Raises:
            Setback: damaged, or an ERROR that another try may mend.
            ProtocolError: not an answer to anything asked, or other sums than are known.
            BridgeError: an ERROR for good.
        """
        try:
            message = hear(self.stream, raw, until)
        except BridgeError as error:
            if error.status == GAP:
                raise Setback(error) from error
            raise
        if message.kind is Kind.DRAIN:
            known, self.drain = self.drain, Drain.from_bytes(message.payload)
            if known is not None:
                self._put_up_with()
            return False
        if message.kind not in (Kind.LOGITS, Kind.BUSY) or message.session != self._ids[0]:
            raise ProtocolError(
                f"the cloud server sent {message.kind.name} of session {message.session:016x} into "
                f"the stream of session {self._ids[0]:016x}"
            )
        self._counts.wire_bytes += wire_bytes(len(raw))
        if self._is_old(message, log):
            self._counts.ignored += 1
            self._put_up_with()
            return False
        if log is None or message.sample != log.number or message.timestep > self._sent:
            asked = f"{log.number if log else '-'} and {self._answered + 1}"
            raise ProtocolError(
                f"the cloud server answered {message.kind.name} for sample {message.sample} timestep "
                f"{message.timestep}, expected LOGITS for {asked}"
            )
        if message.kind is Kind.BUSY:
            self._counts.busy += 1
            self._sent = min(self._sent, message.timestep - 1)
            self.resend_at = time.monotonic() + unpack_busy(message.payload)
            return False
        if message.timestep != self._answered + 1:
            error = ProtocolError(
                f"the cloud server answered timestep {message.timestep} of sample {log.number} before "
                f"timestep {self._answered + 1}",
                status=GAP,
            )
            raise Setback(error)
        return self._file(message, len(raw), log)

    def _put_up_with(self) -> None:
        self._chatter += 1
        if self._chatter > _MOST_CHATTER:
            raise ProtocolError(
                f"the cloud server at {self.stream.target} sent {self._chatter} answers to what is "
                f"over and none to what was asked",
                status="INVALID_ARGUMENT",
            )

    def _is_old(self, message: Message, log: SampleLog | None) -> bool:
        """Whether it belongs to what is over: another epoch, an ended sample, an answered timestep."""
        if message.epoch != self._ids[1] or log is None or message.sample < log.number:
            return message.epoch <= self._ids[1]
        return message.sample == log.number and message.timestep <= self._answered

    def _file(self, message: Message, length: int, log: SampleLog) -> bool:
        t = message.timestep
        sums, cloud_s = unpack_logits(message.payload, self._classes)
        self._answered, self._chatter = t, 0
        if t <= len(log.replies):
            known = log.replies[t - 1].sums
            if not np.array_equal(known, sums):
                raise ProtocolError(
                    f"the cloud server at {self.stream.target} answers timestep {t} of sample "
                    f"{log.number} with other sums than the one before it",
                    "both must run the same tail; what it said is not used",
                    "DATA_LOSS",
                )
            return False
        written = log.codes[t - 1]
        log.replies.append(
            StepReply(
                sums=sums,
                roundtrip_s=time.perf_counter() - written.began,
                cloud_s=cloud_s,
                payload_bits=8 * len(written.payload),
                wire_bytes=wire_bytes(self._up[t]) + wire_bytes(length),
                timestep=t,
            )
        )
        return True
