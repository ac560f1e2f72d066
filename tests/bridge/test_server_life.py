"""Draining, reloading and the services beside the bridge, on a server in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from raw_edge import RawEdge

import host_bridge
from host_bridge import serve_forever, serving, start_server
from host_bridge.handshake import Drain, Refusal
from host_bridge.messages import Kind
from neucodex_lava.errors import ConfigError

SERVING, NOT_SERVING = 1, 2


class Background:
    """A server in a thread, and its methods called from here."""

    def __init__(self, loop, server):
        self.loop, self.server = loop, server
        self.address = server.address

    def start(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def call(self, function, *arguments):
        async def on_loop():
            return function(*arguments)

        return self.start(on_loop()).result(20)


@contextmanager
def background(tails, **arguments):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        start = asyncio.run_coroutine_threadsafe(start_server(tails, port=0, **arguments), loop)
        running = Background(loop, start.result(20))
        yield running
        running.start(running.server.stop(0)).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_draining_lets_running_samples_end_and_takes_nobody_in(make_tail):
    tail = make_tail()
    sample = tail.codes(4)[0]
    expected = tail.run(sample)
    with background(tail, services=True) as running, ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(running.address))
        health = health_pb2_grpc.HealthStub(channel)
        status = health.Watch(health_pb2.HealthCheckRequest(service="neucodex.v1.Bridge"))
        assert next(status).status == SERVING
        edge = stack.enter_context(RawEdge(running.address, tail))
        idle = stack.enter_context(RawEdge(running.address, tail, 8))
        edge.open()
        idle.open()
        silent = stack.enter_context(RawEdge(running.address, tail, 10))
        until = time.monotonic() + 10
        while running.server.sessions < 3 and time.monotonic() < until:
            time.sleep(0.01)
        edge.code(sample[0], 0, 1)
        edge.get()
        stopping = running.start(running.server.stop(20))
        assert next(status).status == NOT_SERVING
        for one in (edge, idle):
            said = one.get()
            assert said.kind is Kind.DRAIN
            assert Drain.from_bytes(said.payload).retry_after_ms == 1000
        late = stack.enter_context(RawEdge(running.address, tail, 9))
        assert Refusal.from_bytes(late.get().payload).status == "UNAVAILABLE"
        assert late.end()[::2][0] == "UNAVAILABLE"
        # Nor a stream that was there before, without a session.
        assert Refusal.from_bytes(silent.open().payload).status == "UNAVAILABLE"
        status_of_silent, _, trailing = silent.end()
        assert (status_of_silent, trailing["retry-after-ms"]) == ("UNAVAILABLE", "1000")
        for t in (2, 3):
            edge.code(sample[t - 1], 0, t)
            answer = edge.get()
        assert answer.payload[4:] == expected[2].astype(">f4").tobytes()
        assert not stopping.done()
        edge.send(Kind.END_SAMPLE, 0, 3)
        # Nothing is left to finish: both are ended, and what the idle one never had is not missed.
        assert Refusal.from_bytes(edge.get().payload).status == "UNAVAILABLE"
        assert idle.end()[0] == "UNAVAILABLE"
        stopping.result(20)


def test_reloading_serves_new_sessions_anew_and_leaves_the_old_ones(make_tail):
    old, new, other = make_tail("old"), make_tail("new", classes=4), make_tail("other")
    sample = old.codes(1)[0]
    with background({t.model: t for t in (old, other)}) as running, ExitStack() as stack:
        edge = stack.enter_context(RawEdge(running.address, old, 1))
        edge.open()
        edge.code(sample[0], 0, 1)
        edge.get()
        fresh = running.call(running.server.replace, {t.model: t for t in (new, other)})
        assert fresh == [new.model]
        edge.code(sample[1], 0, 2)
        assert edge.get().payload[4:] == old.run(sample)[1].astype(">f4").tobytes()
        with RawEdge(running.address, old, 2) as late:
            said = Refusal.from_bytes(late.open().payload)
            assert said.status == "FAILED_PRECONDITION"
            assert new.model[:12] in said.message
        later = stack.enter_context(RawEdge(running.address, new, 3))
        assert later.open().kind is Kind.OPENED
        later.code(sample[0], 0, 1)
        assert later.get().payload[4:] == new.run(sample)[0].astype(">f4").tobytes()
        # The old bundle's tail goes with its last session.
        threads = [t for t in threading.enumerate() if t.name == "neucodex-tail"]
        edge.send(Kind.CLOSE)
        assert edge.end()[0] == "OK"
        deadline = time.monotonic() + 5
        while all(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sum(thread.is_alive() for thread in threads) == len(threads) - 1


@pytest.mark.parametrize("grace_s", [float("nan"), -1.0])
def test_a_grace_that_is_no_length_is_refused_at_the_start(make_tail, grace_s):
    with pytest.raises(ConfigError, match="a grace of"), serving(make_tail(), grace_s=grace_s):
        pass
    with pytest.raises(ConfigError, match="a grace of"):
        serve_forever(make_tail(), port=0, grace_s=grace_s)


def test_a_reload_that_cannot_be_served_changes_nothing(make_tail):
    tail, large = make_tail(), make_tail("large", code_shape=(8, 128, 128))
    with background(tail) as running:
        with pytest.raises(
            ConfigError, match="codes of 16384 bytes, this server was started for 40"
        ):
            running.call(running.server.replace, large)
        with pytest.raises(ConfigError, match="no bundle to serve"):
            running.call(running.server.replace, {})
        with RawEdge(running.address, tail) as edge:
            assert edge.open().kind is Kind.OPENED


def test_reflection_names_the_services(make_tail):
    with (
        background(make_tail(), services=True) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([ask]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"neucodex.v1.Bridge", "grpc.health.v1.Health"} <= names


RELOADING = """
    import sys, numpy as np
    from host_bridge import serve_forever

    class Counter:
        code_shape, code_bits, classes, t_max, gain = (1, 2, 2), 1, 2, 4, 1.0

        def __init__(self, name):
            self.model = name * 64

        def new_state(self):
            return np.zeros(2, np.int64)

        def step(self, state, code):
            sums = state + [int(code.sum()), -1]
            return sums, sums

    asked = 0

    def reload():
        global asked
        asked += 1
        if asked == 1:
            raise OSError("no such bundle")
        return {"b" * 64: Counter("b")}

    import logging
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    serve_forever(
        Counter("a"), port=0, reload=reload, grace_s=30,
        on_listening=lambda host, port: print(f"{host}:{port}", flush=True),
    )
