"""The edge's end of the bridge: one session with a cloud server, called from a plain loop."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from host_bridge._grpc import library_versions
from host_bridge.address import parse_address
from host_bridge.codecs import Code, Shape, check_shape, codec_for
from host_bridge.handshake import Open, Opened, Refusal
from host_bridge.messages import (
    MAX_TIMESTEPS,
    Kind,
    Message,
    decode,
    encode,
    unpack_logits,
    wire_bytes,
)
from host_bridge.client.stream import MAX_REPLY_PAYLOAD, Stream
from neucodex_lava.errors import BridgeError, ConfigError, ProtocolError

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class StepReply:
    """What one timestep brought back and cost.

    Args:
        sums: running sums S_t, int64, shape (classes,).
        roundtrip_s: from before the code was packed to after the sums were read, in seconds.
        cloud_s: the server's own part of it (reading the code and the tail's step), in seconds.
        payload_bits: the packed code alone, in whole bytes, as bits.
        wire_bytes: both messages together, *modelled* from their sizes by `messages.wire_bytes`:
            with our headers and gRPC's and HTTP/2's framing, without TCP/IP and pings.
    """

    sums: npt.NDArray[np.int64]
    roundtrip_s: float
    cloud_s: float
    payload_bits: int
    wire_bytes: int


class EdgeClient:
    """One inference session; any number of samples, one after another. For one thread at a time::

        with EdgeClient("127.0.0.1:50051", model=sha256, code_shape=(1, 2, 2), t_max=4) as client:
            for codes in samples:
                client.start_sample()
                for code in codes:
                    reply = client.step(code)
                client.end_sample()

    Start Lava before it: Lava forks, and a fork does not carry gRPC's threads over. There are no
    retries in here: after an error the session is over.

    Args:
        target: host:port of the server.
        model: what both sides must run: the bundle's sha256 or a deployment id, 64 hex digits.
        code_shape: (C, H, W) of the codes.
        t_max: most timesteps a sample gets.
        code_bits: bits a value; 1 for spikes, up to 8 for graded input.
        timeout_s: longest wait for any one answer, in seconds.

    Attributes:
        classes: length of the running sums.
        gain: the readout's gain: y(t) = S_t / (gain * t).

    Raises:
        ConfigError: a malformed target or an argument out of range.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str,
        code_shape: Shape,
        t_max: int,
        code_bits: int = 1,
        timeout_s: float = 5.0,
    ) -> None:
        parse_address(target)
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"timeout_s is {timeout_s}, expected a positive number of seconds")
        if not 1 <= t_max <= MAX_TIMESTEPS:
            raise ConfigError(f"t_max is {t_max}, expected 1..{MAX_TIMESTEPS}")
        try:
            check_shape(code_shape, code_bits)
        except ProtocolError as error:
            raise ConfigError(error.message) from error
        self.target = target
        self.classes = 0
        self.gain = math.nan
        self._open = Open(model, code_shape, code_bits, t_max, library_versions())
        self._timeout_s = timeout_s
        self._codec = codec_for(code_bits)
        self._session = secrets.randbits(64)
        self._sample = -1
        self._timestep = 0
        self._in_sample = False
        self._stream: Stream | None = None

    def __enter__(self) -> EdgeClient:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect and agree with the server on the bundle.

        Raises:
            BridgeError: nobody there, no answer in time, or another bundle is served.
            ProtocolError: the answer is malformed, or shape or timesteps do not fit the bundle.
        """
        if self._stream is not None:
            raise BridgeError("the session has been opened before", "make a new EdgeClient")
        self._stream = Stream(self.target, self._timeout_s)
        raw = encode(Message(Kind.OPEN, self._session, payload=self._open.to_bytes()))
        opened, _ = self._ask(raw, self._read_opened)
        self.classes, self.gain = opened.classes, opened.gain

    def start_sample(self) -> None:
        """Begin the next sample at timestep 1; ends a running one first."""
        self._connected()
        if self._in_sample:
            self.end_sample()
        self._sample += 1
        self._timestep = 0
        self._in_sample = True

    def step(self, code: Code) -> StepReply:
        """Send the next timestep's code and wait for the running sums.

        Args:
            code: uint8, shape `code_shape`, values 0..2^code_bits-1.

        Raises:
            ProtocolError: the code has another shape, type or range; more than `t_max` timesteps; no
                sample started; the server's answer is malformed or it refuses.
            BridgeError: the connection was lost or the answer is overdue.
        """
        self._connected()
        if not self._in_sample:
            raise ProtocolError("no sample is running", "call start_sample() before step()")
        if self._timestep >= self._open.t_max:
            raise ProtocolError(f"timestep {self._timestep + 1} is beyond t_max {self._open.t_max}")
        if code.shape != self._open.code_shape:
            raise ProtocolError(
                f"code of shape {code.shape}, the session has {self._open.code_shape}"
            )
        start = time.perf_counter()
        payload = self._codec.pack(code, self._open.code_bits)
        self._timestep += 1
        raw = encode(self._message(Kind.CODE, self._codec.id, payload))
        (sums, cloud_s), reply_bytes = self._ask(raw, self._read_logits)
        return StepReply(
            sums=sums,
            roundtrip_s=time.perf_counter() - start,
            cloud_s=cloud_s,
            payload_bits=8 * len(payload),
            wire_bytes=wire_bytes(len(raw)) + wire_bytes(reply_bytes),
        )

    def end_sample(self) -> int:
        """Tell the server that the edge has stopped; nothing is waited for.

        Returns:
            The message's bytes on the wire, modelled as in `StepReply`; 0 when no sample is running.
        """
        if not self._in_sample:
            return 0
        self._in_sample = False
        if self._timestep == 0:
            # The server has not heard of this sample, so its number is free.
            self._sample -= 1
            return 0
        raw = encode(self._message(Kind.END_SAMPLE))
        self._connected().send(raw)
        return wire_bytes(len(raw))

    def close(self) -> None:
        """End the session and the connection; may be called again and after any error."""
        self._in_sample = False
        if self._stream is not None:
            self._stream.close(encode(Message(Kind.CLOSE, self._session)))

    def _message(self, kind: Kind, codec: int = 0, payload: bytes = b"") -> Message:
        return Message(kind, self._session, 0, self._sample, self._timestep, codec, payload)

    def _connected(self) -> Stream:
        if self._stream is None or self._stream.ended:
            raise BridgeError(
                f"the session with {self.target} is not open", "make a new EdgeClient"
            )
        return self._stream

    def _ask(self, raw: bytes, read: Callable[[Message], _Answer]) -> tuple[_Answer, int]:
        """Send a message, read its answer; also gives the answer's length in bytes."""
        stream = self._connected()
        where = f"sample {self._sample}, timestep {self._timestep}" if self.classes else ""
        answer = stream.ask(raw, where)
        try:
            reply = decode(answer, MAX_REPLY_PAYLOAD)
            if reply.kind is Kind.ERROR:
                raise Refusal.from_bytes(reply.payload).error()
            return read(reply), len(answer)
        except BridgeError:
            stream.abandon()
            raise

    def _read_opened(self, reply: Message) -> Opened:
        self._check(reply, Kind.OPENED, 0)
        opened = Opened.from_bytes(reply.payload)
        if opened.model != self._open.model:
            raise ProtocolError("the server answered for another bundle than it was asked for")
        return opened

    def _read_logits(self, reply: Message) -> tuple[npt.NDArray[np.int64], float]:
        self._check(reply, Kind.LOGITS, self._sample)
        return unpack_logits(reply.payload, self.classes)

    def _check(self, reply: Message, expected: Kind, sample: int) -> None:
        place = (self._session, 0, sample, self._timestep)
        found = (reply.session, reply.epoch, reply.sample, reply.timestep)
        if reply.kind is not expected or found != place:
            raise ProtocolError(
                f"the cloud server answered {reply.kind.name} for sample {reply.sample} timestep "
                f"{reply.timestep}, expected {expected.name} for {sample} and {self._timestep}"
            )
