"""Servers that are busy, full, draining, refusing or never silent, and what the edge makes of them."""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np
import pytest
from edges import edge, infer
from raw_edge import RawEdge
from scripted_server import refusal, reply, scripted_server

from host_bridge import serving
from host_bridge.handshake import Drain
from host_bridge.messages import Kind, pack_busy, pack_logits
from neucodex_lava.errors import BridgeError, ProtocolError


def test_busy_server_is_asked_again_after_the_time_it_says(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=6)[0]
    refused_at = []

    def busy(stream, message, answers):
        if message.kind is Kind.CODE and message.timestep == 2 and len(refused_at) < 2:
            refused_at.append(time.monotonic())
            stream.state = before[0]
            return [reply(message, Kind.BUSY, pack_busy(0.15))]
        before[0] = stream.state
        return answers

    before = [None]
    # The step is made before it is refused; the state of the step before is put back.
    with scripted_server(tail, busy) as (address, streams), edge(address, tail) as client:
        rows = infer(client, sample)
    assert rows == make_tail().run(sample).tolist()
    assert client.counts.busy == 2
    sent = [m.timestep for m in streams[0].seen if m.kind is Kind.CODE]
    assert sent == [1, 2, 2, 2, 3, 4]
    assert refused_at[1] - refused_at[0] >= 0.15


def test_server_that_stays_busy_is_an_error_when_patience_is_over(make_tail):
    tail = make_tail()

    def busy(_stream, message, answers):
        if message.kind is Kind.CODE:
            return [reply(message, Kind.BUSY, pack_busy(0.01))]
        return answers

    with scripted_server(tail, busy) as (address, _), edge(address, tail, patience_s=0.2) as client:
        client.start_sample()
        with pytest.raises(BridgeError) as caught:
            client.step(tail.codes(0)[0, 0])
    assert caught.value.status == "RESOURCE_EXHAUSTED"
    assert "has been busy for 0.2 s at sample 0, timestep 1" in caught.value.message


def test_draining_server_is_left_after_the_sample(make_tail):
    tail = make_tail()
    samples = tail.codes(seed=6, samples=2)

    def drain(_stream, message, answers):
        if message.kind is Kind.CODE and message.timestep == 2:
            payload = Drain("the cloud server is going down", 60_000).to_bytes()
            return [reply(message, Kind.DRAIN, payload, timestep=0), *answers]
        return answers

    with scripted_server(tail, drain) as (going, old), scripted_server(tail) as (staying, new):
        while True:
            with edge([going, staying], tail) as client:
                if client.target == staying:
                    continue
                first = infer(client, samples[0])
                second = infer(client, samples[1])
                assert client.target == staying
            break
    assert [first, second] == [make_tail().run(sample).tolist() for sample in samples]
    assert [m.timestep for m in old[-1].seen if m.kind is Kind.CODE] == [1, 2, 3, 4]
    assert old[-1].seen[-1].kind is Kind.CLOSE
    codes = [(m.sample, m.timestep) for m in new[-1].seen if m.kind is Kind.CODE]
    assert codes == [(1, 1), (1, 2), (1, 3), (1, 4)], "nothing of the first sample is sent there"


@pytest.mark.parametrize(
    "status",
    [
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
    ],
)
def test_refusals_for_good_are_not_tried_again(make_tail, status):
    tail = make_tail()

    def refuse(_stream, message, answers):
        return [refusal(message, status)] if message.kind is Kind.CODE else answers

    with scripted_server(tail, refuse) as (address, streams), edge(address, tail) as client:
        client.start_sample()
        with pytest.raises(BridgeError, match="^no$") as caught:
            client.step(tail.codes(0)[0, 0])
    assert (caught.value.status, len(streams)) == (status, 1)


