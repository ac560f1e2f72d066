"""The proxy against a link that the kernel shapes (tbf between two network namespaces)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from namespaces import CLOUD, Namespaces, shaped

from host_bridge.links import FaultProxy, Link

LINK = Link(up_bps=2e6, down_bps=8e6)
DELAY_S = 0.3
"""One way. Not the kernel's, which may have no netem: added to its time."""
SENT_BYTES = 100_000

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


@contextmanager
def served(host: str, *prefix: str) -> Iterator[int]:
    command = [*prefix, sys.executable, "-c", SERVER, host, str(SENT_BYTES)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


def transfer_s(host: str, port: int, *prefix: str) -> float:
    """Of two transfers there and back, the one that a busy machine held up less."""
    command = [*prefix, sys.executable, "-c", CLIENT, host, str(port), str(SENT_BYTES)]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        for _ in range(2)
    ]
    return min(float(run.stdout) for run in runs)


def through_proxy_s(link: Link) -> float:
    with served("127.0.0.1") as port, FaultProxy(f"127.0.0.1:{port}", link) as address:
        return transfer_s("127.0.0.1", int(address.rpartition(":")[2]))


def test_the_proxy_takes_as_long_as_a_link_shaped_by_the_kernel() -> None:
    with (
        shaped(LINK) as spaces,
        served(CLOUD, *Namespaces.command(spaces.cloud)) as port,
    ):
        kernel_s = transfer_s(CLOUD, port, *Namespaces.command(spaces.edge))
    # The kernel also sends headers (5 %) and acknowledgements, and has a bucket of 3 kB to begin with.
    assert kernel_s > 0.9 * SENT_BYTES * 8 * (1 / LINK.up_bps + 1 / LINK.down_bps)
    assert 0.8 < through_proxy_s(LINK) / kernel_s < 1.3
    delayed_s = through_proxy_s(replace(LINK, delay_s=DELAY_S))
    assert 0.8 < delayed_s / (kernel_s + 2 * DELAY_S) < 1.3
