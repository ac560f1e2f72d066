"""An edge that speaks the wire by hand, one message at a time, right or wrong."""

from __future__ import annotations

import queue
from typing import Any

import grpc

from host_bridge.codecs import pack
from host_bridge.handshake import Open
from host_bridge.messages import Kind, Message, decode, encode

PATH = "/neucodex.v1.Bridge/Infer"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


class RawEdge:
    """One stream; nothing is sent but what is asked for.

    Args:
        address: of the server.
        tail: whose bundle, shape and timesteps it opens with.
        session, epoch: of all its messages.
        metadata: of the call.
        open_fields: other values of OPEN.
    """

    def __init__(
        self,
        address: str,
        tail: Any,
        session: int = 7,
        epoch: int = 0,
        metadata: Any = None,
        **open_fields: Any,
    ) -> None:
        self.tail, self.session, self.epoch = tail, session, epoch
        self._fields = open_fields
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        call = self._channel.stream_stream(PATH)
        self.call = call(iter(self._outbox.get, None), metadata=metadata, timeout=30)

    def __enter__(self) -> RawEdge:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Go without a word."""
        self.call.cancel()
        self._outbox.put(None)
        self._channel.close()

    def send_raw(self, raw: bytes) -> None:
        self._outbox.put(raw)

    def send(
        self, kind: Kind, sample: int = 0, timestep: int = 0, payload: bytes = b"", codec: int = 0
    ) -> None:
        message = Message(kind, self.session, self.epoch, sample, timestep, codec, payload)
        self._outbox.put(encode(message))

    def open(self) -> Message:
        """Send OPEN; the answer."""
        fields = {
            "model": self.tail.model,
            "code_shape": self.tail.code_shape,
            "code_bits": self.tail.code_bits,
            "t_max": self.tail.t_max,
            "versions": {},
        } | self._fields
        self.send(Kind.OPEN, payload=Open(**fields).to_bytes())
        return self.get()

    def code(self, code: Any, sample: int, timestep: int) -> None:
        codec = 1 if self.tail.code_bits == 1 else 2
        self.send(Kind.CODE, sample, timestep, pack(code, self.tail.code_bits), codec)

    def get(self) -> Message:
        """The next message of the server; grpc.RpcError, or StopIteration, at the end."""
        return decode(next(self.call), 1 << 20)

    def end(self) -> tuple[str, str, dict[str, str]]:
        """Read to the end: the status's name, its text and the trailing metadata."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            pass
        return self.call.code().name, self.call.details(), dict(self.call.trailing_metadata())