@pytest.mark.parametrize("status", ["INTERNAL", "OUT_OF_RANGE"])
def test_what_fails_twice_at_the_same_timestep_is_not_asked_again(make_tail, status):
    tail = make_tail()

    def fail(_stream, message, answers):
        return [refusal(message, status)] if message.timestep == 2 else answers

    with scripted_server(tail, fail) as (address, streams), edge(address, tail) as client:
        client.start_sample()
        client.step(tail.codes(0)[0, 0])
        with pytest.raises(BridgeError, match="^no$"):
            client.step(tail.codes(0)[0, 1])
    assert len(streams) == 2


def test_full_server_is_asked_again_after_the_time_it_says(make_tail):
    tail = make_tail()
    asked = []

    def full(stream, message, answers):
        if stream.number < 2:
            asked.append(time.monotonic())
            stream.context.set_trailing_metadata((("retry-after-ms", "300"),))
            return [refusal(message, "RESOURCE_EXHAUSTED"), None]
        asked.append(time.monotonic())
        return answers

    def ending(stream, message, answers):
        told = full(stream, message, answers) if message.kind is Kind.OPEN else answers
        if told and told[-1] is None:
            # Sent first; the abort ends the call with the trailing metadata.
            return _then_abort(stream, told[:-1])
        return told

    def _then_abort(stream, told):
        yield from told
        import grpc

        stream.context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")

    with scripted_server(tail, ending) as (address, _), edge(address, tail) as client:
        assert infer(client, tail.codes(0)[0]) == make_tail().run(tail.codes(0)[0]).tolist()
    assert asked[1] - asked[0] >= 0.3
    assert asked[2] - asked[1] >= 0.3


def test_answer_by_a_deadline_or_none_and_the_session_goes_on(make_tail):
    wait_s = [0.0]
    tail = make_tail(before_step=lambda: time.sleep(wait_s[0]))
    samples = tail.codes(seed=6, samples=2)
    with serving(tail) as address, edge(address, tail) as client:
        client.start_sample()
        client.send(samples[0][0])
        assert (
            client.receive(time.monotonic() + 5).sums.tolist() == tail.run(samples[0])[0].tolist()
        )
        wait_s[0] = 0.3
        client.send(samples[0][1])
        began = time.monotonic()
        assert client.receive(began + 0.05) is None
        assert 0.05 <= time.monotonic() - began < 0.25
        # The next step waits for its own answer, not for the one that was late.
        assert client.step(samples[0][2]).sums.tolist() == make_tail().run(samples[0])[2].tolist()
        client.end_sample()
        wait_s[0] = 0.0
        assert infer(client, samples[1]) == make_tail().run(samples[1]).tolist()
        assert client.counts.reconnects == 0


def test_a_server_that_never_stops_talking_outlasts_neither_deadline_nor_patience(make_tail):
    tail = make_tail()
    wrong = pack_logits(np.arange(tail.classes), 0.0)

    def chatter(_stream, message, answers):
        if message.kind is not Kind.CODE or message.timestep == 1:
            return answers
        return itertools.repeat(reply(message, Kind.LOGITS, wrong, timestep=1))

    with scripted_server(tail, chatter) as (address, _):
        with edge(address, tail) as client:
            client.start_sample()
            client.step(tail.codes(0)[0, 0])
            client.send(tail.codes(0)[0, 1])
            began = time.monotonic()
            with contextlib.suppress(ProtocolError):
                assert client.receive(began + 0.05) is None
            assert time.monotonic() - began < 3
        with edge(address, tail) as client:
            client.start_sample()
            client.step(tail.codes(0)[0, 0])
            with pytest.raises(ProtocolError, match="answers to what is over"):
                client.step(tail.codes(0)[0, 1])


def test_a_server_that_only_drains_is_left(make_tail):
    tail = make_tail()

    def drain(_stream, message, answers):
        if message.kind is not Kind.CODE:
            return answers
        payload = Drain("the cloud server is going down", 0).to_bytes()
        return itertools.repeat(reply(message, Kind.DRAIN, payload, timestep=0))

    with scripted_server(tail, drain) as (address, _), edge(address, tail) as client:
        client.start_sample()
        began = time.monotonic()
        with pytest.raises(ProtocolError, match="answers to what is over"):
            client.step(tail.codes(0)[0, 0])
        assert time.monotonic() - began < 5


