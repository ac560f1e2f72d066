"""The fault proxy: what goes in comes out, later or damaged as was asked for, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from host_bridge.address import parse_address
from host_bridge.links import FaultProxy, Faults, Link
from host_bridge.links.http2 import DataFrames
from neucodex_lava.errors import ConfigError


@contextmanager
def echo_server() -> Iterator[str]:
    """Gives back what it gets, on plain TCP."""

    def echo(connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            try:
                while True:
                    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def through(**arguments) -> Iterator[tuple[FaultProxy, socket.socket]]:
    """A proxy before an echo server, and a connection to it."""
    with echo_server() as target:
        proxy = FaultProxy(target, **arguments)
        with proxy as address, socket.create_connection(parse_address(address), 5) as end:
            yield proxy, end


def exchange(end, data):
    end.sendall(data)
    return receive(end, len(data))


def receive(end, size):
    got = b""
    while len(got) < size:
        data = end.recv(65536)
        if not data:
            break
        got += data
    return got


def test_bytes_come_back_whole_and_in_order():
    data = bytes(range(256)) * 2000
    with through() as (proxy, end):
        assert exchange(end, data) == data
        end.shutdown(socket.SHUT_WR)
        assert end.recv(1) == b""
        assert (proxy.up_bytes, proxy.down_bytes) == (len(data), len(data))
        assert (proxy.connections, dict(proxy.happened)) == (1, {})


def test_delay_and_rate_take_their_time():
    with through(link=Link(up_bps=800e3, delay_s=0.05)) as (_, end):
        start = time.monotonic()
        assert exchange(end, bytes(10)) == bytes(10)
        assert 0.1 <= time.monotonic() - start < 1
        start = time.monotonic()
        exchange(end, bytes(20_000))
        assert 0.3 <= time.monotonic() - start < 2


def test_jitter_keeps_the_order():
    data = [bytes([n]) * 10 for n in range(40)]
    with through(link=Link(jitter_s=0.02), seed=3) as (_, end):
        for part in data:
            end.sendall(part)
            time.sleep(0.001)
        assert receive(end, 400) == b"".join(data)


def test_a_stalled_link_goes_on_where_it_stood():
    with through() as (proxy, end):
        assert exchange(end, b"before") == b"before"
        proxy.faults = Faults(stalled=True)
        end.sendall(b"while")
        end.settimeout(0.3)
        with pytest.raises(TimeoutError):
            end.recv(10)
        proxy.faults = Faults()
        end.settimeout(5)
        assert receive(end, 5) == b"while"


def test_stalls_last_as_long_as_asked():
    with through(faults=Faults(stall=1.0, stall_s=0.1)) as (proxy, end):
        start = time.monotonic()
        exchange(end, b"x")
        assert 0.2 <= time.monotonic() - start < 1
        assert proxy.happened["stall"] == 2


def test_a_half_open_connection_swallows_for_good_and_a_new_one_works():
    with through() as (proxy, end):
        proxy.faults = Faults(half_open=True)
        end.sendall(b"gone")
        end.settimeout(0.2)
        with pytest.raises(TimeoutError):
            end.recv(10)
        proxy.faults = Faults()
        end.sendall(b"gone too")
        with pytest.raises(TimeoutError):
            end.recv(10)
        with socket.create_connection(parse_address(proxy.address), 5) as other:
            assert exchange(other, b"hello") == b"hello"


def test_resets_reach_the_client_as_resets():
    with through(faults=Faults(reset=1.0)) as (proxy, end):
        end.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            end.recv(1)
        assert proxy.happened["reset"] == 1
    with through() as (proxy, end):
        exchange(end, b"x")
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def refused(end) -> bool:
    try:
        return exchange(end, b"x") != b"x"
    except OSError:
        return True


def turned_away(address):
    """Whether a new connection is reset, be it while it is being made."""
    try:
        with socket.create_connection(parse_address(address), 5) as end:
            return refused(end)
    except ConnectionResetError:
        return True


def test_refused_connections_and_a_target_that_moves():
    with through() as (proxy, _):
        proxy.faults = Faults(refuse=True)
        assert turned_away(proxy.address)
        proxy.faults = Faults()
        with echo_server() as elsewhere:
            proxy.target = elsewhere
            with socket.create_connection(parse_address(proxy.address), 5) as other:
                assert exchange(other, b"hello") == b"hello"
        assert turned_away(proxy.address)


def corrupted(seed):
    data = bytes(100)
    with through(faults=Faults(corrupt=0.3), seed=seed) as (proxy, end):
        got = [exchange(end, data) for _ in range(30)]
    flips = [sum(bin(byte).count("1") for byte in part) for part in got]
    return proxy.happened["corrupt"], flips, got


def test_corruption_flips_one_bit_a_chunk_and_is_seeded():
    times, flips, got = corrupted(seed=5)
    assert times == sum(flips)
    assert 5 < times < 40
    assert set(flips) == {0, 1, 2}
    assert corrupted(seed=5)[2] == got
    assert corrupted(seed=6)[2] != got


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_data_frames_are_found_however_the_stream_is_cut(size):
    def frame(kind, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind]) + bytes(5) + payload

    stream = b"P" * 24 + b"".join(
        [
            frame(4, b"settings"),
            frame(0, b"first"),
            frame(0, b""),
            frame(1, b"head"),
            frame(0, b"ab"),
        ]
    )
    lengths = []

    def pick(length):
        lengths.append(length)
        return (length - 1, 0x80)

    frames = DataFrames(24, pick)
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    out = b"".join(frames.pass_on(chunk) for chunk in chunks)
    assert lengths == [5, 2]
    changed = [at for at, (a, b) in enumerate(zip(stream, out, strict=True)) if a != b]
    assert changed == [stream.index(b"first") + 4, stream.index(b"ab") + 1]


def test_damaged_data_frames_arrive_as_whole_messages():
    server = grpc.server(ThreadPoolExecutor(1))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x.Y", {"Z": echo}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    proxy = FaultProxy(f"127.0.0.1:{port}", faults=Faults(corrupt_data=0.3), seed=1)
    sent, changed = bytes(2000), []
    try:
        with proxy as address, grpc.insecure_channel(address) as channel:
            for _ in range(30):
                try:
                    got = channel.unary_unary("/x.Y/Z")(sent, timeout=1)
                except grpc.RpcError:
                    continue  # One of gRPC's own five bytes before a message was hit.
                assert len(got) == len(sent)
                changed.append(sum(bin(byte).count("1") for byte in got))
    finally:
        server.stop(None)
    assert 20 < len(changed) <= 30
    assert 3 < sum(changed) <= proxy.happened["corrupt_data"]


def test_faults_out_of_range_are_config_errors():
    with pytest.raises(ConfigError, match="share reset is 1.5"):
        Faults(reset=1.5)
    with pytest.raises(ConfigError, match="stall_s is -1"):
        Faults(stall_s=-1)
    with pytest.raises(ConfigError, match="not the address"):
        FaultProxy("nowhere")
