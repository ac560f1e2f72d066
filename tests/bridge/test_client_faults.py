"""Links that break, and what the edge makes of it: the sums are those of a run without a fault."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from edges import edge, infer
from scripted_server import refusal, reply, scripted_server

from host_bridge import EdgeClient, serving
from host_bridge.links import FaultProxy, Faults
from host_bridge.messages import Kind, pack_logits
from host_bridge.security import ClientSecurity, ServerSecurity
from host_bridge.security.development import make_certificates
from neucodex_lava.errors import BridgeError, ProtocolError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


SERVER = """
    import sys
    sys.path[:0] = {path!r}
    import numpy as np
    from host_bridge import serve_forever

    class Leaky:
        model, code_shape, code_bits, classes, t_max, gain = "a" * 64, (1, 2, 2), 1, 2, 6, 1.0

        def new_state(self):
            return np.zeros(2, np.int64), np.zeros(2, np.int64)

        def step(self, state, code):
            potential = (state[0] >> 1) + [int(code.sum()) * 16, -8 * int(code[0, 0, 0])]
            return (potential, state[1] + potential), state[1] + potential

    serve_forever(Leaky(), port={port}, on_listening=lambda *_: print("up", flush=True))
"""


class Process:
    """A server in a process of its own, on a port that stays the same."""

    def __init__(self, port: int) -> None:
        text = textwrap.dedent(SERVER).format(path=sys.path, port=port)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def listen(self):
        assert self.process.stdout.readline() == b"up\n"
        return self

    def kill(self):
        self.process.kill()
        self.process.communicate()


def test_server_killed_within_a_sample_and_started_again():
    port = free_port()
    codes = np.random.default_rng(1).integers(0, 2, (6, 1, 2, 2)).astype(np.uint8)
    server = Process(port).listen()
    try:
        client = EdgeClient(f"127.0.0.1:{port}", model="a" * 64, code_shape=(1, 2, 2), t_max=6)
        with client:
            expected = infer(client, codes)
            client.start_sample()
            rows = [client.step(code).sums.tolist() for code in codes[:3]]
            server.kill()
            server = Process(port)
            rows += [client.step(code).sums.tolist() for code in codes[3:]]
            client.end_sample()
            assert infer(client, codes) == expected, "the next sample is served as well"
    finally:
        server.kill()
    assert rows == expected
    assert (client.counts.reconnects, client.counts.replayed) == (1, 3)


def test_reset_within_a_step_is_not_noticed(make_tail):
    proxies = []
    tail = make_tail(before_step=lambda: proxies and proxies.pop().reset_all())
    samples = tail.codes(seed=4, samples=3)
    expected = [make_tail().run(sample).tolist() for sample in samples]
    with serving(tail) as server:
        proxy = FaultProxy(server)
        with proxy as address, edge(address, tail) as client:
            rows = [infer(client, samples[0])]
            client.start_sample()
            second = [client.step(samples[1][0]).sums.tolist()]
            proxies.append(proxy)
            second += [client.step(code).sums.tolist() for code in samples[1][1:]]
            rows += [second, infer(client, samples[2])]
    assert rows == expected
    assert (client.counts.reconnects, client.counts.replayed) == (1, 1)


def test_half_open_link_is_left_for_a_new_connection(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=4)[0]
    with serving(tail) as server:
        proxy = FaultProxy(server)
        with proxy as address, edge(address, tail, timeout_s=0.5) as client:
            client.start_sample()
            rows = [client.step(sample[0]).sums.tolist()]
            proxy.faults = Faults(half_open=True)
            threading.Timer(0.4, setattr, (proxy, "faults", Faults())).start()
            rows += [client.step(code).sums.tolist() for code in sample[1:]]
            # What was swallowed never comes: only another connection could bring the answer.
            assert proxy.connections >= 2
    assert rows == make_tail().run(sample).tolist()


def test_damaged_messages_are_sent_again(make_tail):
    tail = make_tail()
    samples = tail.codes(seed=8, samples=12)
    with serving(tail) as server:
        proxy = FaultProxy(server, faults=Faults(corrupt_data=0.1), seed=3)
        with proxy as address, edge(address, tail) as client:
            rows = [infer(client, sample) for sample in samples]
            damaged = proxy.happened["corrupt_data"]
    assert rows == [make_tail().run(sample).tolist() for sample in samples]
    assert damaged > 0
    assert client.counts.reconnects > 0


def test_dead_server_leaves_its_sessions_to_the_next_on_the_ring(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=2)[0]
    with scripted_server(tail) as (one, _), scripted_server(tail) as (two, _):
        dead = f"127.0.0.1:{free_port()}"
        firsts = set()
        for _ in range(12):
            with edge([one, two, dead], tail) as client:
                assert infer(client, sample) == make_tail().run(sample).tolist()
                firsts.add(client.target)
                assert client.target in (one, two)
    assert firsts == {one, two}, "sessions spread over the servers"


def test_session_moves_to_another_server_and_is_replayed_there(make_tail):
    tail = make_tail()
    sample = tail.codes(seed=2)[0]

    def end_at_3(stream, message, answers):
        return None if message.timestep == 3 else answers

    with scripted_server(tail, end_at_3) as (bad, _), scripted_server(tail) as (good, streams):
        # Whichever comes first on the ring: the other one is asked when that one fails.
        while True:
            with edge([bad, good], tail) as client:
                if client.target == good:
                    continue
                assert infer(client, sample) == make_tail().run(sample).tolist()
                assert client.target == good
            break
    replayed = [(m.epoch, m.sample, m.timestep) for m in streams[-1].seen if m.kind is Kind.CODE]
    assert replayed == [(replayed[0][0], 0, t) for t in (1, 2, 3, 4)]
    assert replayed[0][0] > 0
    opened, session = streams[-1].seen[0], streams[-1].metadata["x-neucodex-session"]
    assert f"{opened.session:016x}" == session, "proxies can keep a session on one server"


def test_other_sums_after_a_replay_are_an_error(make_tail):
    tail, other = make_tail(), make_tail()
    other.weights = other.weights + 1
    sample = tail.codes(seed=2)[0]
    port = free_port()
    with scripted_server(tail, port=port) as (address, _):
        client = edge(address, tail)
        client.open()
        client.start_sample()
        client.step(sample[0])
        client.step(sample[1])
    with scripted_server(other, port=port):
        with pytest.raises(ProtocolError) as caught:
            client.step(sample[2])
        with pytest.raises(BridgeError, match="is not open"):
            client.start_sample()
    assert caught.value.status == "DATA_LOSS"
    assert "answers timestep 1 of sample 0 with other sums" in caught.value.message


def test_duplicate_and_late_answers_are_ignored(make_tail):
    tail = make_tail()
    samples = tail.codes(seed=6, samples=2)
    wrong = pack_logits(np.arange(tail.classes), 0.0)

    def chatter(_stream, message, answers):
        if message.kind is not Kind.CODE:
            return answers
        before = [
            reply(message, Kind.LOGITS, wrong, timestep=t) for t in range(1, message.timestep)
        ]
        if message.sample:
            before.append(reply(message, Kind.LOGITS, wrong, sample=0, timestep=4))
        return before + answers + answers

    with scripted_server(tail, chatter) as (address, _), edge(address, tail) as client:
        rows = [infer(client, sample) for sample in samples]
    assert rows == [make_tail().run(sample).tolist() for sample in samples]
    assert client.counts.ignored > 10
    assert client.counts.reconnects == 0


@pytest.mark.parametrize("lost", ["code", "answer"])
def test_a_message_lost_within_a_stream_is_made_good_by_a_replay(make_tail, lost):
    """A flipped bit in a frame's stream number takes one message out of a stream that goes on."""
    tail = make_tail()
    codes = tail.codes(0)[0]

    def lose(stream, message, answers):
        if stream.number == 0 and lost == "code" and message.timestep == 2:
            return [refusal(message, "OUT_OF_RANGE")]
        if stream.number == 0 and lost == "answer" and message.timestep == 1:
            return []
        return answers

    with scripted_server(tail, lose) as (address, streams), edge(address, tail) as client:
        client.start_sample()
        for code in codes[:2]:
            client.send(code)
        sums = [client.receive().sums for _ in range(2)]
    assert np.array_equal(np.stack(sums), tail.run(codes)[:2])
    assert len(streams) == 2