def test_what_nobody_reads_stays_with_the_server(make_tail):
    tail = make_tail()
    payload = pack_logits(np.arange(tail.classes), 0.0)
    sent = [0]

    def flood(message):
        while True:
            sent[0] += 1
            yield reply(message, Kind.LOGITS, payload, timestep=1)

    def twist(_stream, message, answers):
        return flood(message) if message.kind is Kind.CODE else answers

    with scripted_server(tail, twist) as (address, _), edge(address, tail) as client:
        client.start_sample()
        client.send(tail.codes(0)[0, 0])
        assert client.receive(time.monotonic() + 2) is not None
        stream = client._link.exchange.stream
        time.sleep(0.5)
        unread = stream._inbox.qsize()
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 3
        stream._reader.join(2)
        assert not stream._reader.is_alive(), "it waits for no room"
    assert unread <= 64 < sent[0]


def test_a_session_whose_number_is_taken_goes_on_under_another(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=4)[0]
    with serving(tail) as address, edge(address, tail) as client:
        client.start_sample()
        rows = [client.step(sample[0]).sums.tolist()]
        number = client._link.exchange._ids[0]
        with RawEdge(address, tail, number, 0xFFFF) as thief:
            assert thief.open().kind is Kind.OPENED
            rows += [client.step(code).sums.tolist() for code in sample[1:]]
            assert client._link.exchange._ids[0] != number
    assert rows == make_tail().run(sample).tolist()


@pytest.mark.parametrize("status", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
def test_last_words_are_not_waited_for_beyond_a_deadline(make_tail, status):
    tail = make_tail()

    def lingers(_stream, message, answers):
        if message.kind is not Kind.CODE:
            return answers
        return itertools.chain([refusal(message, status)], _after(2.0))

    def _after(seconds):
        time.sleep(seconds)
        yield from ()

    with scripted_server(tail, lingers) as (address, _), edge(address, tail) as client:
        client.start_sample()
        client.send(tail.codes(0)[0, 0])
        began = time.monotonic()
        assert client.receive(began + 0.1) is None
        assert time.monotonic() - began < 0.4


def test_a_busy_server_is_sent_nothing_new_before_its_time(make_tail):
    tail = make_tail()
    codes = tail.codes(seed=6)[0]
    came = []

    def busy(stream, message, answers):
        if message.kind is not Kind.CODE:
            return answers
        came.append((message.timestep, time.monotonic()))
        if len(came) > 1:
            return answers
        stream.state = None
        return [reply(message, Kind.BUSY, pack_busy(0.3))]

    with scripted_server(tail, busy, max_ahead=2) as (address, _), edge(address, tail) as client:
        client.start_sample()
        client.send(codes[0])
        assert client.receive(time.monotonic() + 0.1) is None
        client.send(codes[1])
        rows = [client.receive().sums.tolist() for _ in range(2)]
    assert rows == make_tail().run(codes)[:2].tolist()
    assert [timestep for timestep, _ in came] == [1, 1, 2]
    assert came[1][1] - came[0][1] >= 0.29


def test_a_wait_without_end_is_cut_by_patience(make_tail):
    tail = make_tail()

    def busy(_stream, message, answers):
        return [reply(message, Kind.BUSY, pack_busy(1e6))] if message.timestep else answers

    with scripted_server(tail, busy) as (address, _):
        client = edge(address, tail, patience_s=0.3)
        with client:
            client.start_sample()
            began = time.monotonic()
            with pytest.raises(BridgeError, match="has been busy for 0.3 s"):
                client.step(tail.codes(0)[0, 0])
            assert time.monotonic() - began < 3
