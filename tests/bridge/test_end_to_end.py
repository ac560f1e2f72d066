"""Client and server over a real loopback socket: the sums are those of the tail run right here."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from raw_edge import RawEdge

from host_bridge import EdgeClient, serving
from host_bridge.handshake import Drain, Refusal
from host_bridge.messages import HEADER_BYTES, Kind, wire_bytes
from host_bridge.server.limits import Limits
from neucodex_lava.errors import BridgeError, ConfigError, ProtocolError


def client_for(address, tail, **changes):
    arguments = {
        "model": tail.model,
        "code_shape": tail.code_shape,
        "code_bits": tail.code_bits,
        "t_max": tail.t_max,
        "timeout_s": 10.0,
    } | changes
    return EdgeClient(address, **arguments)


def infer(client, codes):
    """Running sums of one sample, shape (T, classes)."""
    client.start_sample()
    rows = [client.step(code).sums for code in codes]
    client.end_sample()
    return np.stack(rows)


def eventually(condition, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_running_sums_equal_local_computation(make_tail, bits):
    tail = make_tail(code_bits=bits)
    codes = tail.codes(seed=bits, samples=5)
    with serving(tail) as address, client_for(address, tail) as client:
        assert (client.classes, client.gain) == (10, 2.5)
        for sample in codes:
            assert infer(client, sample).tolist() == tail.run(sample).tolist()


def test_samples_may_stop_early_or_send_nothing(make_tail):
    tail = make_tail()
    codes = tail.codes(seed=3, samples=4)
    with serving(tail) as address, client_for(address, tail) as client:
        for length, sample in zip([2, 1, 4, 3], codes):
            client.start_sample()  # ended before its first timestep
            client.end_sample()
            client.start_sample()
            rows = [client.step(code).sums.tolist() for code in sample[:length]]
            assert rows == tail.run(sample[:length]).tolist()


def test_reply_tells_what_the_step_cost(make_tail):
    tail = make_tail(before_step=lambda: time.sleep(0.02))
    with serving(tail) as address, client_for(address, tail) as client:
        client.start_sample()
        reply = client.step(tail.codes(0)[0, 0])
        ended = client.end_sample()
    assert reply.payload_bits == 24  # 18 bits in 3 bytes
    up, down = wire_bytes(HEADER_BYTES + 3), wire_bytes(HEADER_BYTES + 4 + 4 * 10)
    assert (reply.wire_bytes, ended) == (up + down, wire_bytes(HEADER_BYTES))
    assert 0.02 <= reply.cloud_s <= reply.roundtrip_s


def test_concurrent_sessions_are_taken_together_and_do_not_mix(make_batch_tail):
    local, tail = make_batch_tail(), make_batch_tail(before_step=lambda: time.sleep(0.01))
    codes = local.codes(seed=9, samples=12)
    results = {}
    with serving(tail) as address:

        def edge(which):
            with client_for(address, tail) as client:
                results[which] = [infer(client, sample).tolist() for sample in codes[which::4]]

        threads = [threading.Thread(target=edge, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for which in range(4):
        assert results[which] == [local.run(sample).tolist() for sample in codes[which::4]]
    assert max(tail.sizes) >= 2
    assert sum(tail.sizes) <= 48, "one step of a session at a time"


def test_one_server_serves_several_bundles(make_tail):
    tails = [make_tail("a"), make_tail("b", classes=4, code_shape=(1, 2, 2))]
    with serving({tail.model: tail for tail in tails}) as address:
        for tail in tails:
            sample = tail.codes(seed=5)[0]
            with client_for(address, tail) as client:
                assert infer(client, sample).tolist() == tail.run(sample).tolist()


def test_large_codes_pass_and_limits_follow_the_shape(make_tail):
    tail = make_tail(code_shape=(64, 32, 32), code_bits=8, t_max=1)
    sample = tail.codes(seed=2)[0]
    with serving(tail) as address, client_for(address, tail) as client:
        assert infer(client, sample).tolist() == tail.run(sample).tolist()


def test_wrong_model_names_both_bundles(make_tail):
    served, other = make_tail("served"), make_tail("other")
    with serving(served) as address, pytest.raises(BridgeError) as caught:
        client_for(address, other).open()
    assert served.model[:12] in caught.value.message
    assert other.model[:12] in caught.value.message
    assert caught.value.hint == "give both sides the same bundle: neucodex serve BUNDLE"


def test_wrong_shape_is_refused_by_the_server(make_tail):
    tail = make_tail()
    with serving(tail) as address, pytest.raises(ProtocolError, match=r"takes \(2, 3, 3\)"):
        client_for(address, tail, code_shape=(2, 3, 2)).open()


def test_misuse_is_refused_before_anything_is_sent(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=0)[0]
    with serving(tail) as address, client_for(address, tail) as client:
        with pytest.raises(ProtocolError, match="no sample is running"):
            client.step(sample[0])
        client.start_sample()
        with pytest.raises(ProtocolError, match=r"code of shape \(2, 3\), the session has"):
            client.step(sample[0, :, :, 0])
        with pytest.raises(ProtocolError, match="code holds 2"):
            client.step(np.full_like(sample[0], 2))
        # The session has not suffered.
        rows = [client.step(code).sums.tolist() for code in sample]
        assert rows == tail.run(sample).tolist()
        with pytest.raises(ProtocolError, match="timestep 5 is beyond t_max 4"):
            client.step(sample[0])


def test_closed_client_says_so(make_tail):
    tail = make_tail()
    with serving(tail) as address:
        client = client_for(address, tail)
        with client:
            pass
        client.close()
        with pytest.raises(BridgeError, match="is not open"):
            client.start_sample()
        with pytest.raises(BridgeError, match="has been opened before"):
            client.open()


def test_failing_tail_ends_the_session_without_its_details(make_tail):
    tail = make_tail(fail_at=2)
    sample = tail.codes(seed=0)[0]
    with serving(tail) as address:
        with RawEdge(address, tail) as edge:
            edge.open()
            for t in (1, 2):
                edge.code(sample[t - 1], 0, t)
                answer = edge.get()
            assert answer.kind is Kind.ERROR
            said = Refusal.from_bytes(answer.payload)
            assert said.message == "the tail failed at sample 0, timestep 2: RuntimeError"
            assert edge.end()[:2] == ("INTERNAL", said.message)
        # The server itself goes on.
        with client_for(address, tail) as next_client:
            assert infer(next_client, sample).tolist() == tail.run(sample).tolist()


@pytest.mark.parametrize("way", ["close", "disconnect"])
def test_state_is_freed_when_the_edge_leaves_within_a_sample(make_tail, way):
    tail = make_tail()
    with serving(tail) as address:
        client = client_for(address, tail)
        client.open()
        client.start_sample()
        client.step(tail.codes(0)[0, 0])
        assert len(tail.alive) == 1
        if way == "close":
            client.close()
        else:
            client._link.exchange.stream.abandon()
        assert eventually(lambda: len(tail.alive) == 0)


def test_sessions_beyond_the_limit_are_refused_until_one_ends(make_tail):
    tail = make_tail()
    with serving(tail, limits=Limits(max_sessions=1)) as address:
        with client_for(address, tail) as first:
            with pytest.raises(BridgeError, match="the server already holds 1 sessions"):
                client_for(address, tail, patience_s=0.0).open()
            sample = tail.codes(1)[0]
            assert infer(first, sample).tolist() == tail.run(sample).tolist()
        with client_for(address, tail) as second:
            assert second.classes == 10


def test_server_that_stops_within_a_sample_says_so_twice(make_tail):
    tail = make_tail()
    with ExitStack() as stack:
        with serving(tail, grace_s=0.1) as address:
            edge = stack.enter_context(RawEdge(address, tail))
            edge.open()
            edge.code(tail.codes(0)[0, 0], 0, 1)
            edge.get()
        drain, refusal = edge.get(), edge.get()
        assert Drain.from_bytes(drain.payload) == Drain("the cloud server is stopping", 1000)
        assert Refusal.from_bytes(refusal.payload).status == "UNAVAILABLE"
        status, text, trailing = edge.end()
    assert (status, text) == ("UNAVAILABLE", "the cloud server is stopping")
    assert trailing["retry-after-ms"] == "1000"
    assert len(tail.alive) == 0


def test_server_that_stops_during_a_step_does_not_wait_for_it(make_tail):
    entered, leave = threading.Event(), threading.Event()

    def hang():
        entered.set()
        leave.wait(20)

    tail = make_tail(before_step=hang)
    with ExitStack() as stack:
        with serving(tail, grace_s=0.1) as address:
            edge = stack.enter_context(RawEdge(address, tail))
            edge.open()
            edge.code(tail.codes(0)[0, 0], 0, 1)
            assert entered.wait(10)
        assert [edge.get().kind for _ in range(2)] == [Kind.DRAIN, Kind.ERROR]
        assert edge.end()[0] == "UNAVAILABLE"
        leave.set()


@pytest.mark.parametrize(
    "target",
    ["", "localhost", "a:b", "host:0", "host:65536", "http://h:1", "[::g]:1", "a b:1", "\x1b:1"],
)
def test_malformed_target_is_a_config_error(make_tail, target):
    with pytest.raises(ConfigError) as caught:
        client_for(target, make_tail())
    assert "HOST:PORT" in caught.value.hint
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"timeout_s": 0.0}, "timeout_s is 0.0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan"),
        ({"t_max": 0}, "t_max is 0"),
        ({"code_shape": (0, 1, 1)}, r"code shape \(0, 1, 1\)"),
        ({"code_bits": 9}, "9 bits"),
    ],
)
def test_arguments_out_of_range_are_config_errors(make_tail, change, says):
    with pytest.raises(ConfigError, match=says):
        client_for("127.0.0.1:1", make_tail(), **change)
