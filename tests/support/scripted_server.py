"""A cloud server for tests: it answers as a tail does, but for what a test wants otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from host_bridge.codecs import unpack
from host_bridge.handshake import Opened, Refusal
from host_bridge.messages import Kind, Message, decode, encode, pack_logits


@dataclass
class Stream:
    """One stream: its number (from 0), the metadata it came with, and what it was sent."""

    number: int
    metadata: dict[str, str]
    context: Any
    seen: list[Message] = field(default_factory=list)
    state: Any = None


Twist = Callable[[Stream, Message, list[bytes]], "list[bytes] | None"]


def as_usual(_stream: Stream, _message: Message, answers: list[bytes]) -> list[bytes] | None:
    """Changes nothing."""
    return answers


def reply(message: Message, kind: Kind, payload: bytes = b"", **changes: Any) -> bytes:
    """An encoded answer to a message."""
    fields = {
        "session": message.session,
        "epoch": message.epoch,
        "sample": message.sample,
        "timestep": message.timestep,
    } | changes
    return encode(Message(kind, payload=payload, **fields))


def refusal(message: Message, status: str, text: str = "no") -> bytes:
    """An encoded ERROR."""
    return reply(message, Kind.ERROR, Refusal("BridgeError", text, "", status).to_bytes())


@contextmanager
def scripted_server(
    tail: Any, twist: Twist = as_usual, *, max_ahead: int = 1, port: int = 0
) -> Iterator[tuple[str, list[Stream]]]:
    """Serve `tail`; gives the address, and the streams so far.

    Args:
        tail: as `host_bridge.Tail`; one timestep at a time.
        twist: gets each message and the answers to it, and gives those to send; None ends the stream.
        max_ahead: what OPENED says.
        port: to listen on; 0 takes a free one.
    """
    streams: list[Stream] = []

    def answers(stream: Stream, message: Message) -> list[bytes]:
        if message.kind is Kind.OPEN:
            opened = Opened(tail.model, tail.classes, tail.t_max, tail.gain, max_ahead)
            return [reply(message, Kind.OPENED, opened.to_bytes())]
        if message.kind is not Kind.CODE:
            return []
        code = unpack(message.payload, tail.code_shape, tail.code_bits, message.codec)
        state = tail.new_state() if message.timestep == 1 else stream.state
        stream.state, sums = tail.step(state, code)
        return [reply(message, Kind.LOGITS, pack_logits(sums, 1e-5))]

    def infer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        stream = Stream(len(streams), dict(context.invocation_metadata()), context)
        streams.append(stream)
        for raw in requests:
            message = decode(raw, 1 << 20)
            stream.seen.append(message)
            if message.kind is Kind.CLOSE:
                return
            told = twist(stream, message, answers(stream, message))
            if told is None:
                return
            yield from told

    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    method = grpc.stream_stream_rpc_method_handler(infer)
    handler = grpc.method_handlers_generic_handler("neucodex.v1.Bridge", {"Infer": method})
    server.add_generic_rpc_handlers((handler,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{bound}", streams
    finally:
        server.stop(None).wait()
