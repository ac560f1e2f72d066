"""Who is let in, who is sent away, and when a session ends without having asked for it."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest
from raw_edge import RawEdge

from host_bridge import messages, serving
from host_bridge.handshake import Refusal
from host_bridge.messages import HEADER_BYTES, Kind, Message, encode
from host_bridge.server.limits import Limits


def refusal_of(edge):
    message = edge.get()
    assert message.kind is Kind.ERROR, message
    return Refusal.from_bytes(message.payload)


def test_one_session_too_many_is_told_when_to_come_again(make_tail):
    tail = make_tail()
    with (
        serving(tail, limits=Limits(max_sessions=2, retry_after_ms=250)) as address,
        RawEdge(address, tail, 1) as one,
        RawEdge(address, tail, 2) as two,
    ):
        one.open()
        two.open()
        with RawEdge(address, tail, 3) as three:
            said = refusal_of(three)
            assert said.message == "the server already holds 2 sessions, its limit"
            status, text, trailing = three.end()
        assert (status, text) == ("RESOURCE_EXHAUSTED", said.message)
        assert trailing["retry-after-ms"] == "250"
        two.send(Kind.CLOSE)
        assert two.end()[0] == "OK"
        with RawEdge(address, tail, 3) as three:
            assert three.open().kind is Kind.OPENED


def test_one_peer_cannot_take_all_sessions(make_tail):
    tail = make_tail()
    with (
        serving(tail, limits=Limits(max_sessions_per_peer=1)) as address,
        RawEdge(address, tail, 1) as one,
    ):
        one.open()
        with RawEdge(address, tail, 2) as two:
            assert "the limit of one peer" in refusal_of(two).message
            assert two.end()[0] == "RESOURCE_EXHAUSTED"


def test_a_newer_epoch_takes_the_session_over_and_an_older_one_cannot(make_tail):
    tail = make_tail()
    sample = tail.codes(3)[0]
    with serving(tail) as address, ExitStack() as stack:
        first = stack.enter_context(RawEdge(address, tail, 5, epoch=1))
        first.open()
        first.code(sample[0], 0, 1)
        before = first.get().payload[4:]
        for epoch in (0, 1):
            with RawEdge(address, tail, 5, epoch) as late:
                said = refusal_of_open(late)
                assert said.status == "ABORTED"
                assert said.message == f"session {5:016x} is held at epoch 1, this is {epoch}"
                assert late.end()[0] == "ABORTED"
        second = stack.enter_context(RawEdge(address, tail, 5, epoch=2))
        assert second.open().kind is Kind.OPENED
        assert refusal_of(first).message == f"session {5:016x} was taken up at epoch 2"
        assert first.end()[0] == "ABORTED"
        second.code(sample[0], 0, 1)
        assert second.get().payload[4:] == before
        # Its end does not give the number away while the newer one lives.
        with RawEdge(address, tail, 5, epoch=2) as same:
            assert refusal_of_open(same).status == "ABORTED"


def refusal_of_open(edge):
    message = edge.open()
    assert message.kind is Kind.ERROR
    return Refusal.from_bytes(message.payload)


def test_a_number_is_free_again_when_its_stream_is_gone(make_tail):
    tail = make_tail()
    with serving(tail) as address:
        for _ in range(2):
            with RawEdge(address, tail, 5) as edge:
                assert edge.open().kind is Kind.OPENED
                edge.send(Kind.CLOSE)
                assert edge.end()[0] == "OK"


@pytest.mark.parametrize("open_first", [True, False])
def test_a_silent_session_is_ended(make_tail, open_first):
    tail = make_tail()
    with (
        serving(tail, limits=Limits(idle_s=0.4)) as address,
        RawEdge(address, tail) as silent,
        RawEdge(address, tail, 8) as busy,
    ):
        if open_first:
            silent.open()
            silent.code(tail.codes(0)[0][0], 0, 1)
            silent.get()
        busy.open()
        for n in range(8):
            busy.send(Kind.END_SAMPLE, n)
            time.sleep(0.1)
        assert refusal_of(silent).message == "the session said nothing for 0.4 s"
        assert silent.end()[0] == "DEADLINE_EXCEEDED"
        busy.code(tail.codes(0)[0][0], 9, 1)
        assert busy.get().kind is Kind.LOGITS
    assert not tail.alive


def test_an_edge_in_a_hurry_is_held_up(make_tail):
    tail = make_tail(t_max=200)
    codes = tail.codes(0)[0]
    with serving(tail, limits=Limits(messages_per_s=50)) as address, RawEdge(address, tail) as edge:
        edge.open()
        start = time.monotonic()
        for t in range(1, 90):
            edge.code(codes[t - 1], 0, t)
            assert edge.get().timestep == t
        took_s = time.monotonic() - start
    # 50 at once, and the other 40 at 50 a second.
    assert took_s > 0.7


def test_damage_is_told_apart_from_malice(make_tail, monkeypatch):
    tail = make_tail()
    good = encode(Message(Kind.CODE, 7, 0, 0, 1, 1, bytes(3)))
    long = encode(Message(Kind.CODE, 7, 0, 0, 1, 1, bytes(4097)))
    monkeypatch.setattr(messages, "WIRE_VERSION", 1)
    old = encode(Message(Kind.CODE, 7, 0, 0, 1, 1, bytes(3)))
    monkeypatch.undo()
    cases = {
        "DATA_LOSS": good[:-1] + b"\x01",
        "UNIMPLEMENTED": old,
        "INVALID_ARGUMENT": encode(Message(Kind.CODE, 7, 0, 0, 1, 77, bytes(3))),
        "OUT_OF_RANGE": encode(Message(Kind.CODE, 7, 0, 0, 5, 1, bytes(3))),
        "RESOURCE_EXHAUSTED": long,
    }
    with serving(tail) as address:
        for status, raw in cases.items():
            with RawEdge(address, tail) as edge:
                edge.open()
                edge.send_raw(raw)
                assert edge.end()[0] == status
    assert len(long) == HEADER_BYTES + 4097
