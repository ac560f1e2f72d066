"""The cloud's side of a session without any network: which message may come when."""

from __future__ import annotations

import numpy as np
import pytest

from host_bridge.codecs import pack
from host_bridge.handshake import Open, Opened
from host_bridge.messages import Kind, Message, decode, unpack_logits
from host_bridge.server.session import Session, payload_limit
from neucodex_lava.errors import BridgeError, ProtocolError

SESSION = 0xABCDEF


class Edge:
    """Writes messages for a session and reads its answers."""

    def __init__(self, *tails):
        self.session = Session({tail.model: tail for tail in tails})
        self.tail = tails[0]

    def send(self, kind, sample=0, timestep=0, codec=0, payload=b"", session=SESSION, epoch=0):
        message = Message(kind, session, epoch, sample, timestep, codec, payload)
        reply = self.session.answer(message)
        return None if reply is None else decode(reply, 10_000)

    def open(self, **changes):
        tail = self.tail
        fields = {
            "model": tail.model,
            "code_shape": tail.code_shape,
            "code_bits": tail.code_bits,
            "t_max": tail.t_max,
            "versions": {},
        } | changes
        return self.send(Kind.OPEN, payload=Open(**fields).to_bytes())

    def code(self, code, sample, timestep):
        payload = pack(code, self.tail.code_bits)
        return self.send(Kind.CODE, sample, timestep, 1, payload)


@pytest.fixture
def edge(make_tail):
    return Edge(make_tail())


def test_opened_tells_the_tails_numbers(edge):
    reply = edge.open(t_max=3)
    assert (reply.kind, reply.session) == (Kind.OPENED, SESSION)
    assert Opened.from_bytes(reply.payload) == Opened(edge.tail.model, 10, 4, 2.5)
    assert edge.session.name == "0000000000abcdef"


def test_samples_give_the_running_sums_and_start_afresh(edge):
    edge.open()
    codes = edge.tail.codes(seed=1, samples=3)
    for n, sample in enumerate(codes):
        expected = edge.tail.run(sample)
        for t, code in enumerate(sample, start=1):
            reply = edge.code(code, n, t)
            sums, _ = unpack_logits(reply.payload, 10)
            assert (reply.kind, reply.sample, reply.timestep) == (Kind.LOGITS, n, t)
            assert sums.tolist() == expected[t - 1].tolist()
        assert edge.send(Kind.END_SAMPLE, n, len(sample)) is None


@pytest.mark.parametrize(
    ("sample", "timestep"), [(0, 0), (0, 1), (0, 3), (1, 1), (1, 2), (2**32 - 1, 2)]
)
def test_gaps_repeats_and_foreign_samples_are_refused(edge, sample, timestep):
    edge.open()
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    with pytest.raises(ProtocolError, match="expected sample 0 timestep 2"):
        edge.code(code, sample, timestep)


def test_no_timestep_beyond_what_was_asked_for(edge):
    edge.open(t_max=1)
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    with pytest.raises(ProtocolError, match="timestep 2 is beyond the session's 1"):
        edge.code(code, 0, 2)


def test_state_is_freed_at_the_end_of_a_sample_and_of_the_session(edge):
    edge.open()
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    assert len(edge.tail.alive) == 1
    edge.send(Kind.END_SAMPLE, 0, 1)
    assert len(edge.tail.alive) == 0
    edge.code(code, 1, 1)
    assert edge.send(Kind.CLOSE) is None
    assert (len(edge.tail.alive), edge.session.closed) == (0, True)


def test_unknown_bundle_names_both(make_tail):
    edge = Edge(make_tail("ours"))
    theirs = make_tail("theirs")
    with pytest.raises(BridgeError) as caught:
        edge.open(model=theirs.model)
    assert edge.tail.model[:12] in caught.value.message
    assert theirs.model[:12] in caught.value.message
    assert "neucodex serve BUNDLE" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"code_shape": (2, 3, 4)}, r"shape \(2, 3, 4\) at 1 bit, .* takes \(2, 3, 3\) at 1 bit"),
        ({"code_bits": 8}, "at 8 bit"),
        ({"t_max": 5}, "asks for 5 timesteps, the tail takes 4 at most"),
    ],
)
def test_misfit_open_is_refused(edge, change, says):
    with pytest.raises(ProtocolError, match=says):
        edge.open(**change)


@pytest.mark.parametrize("kind", [Kind.CODE, Kind.END_SAMPLE, Kind.CLOSE, Kind.LOGITS])
def test_nothing_comes_before_open(edge, kind):
    with pytest.raises(ProtocolError, match=f"{kind.name} before OPEN"):
        edge.send(kind)


@pytest.mark.parametrize("kind", [Kind.OPENED, Kind.LOGITS, Kind.ERROR])
def test_the_clouds_own_messages_are_refused(edge, kind):
    edge.open()
    with pytest.raises(ProtocolError, match="is not for the edge to send"):
        edge.send(kind)


def test_second_open_and_foreign_session_are_refused(edge):
    edge.open()
    with pytest.raises(ProtocolError, match="a second OPEN"):
        edge.open()
    with pytest.raises(ProtocolError, match="in the stream of session 0000000000abcdef"):
        edge.send(Kind.CLOSE, session=1)
    with pytest.raises(ProtocolError, match="epoch 1 in the stream"):
        edge.send(Kind.CLOSE, epoch=1)


def test_wrong_code_size_and_codec_are_refused(edge):
    edge.open()
    with pytest.raises(ProtocolError, match="code of 4 bytes"):
        edge.send(Kind.CODE, 0, 1, 1, bytes(4))
    with pytest.raises(ProtocolError, match="unknown codec 200"):
        edge.send(Kind.CODE, 0, 1, 200, bytes(3))
    with pytest.raises(ProtocolError, match="padding"):
        edge.send(Kind.CODE, 0, 1, 1, b"\x00\x00\x01")


def test_limit_follows_the_largest_code(make_tail):
    small, large = make_tail("a"), make_tail("b", code_shape=(64, 32, 32), code_bits=8)
    assert payload_limit({small.model: small}) == 4096
    assert payload_limit({small.model: small, large.model: large}) == 65_536


def test_tail_with_the_wrong_number_of_sums_is_named(edge):
    edge.open()
    edge.tail.step = lambda state, code: (state, np.zeros(3, np.int64))
    with pytest.raises(BridgeError, match=r"the tail gave \(3,\) sums, the bundle has 10"):
        edge.code(edge.tail.codes(0)[0, 0], 0, 1)
