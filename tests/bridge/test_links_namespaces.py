"""The proxy against a link that the kernel shapes (tbf between two network namespaces)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from namespaces import CLOUD, Namespaces, shaped

import host_bridge
from host_bridge.links import FaultProxy, Link

ROOT = Path(host_bridge.__file__).parents[1]
LINK = Link(up_bps=2e6, down_bps=8e6)
SENT_BYTES = 200_000

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            left = int(sys.argv[2])
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(bytes(int(sys.argv[2])))
"""
CLIENT = """
import socket, sys, time
size = int(sys.argv[3])
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as end:
    start = time.monotonic()
    end.sendall(bytes(size))
    left = size
    while left:
        left -= len(end.recv(65536))
    print(time.monotonic() - start)
"""


def start_server(host: str, *prefix: str) -> tuple[subprocess.Popen[str], int]:
    command = [*prefix, sys.executable, "-c", SERVER, host, str(SENT_BYTES)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def transfer_s(host: str, port: int, *prefix: str) -> float:
    command = [*prefix, sys.executable, "-c", CLIENT, host, str(port), str(SENT_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


def test_the_proxy_takes_as_long_as_a_link_shaped_by_the_kernel() -> None:
    expected_s = SENT_BYTES * 8 * (1 / LINK.up_bps + 1 / LINK.down_bps)
    with shaped(LINK) as spaces:
        server, port = start_server(CLOUD, *Namespaces.command(spaces.cloud))
        try:
            kernel_s = transfer_s(CLOUD, port, *Namespaces.command(spaces.edge))
        finally:
            server.kill()
            server.wait()
    server, port = start_server("127.0.0.1")
    try:
        with FaultProxy(f"127.0.0.1:{port}", LINK) as address:
            start = time.monotonic()
            proxy_s = transfer_s("127.0.0.1", int(address.rpartition(":")[2]))
            assert time.monotonic() - start >= proxy_s
    finally:
        server.kill()
        server.wait()
    # The kernel also sends headers (5 %) and acknowledgements; a busy machine adds to both.
    assert expected_s * 0.95 <= proxy_s < expected_s * 3
    assert expected_s * 0.95 <= kernel_s < expected_s * 3
