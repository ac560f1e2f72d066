"""A local Ray cluster of two nodes: sweeps have the same rows, and the tail is served to real edges."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_bridge import EdgeClient
from host_bridge.security import ClientSecurity
from host_bridge.security.tokens import token_line
from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.errors import BridgeError, ConfigError

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray (extra ray)", allow_module_level=True)

from ray_nodes import two_nodes

from neucodex_lava.deploy.ray_serve import ADD_BRIDGE, TailOptions, tail_app
from neucodex_lava.evaluation import ray_cluster

FAMILY = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
BUNDLE = FAMILY / "sp3"
COMMAND = Path(sys.executable).with_name("neucodex")
TOKEN = "t" * 43

pytestmark = [pytest.mark.ray, pytest.mark.timeout(500)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two nodes of one CPU each."""
    with two_nodes() as address:
        yield address


@pytest.fixture(scope="module")
def address(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where Ray Serve's gRPC proxy listens."""
    import ray
    from ray import serve

    tokens = tmp_path_factory.mktemp("ray") / "tokens"
    tokens.write_text(token_line("edge1", TOKEN) + "\n")
    tokens.chmod(0o600)
    port = free_port()
    ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": free_port()},
            grpc_options={"port": port, "grpc_servicer_functions": [ADD_BRIDGE]},
        )
        options = TailOptions(str(BUNDLE), tokens=str(tokens), max_replicas=2, cpus=0.5)
        serve.run(tail_app(options), name="neucodex", route_prefix="/neucodex")
        yield f"127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def rows_of(*options: object) -> list[dict[str, Any]]:
    """What `neucodex sweep` measures, in a process of its own."""
    command = [COMMAND, "sweep", FAMILY, "--split", "SP3", "--samples", "24", "--confirm", "0"]
    command += ["--json", *options]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["rows"]


def test_a_sweep_has_the_same_rows_wherever_it_runs(cluster: str, tmp_path: Path) -> None:
    plain = rows_of("--out", tmp_path / "plain")
    assert len(plain) == 7
    assert rows_of("--out", tmp_path / "ray", "--ray", cluster) == plain
    assert rows_of("--out", tmp_path / "processes", "--processes", "2") == plain


@contextmanager
def silent_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("what", ["nobody", "silence", "nonsense", "no port", "both"])
def test_an_address_that_is_no_cluster_is_refused_in_one_line(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_cluster, "JOINS_WITHIN_S", 3.0)
    options = {
        "nobody": ["--ray", f"127.0.0.1:{free_port()}"],
        "nonsense": ["--ray", "http://somewhere/else"],
        "no port": ["--ray", "127.0.0.1:99999"],
        "both": ["--ray", "auto", "--processes", "2"],
    }
    with silent_port() as silence:
        told = ["--ray", silence] if what == "silence" else options[what]
        assert run(["sweep", str(FAMILY), *told]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told[1] in line or what == "both"
    if what in ("nobody", "silence"):
        assert "no Ray cluster answers" in line


def client_of(bundle: Bundle, address: str, token: str | None = TOKEN, **more: Any) -> EdgeClient:
    net = bundle.net
    return EdgeClient(
        address,
        model=bundle.sha256,
        code_shape=net.code_shape,
        t_max=net.timesteps,
        timeout_s=60.0,
        patience_s=60.0,
        security=ClientSecurity(token=token),
        **more,
    )


def golden_sums(bundle: Bundle, client: EdgeClient) -> np.ndarray:
    codes, found = bundle.golden.spikes[bundle.net.output], np.zeros_like(bundle.golden.sums)
    for n in range(len(codes)):
        client.start_sample()
        for t in range(bundle.net.timesteps):
            found[n, :, t] = client.step(codes[n, ..., t]).sums
        client.end_sample()
    return found


def test_sessions_get_the_golden_sums(address: str) -> None:
    bundle = load_bundle(BUNDLE)

    def session(_: int) -> np.ndarray:
        with client_of(bundle, address) as client:
            return golden_sums(bundle, client)

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(session, range(8)):
            np.testing.assert_array_equal(found, bundle.golden.sums)


@pytest.mark.parametrize("token", [None, "x" * 43])
def test_who_shows_no_token_that_it_knows_stays_out(address: str, token: str | None) -> None:
    with pytest.raises(BridgeError, match="token") as refused:
        client_of(load_bundle(BUNDLE), address, token).open()
    assert refused.value.status == "UNAUTHENTICATED"


def test_another_bundle_is_refused_by_name(address: str) -> None:
    bundle = replace(load_bundle(BUNDLE), sha256="ab" * 32)
    with pytest.raises(BridgeError, match="edge runs abababababab") as refused:
        client_of(bundle, address).open()
    assert refused.value.status == "FAILED_PRECONDITION"


def test_a_replica_that_dies_costs_a_sample_nothing_but_time(address: str) -> None:
    import ray

    bundle = load_bundle(BUNDLE)
    codes, sums = bundle.golden.spikes[bundle.net.output], bundle.golden.sums
    with client_of(bundle, address) as client:
        client.start_sample()
        for t in range(2):
            np.testing.assert_array_equal(client.step(codes[0, ..., t]).sums, sums[0, :, t])
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["name"].startswith("SERVE_REPLICA"):
                ray.kill(ray.get_actor(actor["name"], actor["namespace"]), no_restart=True)
        for t in range(2, bundle.net.timesteps):
            np.testing.assert_array_equal(client.step(codes[0, ..., t]).sums, sums[0, :, t])
        assert client.counts.reconnects >= 1


@pytest.mark.parametrize(
    "wrong",
    [{}, {"tokens": "t", "min_replicas": 0}, {"tokens": "t", "sessions": 0}, {"port": 1}],
)
def test_an_application_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tail_app({"bundle": str(BUNDLE), **wrong})
