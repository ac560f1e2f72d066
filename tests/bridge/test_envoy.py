"""Two servers behind a real Envoy, configured by deploy/envoy: sessions stick, and outlive a server."""

from __future__ import annotations

import json
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_bridge import EdgeClient
from host_bridge._grpc import METHOD, SERVICE, grpc
from host_bridge.handshake import Open
from host_bridge.messages import Kind, Message, decode, encode
from neucodex_lava.bundle import Bundle, load_bundle

yaml = pytest.importorskip("yaml", reason="needs the extra dev")

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "deploy" / "envoy" / "envoy.yaml"
BUNDLE = ROOT / "netx_exports" / "resnet-small-digits" / "sp3"
ENVOY = Path(sys.executable).with_name("envoy")
START_S = 60.0

pytestmark = [
    pytest.mark.skipif(not ENVOY.exists(), reason="needs Envoy (extra dev)"),
    pytest.mark.timeout(240),
]


def wait_until(what: Callable[[], Any], within_s: float = START_S) -> Any:
    until = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)
    return found


@dataclass
class Server:
    """A `neucodex serve` of its own, and what it logs."""

    process: subprocess.Popen[str]
    log: Path
    port: int = 0

    def sessions(self) -> list[str]:
        """Numbers of the sessions it opened, in order."""
        return re.findall(r"session ([0-9a-f]{16}) opened", self.log.read_text())


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Site:
    """Envoy's address and the servers behind it."""

    address: str
    servers: list[Server]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        servers: list[Server] = []
        for i in range(2):
            log = tmp_path / f"server{i}.log"
            process = subprocess.Popen(
                [ENVOY.with_name("neucodex"), "serve", BUNDLE, "--port", "0", "--json"],
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(log.open("w")),
                text=True,
            )
            stack.enter_context(ending(process))
            servers.append(Server(process, log))
        for server in servers:
            assert server.process.stdout is not None
            server.port = json.loads(server.process.stdout.readline())["port"]
        port = free_port()
        told = yaml.safe_load(CONFIGURATION.read_text())
        resources = told["static_resources"]
        resources["listeners"][0]["address"]["socket_address"]["port_value"] = port
        group = resources["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        for endpoint, server in zip(group, servers, strict=True):
            endpoint["endpoint"]["address"]["socket_address"]["port_value"] = server.port
        file = tmp_path / "envoy.yaml"
        file.write_text(yaml.safe_dump(told))
        envoy = subprocess.Popen(
            [ENVOY, "--config-path", file, "--disable-hot-restart", "--concurrency", "1"],
            stderr=stack.enter_context((tmp_path / "envoy.log").open("w")),
            text=True,
        )
        stack.enter_context(ending(envoy))
        wait_until(lambda: listens(port))
        yield Site(f"127.0.0.1:{port}", servers)


def client_of(bundle: Bundle, address: str) -> EdgeClient:
    net = bundle.net
    return EdgeClient(
        address, model=bundle.sha256, code_shape=net.code_shape, t_max=net.timesteps, timeout_s=20.0
    )


def open_raw(address: str, bundle: Bundle, session: int, epoch: int) -> Kind:
    """Open a session by hand, see what comes back, and break the stream."""
    net = bundle.net
    hello = Open(bundle.sha256, net.code_shape, 1, net.timesteps, {}).to_bytes()
    raw = encode(Message(Kind.OPEN, session, epoch, payload=hello))
    with grpc().insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")(
            iter([raw]), metadata=(("x-neucodex-session", f"{session:016x}"),), timeout=20
        )
        return decode(next(call), 4096).kind


def test_a_session_comes_back_to_its_server_and_sessions_spread(site: Site) -> None:
    bundle = load_bundle(BUNDLE)
    wait_until(lambda: open_once(site, bundle))
    numbers = [secrets.randbits(64) for _ in range(24)]
    for epoch in range(3):
        for number in numbers:
            assert open_raw(site.address, bundle, number, epoch) is Kind.OPENED
    names = [f"{number:016x}" for number in numbers]
    seen = [[n for n in server.sessions() if n in names] for server in site.servers]
    for name in names:
        assert sorted(s.count(name) for s in seen) == [0, 3]
    assert all(seen), "one server has them all"


def open_once(site: Site, bundle: Bundle) -> bool:
    """Whether Envoy has found a server healthy."""
    try:
        return open_raw(site.address, bundle, secrets.randbits(64), 0) is Kind.OPENED
    except grpc().RpcError:
        return False


def test_a_killed_server_s_session_goes_on_at_the_other_with_the_same_sums(site: Site) -> None:
    bundle = load_bundle(BUNDLE)
    wait_until(lambda: open_once(site, bundle))
    codes, sums = bundle.golden.spikes[bundle.net.output], bundle.golden.sums
    timesteps = bundle.net.timesteps
    before = {name for server in site.servers for name in server.sessions()}
    with client_of(bundle, site.address) as client:
        first = wait_until(
            lambda: next((s for s in site.servers if set(s.sessions()) - before), None)
        )
        (name,) = set(first.sessions()) - before
        (other,) = (s for s in site.servers if s is not first)
        for n in range(len(codes)):
            client.start_sample()
            for t in range(timesteps):
                if (n, t) == (1, 2):
                    first.process.send_signal(signal.SIGKILL)
                    first.process.wait(30)
                np.testing.assert_array_equal(client.step(codes[n, ..., t]).sums, sums[n, :, t])
            client.end_sample()
        counts = client.counts
    assert name in other.sessions()
    assert counts.reconnects >= 1
    assert counts.replayed >= 2