def test_a_certificate_that_vanishes_within_a_session_is_an_error_of_the_link(make_tail, tmp_path):
    tail = make_tail()
    files = make_certificates(tmp_path / "certs")
    shows = ClientSecurity(files.ca, files.client_certificate, files.client_key)
    asks = ServerSecurity(files.server_certificate, files.server_key, files.ca)
    with serving(tail, security=asks) as server:
        proxy = FaultProxy(server)
        with proxy as address, edge(address, tail, security=shows) as client:
            client.start_sample()
            client.step(tail.codes(0)[0, 0])
            files.client_certificate.unlink()
            proxy.reset_all()
            with pytest.raises(BridgeError, match="certificate") as caught:
                client.step(tail.codes(0)[0, 1])
            assert client.over
    assert caught.value.status == "UNAUTHENTICATED"


@pytest.mark.skipif("NEUCODEX_KEEPALIVE" not in os.environ, reason="takes half a minute")
def test_half_open_idle_link_is_noticed_by_pings(make_tail):
    tail = make_tail()
    with serving(tail) as server:
        proxy = FaultProxy(server)
        with proxy as address, edge(address, tail) as client:
            client.start_sample()
            client.step(tail.codes(0)[0, 0])
            time.sleep(2)  # gRPC's own first pings are over
            proxy.faults = Faults(half_open=True)
            call, began = client._link.exchange.stream._call, time.monotonic()
            while call.is_active():
                assert time.monotonic() - began < 40
                time.sleep(0.1)
            proxy.faults = Faults()
            rows = client.step(tail.codes(0)[0, 1]).sums.tolist()
    assert rows == make_tail().run(tail.codes(0)[0])[1].tolist()
