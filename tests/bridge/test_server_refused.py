"""Streams that end before they were sessions, or that take nothing: the server keeps none of them."""

from __future__ import annotations

import asyncio
import time

from raw_edge import PATH
from raw_http2 import MAX_CONCURRENT_STREAMS, RawHttp2

from host_bridge import serving
from host_bridge.codecs import pack
from host_bridge.handshake import Open
from host_bridge.messages import Kind, Message, decode, encode
from host_bridge.security import ServerSecurity
from host_bridge.security.tokens import token_line
from host_bridge.server.conversation import Conversation
from host_bridge.server.hub import Hub
from host_bridge.server.limits import Limits
from neucodex_lava.errors import BridgeError


def test_a_stranger_that_takes_no_answer_is_ended(make_tail, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("edge", "t" * 43) + "\n")
    tokens.chmod(0o600)
    with (
        serving(make_tail(), security=ServerSecurity(tokens=tokens)) as address,
        RawHttp2(address) as stranger,
    ):
        streams = {stranger.open(PATH) for _ in range(5)}
        start = time.monotonic()
        while not streams <= stranger.reset:
            stranger.read()
        # HTTP/2 pings, which it does not answer, would end the connection after 30 s.
        assert time.monotonic() - start < 15


def test_one_connection_holds_no_more_streams_than_could_be_sessions(make_tail):
    with serving(make_tail(), limits=Limits(max_sessions=3)) as address, RawHttp2(address) as edge:
        while not edge.settings:
            edge.read()
        # And some that are told that they are too many.
        assert 3 < edge.settings[MAX_CONCURRENT_STREAMS] < 200


class SlowStream:
    """What a conversation needs of gRPC's context, for an edge that reads nothing for a while."""

    def __init__(self):
        self.arrived, self.written = asyncio.Queue(), []
        self.taken = asyncio.Event()
        self.status = None

    async def read(self):
        return await self.arrived.get()

    async def write(self, raw):
        self.written.append(decode(raw, 10_000).kind)
        await self.taken.wait()

    async def abort(self, code, _message, _metadata):
        self.status = code.name


def test_nothing_is_said_after_the_error(make_tail):
    tail = make_tail()
    hello = Open(tail.model, tail.code_shape, 1, 4, {}).to_bytes()
    first, second = (
        encode(Message(Kind.CODE, 7, 0, sample, 1, 1, pack(tail.codes(1)[0][0])))
        for sample in (0, 1)
    )

    async def talk(stream):
        hub = Hub(tail, Limits(), inline_below_s=1e9)
        conversation = Conversation(hub, stream, "edge")
        running = asyncio.create_task(conversation.run())
        stream.taken.set()
        stream.arrived.put_nowait(encode(Message(Kind.OPEN, 7, payload=hello)))
        stream.arrived.put_nowait(first)
        while len(stream.written) < 2:
            await asyncio.sleep(0.01)
        stream.taken.clear()
        conversation.end(BridgeError("enough", status="ABORTED"))
        # A lone session's step is run at once, without a queue: the answer would be there.
        stream.arrived.put_nowait(second)
        await asyncio.sleep(0.1)
        stream.taken.set()
        await running
        hub.close()

    stream = SlowStream()
    asyncio.run(talk(stream))
    assert stream.written == [Kind.OPENED, Kind.LOGITS, Kind.ERROR]
    assert stream.status == "ABORTED"