"""


@contextmanager
def server_process(code):
    path = os.pathsep.join([str(Path(host_bridge.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


class Counted:
    """What the edges of `RELOADING` know of its bundles."""

    code_shape, code_bits, t_max = (1, 2, 2), 1, 4

    def __init__(self, name):
        self.model = name * 64


def await_line(process, text):
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"the server ended without saying {text!r}")


def test_hangup_reloads_and_a_second_signal_does_not_wait():
    with server_process(RELOADING) as (process, address), ExitStack() as stack:
        a, b = Counted("a"), Counted("b")
        process.send_signal(signal.SIGHUP)
        await_line(process, "the bundles stay as they are: loading them anew failed")
        edge = stack.enter_context(RawEdge(address, a, 1))
        assert edge.open().kind is Kind.OPENED
        process.send_signal(signal.SIGHUP)
        await_line(process, f"bundle {b.model} is served to new sessions")
        assert stack.enter_context(RawEdge(address, b, 2)).open().kind is Kind.OPENED
        edge.send(Kind.CODE, 0, 1, b"\xf0", 1)
        edge.get()
        process.terminate()
        assert edge.get().kind is Kind.DRAIN
        start = time.monotonic()
        process.terminate()
        assert edge.end()[0] == "UNAVAILABLE"
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert time.monotonic() - start < 15, "not the whole grace of 30 s"
