"""Where a server listens, what it refuses to do, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import host_bridge
from host_bridge import EdgeClient, serving, start_server
from host_bridge.address import is_loopback, join_address, parse_address
from host_bridge.server.limits import Limits
from neucodex_lava.errors import BridgeError, ConfigError

REPOSITORY = Path(host_bridge.__file__).parents[1]


def start(tails, **arguments):
    """Start a server and stop it; gives the address it had."""

    async def run():
        server = await start_server(tails, **({"port": 0} | arguments))
        await server.stop(0)
        return server.address

    return asyncio.run(run())


def test_port_in_use_is_named_with_the_way_out(make_tail):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BridgeError) as caught:
            start(make_tail(), port=port)
    assert caught.value.message == f"cannot listen on 127.0.0.1:{port}: address already in use"
    assert "--port" in caught.value.hint


def test_two_servers_never_share_a_port(make_tail):
    with serving(make_tail()) as address:
        _, port = parse_address(address)
        with (
            pytest.raises(BridgeError, match="address already in use"),
            serving(make_tail(), port=port),
        ):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_hosts_than_loopback_need_protection(make_tail, host):
    with pytest.raises(ConfigError) as caught:
        start(make_tail(), host=host)
    assert host in caught.value.message
    assert "--certificate" in caught.value.hint


def test_numbers_out_of_range_are_config_errors(make_tail):
    with pytest.raises(ConfigError, match="port is -1"):
        start(make_tail(), port=-1)
    for name, value in [("max_sessions", 0), ("max_queue", 0), ("max_batch", 0), ("idle_s", -1)]:
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            Limits(**{name: value})
    with pytest.raises(ConfigError, match="messages_per_s is nan"):
        Limits(messages_per_s=float("nan"))


def test_tails_must_be_registered_under_their_own_bundle(make_tail):
    with pytest.raises(ConfigError, match="is registered as"):
        start({"0" * 64: make_tail()})
    with pytest.raises(ConfigError, match="no bundle to serve"):
        start({})
    with pytest.raises(ConfigError, match="9 bits"):
        start(make_tail(code_bits=9))


def test_addresses():
    assert parse_address("localhost:50051") == ("localhost", 50051)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert join_address("::1", 80) == "[::1]:80"
    assert [is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(h) for h in ("0.0.0.0", "10.0.0.1", "localhost.evil")] == [False] * 3


SERVE = """
    import sys
    import numpy as np
    from host_bridge import serve_forever

    class Counter:
        model, code_shape, code_bits, classes, t_max, gain = "a" * 64, (1, 2, 2), 1, 2, 4, 1.0

        def new_state(self):
            return np.zeros(2, np.int64)

        def step(self, state, code):
            sums = state + [int(code.sum()), -1]
            return sums, sums

    serve_forever(
        Counter(), port=0, on_listening=lambda host, port: print(f"{host}:{port}", flush=True)
    )
    print("ended", flush=True)
"""


@contextmanager
def server_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def client_of(address):
    return EdgeClient(address, model="a" * 64, code_shape=(1, 2, 2), t_max=4, patience_s=0.0)


ONES = np.ones((1, 2, 2), np.uint8)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_forever_serves_and_ends_on_a_signal(number):
    with server_process() as (process, address):
        with client_of(address) as client:
            client.start_sample()
            replies = [client.step(ONES).sums.tolist() for _ in range(3)]
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "ended\n", "")
    assert replies == [[4, -1], [8, -2], [12, -3]]


def test_signal_within_a_session_is_told_to_the_edge_and_leaves_no_noise():
    with server_process() as (process, address), client_of(address) as client:
        client.start_sample()
        client.step(ONES)
        process.terminate()
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "ended\n", "")
        with pytest.raises(BridgeError, match="the cloud server is stopping"):
            client.step(ONES)


def test_killed_server_is_noticed_at_the_next_step():
    with server_process() as (process, address), client_of(address) as client:
        client.start_sample()
        client.step(ONES)
        process.kill()
        process.wait()
        with pytest.raises(BridgeError) as caught:
            client.step(ONES)
    lost = f"lost the cloud server at {address} at sample 0, timestep 2: "
    assert caught.value.message.startswith(lost)
    assert "neucodex serve BUNDLE" in caught.value.hint


def test_importing_the_room_imports_neither_grpc_nor_numpy():
    code = (
        "import sys, host_bridge; print([m for m in ('grpc', 'numpy', 'asyncio') "
        "if m in sys.modules]); print(all(getattr(host_bridge, n) for n in host_bridge.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_public_names_are_the_documented_ones():
    assert sorted(host_bridge.__all__) == [
        "BridgeServer",
        "EdgeClient",
        "StepReply",
        "Tail",
        "pack",
        "packed_bits",
        "raw_bits",
        "serve_forever",
        "serving",
        "start_server",
        "unpack",
    ]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = host_bridge.nothing
