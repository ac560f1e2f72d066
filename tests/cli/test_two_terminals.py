"""`neucodex serve` in one terminal, `neucodex infer` in another: real processes, sockets and Lava."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.evaluation.configurations import deployment_id
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.exits import decide

sys.path.insert(0, str(Path(__file__).parent))
from load import fault_s
from running import (
    START_S,
    Program,
    error_of,
    running,
    served,
    slow_link,
    wait_until,
)

pytestmark = [pytest.mark.lava, pytest.mark.timeout(150)]

CUTS: dict[str, tuple[str, str | None]] = {
    "split bundle": ("sp1", None),
    "base at SP2": ("base", "SP2"),
    "cloud-only": ("base", "input"),
}
"""What is served: bundle and --split."""


@dataclass(frozen=True)
class Served:
    """A running server: what it serves, where, and its process."""

    bundle: Path
    split: str | None
    model: str
    port: int
    program: Program

    @property
    def cut(self) -> list[object]:
        """Bundle and --split, as both commands take them."""
        return [self.bundle, *(["--split", self.split] if self.split else [])]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def sessions(self) -> list[tuple[str, str]]:
        """Session and ``opened`` or ``ended``, in the order of the log."""
        return re.findall(r"session ([0-9a-f]{16}) (opened|ended)", self.program.err)


@pytest.fixture(scope="module")
def servers(released: Path) -> Iterator[dict[str, Served]]:
    """One server for each cut, started side by side."""
    with ExitStack() as stack:
        programs: dict[str, Program] = {}
        for name, (folder, split) in CUTS.items():
            cut = ["--split", split] if split else []
            program = running("serve", released / folder, *cut, "--port", 0, "--json")
            programs[name] = stack.enter_context(program)
        found: dict[str, Served] = {}
        for name, program in programs.items():
            program.await_text(r"\}\n")
            ready = json.loads(program.out)
            assert set(ready) == {"host", "port", "model"}
            assert ready["host"] == "127.0.0.1"
            folder, split = CUTS[name]
            found[name] = Served(released / folder, split, ready["model"], ready["port"], program)
        yield found


def check_answers(server: Served, out: str, samples: int, policy: str, alpha: float | None) -> None:
    """What `infer` printed equals the executor and the offline policy on the same samples."""
    found = json.loads(out)
    bundle = load_bundle(server.bundle)
    net = cut_bundle(bundle, server.split)
    inputs, labels = load_samples(bundle, samples)
    twin = run_twin(Executor(net), inputs)
    assert twin.sums is not None
    exits = decide(make_policy(bundle, policy, alpha), twin.sums)
    edge = twin.ledger.until(exits.timesteps).select([n.name for n in net.edge_nodes])
    step_bits = 8 * math.ceil(math.prod(net.code_shape) * net.code_bits / 8)
    assert found["model"] == server.model == deployment_id(bundle, net.cut)
    rows = found["samples"]
    assert [r["sample"] for r in rows] == list(range(samples))
    assert [r["label"] for r in rows] == labels.tolist()
    assert [r["prediction"] for r in rows] == exits.predictions.tolist()
    assert [r["timesteps"] for r in rows] == exits.timesteps.tolist()
    assert [r["payload_bits"] for r in rows] == (step_bits * exits.timesteps).tolist()
    syn_ops = edge.per_sample("syn_ops").tolist() if net.cut else [0] * samples
    assert [r["syn_ops"] for r in rows] == syn_ops
    assert all(0 < r["cloud_s"] < r["roundtrip_s"] for r in rows)
    assert found["accuracy"] == (exits.predictions == labels).mean()
    assert found["mean_timesteps"] == exits.timesteps.mean()


@pytest.mark.parametrize(
    ("cut", "policy", "alpha"),
    [("base at SP2", "confidence", 0.6), ("cloud-only", "fixed", None)],
)
def test_inference_equals_the_executor_and_the_offline_policy(
    cut: str, policy: str, alpha: float | None, servers: dict[str, Served]
) -> None:
    server = servers[cut]
    options = ["--policy", policy, *(["--alpha", alpha] if alpha else [])]
    args = ["infer", *server.cut, "--cloud", server.address, "--samples", 8, *options, "--json"]
    with running(*args) as infer:
        assert infer.await_end(START_S) == 0, infer.described()
        check_answers(server, infer.out, 8, policy, alpha)
        assert infer.lines == []


def test_two_edges_at_once_and_another_afterwards(servers: dict[str, Served]) -> None:
    server = servers["split bundle"]
    with slow_link(server.port) as link, ExitStack() as stack:
        # Nobody is answered until both have asked: their sessions overlap for certain.
        link.open.clear()
        args = ["infer", *server.cut, "--cloud", link.address, "--samples", 8, "--timeout", 60]
        default = stack.enter_context(running(*args, "--json"))
        fixed = stack.enter_context(running(*args, "--policy", "fixed", "--json"))
        wait_until(lambda: link.connections == 2, START_S, fixed.described)
        for infer in (default, fixed):
            maps = Path(f"/proc/{infer.pid}/maps").read_text()
            assert "libtorch" not in maps, "an edge machine has no torch"
        link.open.set()
        for infer in (default, fixed):
            assert infer.await_end(START_S) == 0, infer.described()
        check_answers(server, default.out, 8, "confidence", None)
        check_answers(server, fixed.out, 8, "fixed", None)
    (first, *_), (second, *_), *rest = server.sessions()
    assert first != second
    assert sorted(rest) == sorted([(first, "ended"), (second, "ended")]), "both open at once"
    args = ["infer", server.bundle, "--cloud", server.address, "--samples", 3]
    with running(*args) as again:
        assert again.await_end(START_S) == 0, again.described()
        assert "3 samples: accuracy" in again.out
        assert again.lines == []
    assert [what for _, what in server.sessions()[4:]] == ["opened", "ended"]


def silent_server() -> socket.socket:
    """Takes connections and never answers."""
    return socket.create_server(("127.0.0.1", 0), backlog=8)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


REFUSED: dict[str, tuple[str, list[str]]] = {
    "port in use": (
        "serve {sp1} --port {taken}",
        ["cannot listen on 127.0.0.1:{taken}: address already in use", "--port"],
    ),
    "unreachable": (
        "infer {sp1} --cloud 127.0.0.1:{free}",
        ["cannot reach a cloud server at 127.0.0.1:{free}", "refused", "neucodex serve"],
    ),
    "silent": (
        "infer {sp1} --cloud 127.0.0.1:{silent} --timeout 0.5",
        ["no answer from 127.0.0.1:{silent} within 0.5 s"],
    ),
    "another bundle": (
        "infer {sp2} --cloud 127.0.0.1:{taken}",
        ["serves bundle {sp1_model}", "the edge runs {sp2_model}", "neucodex serve"],
    ),
    "another cut of the same bundle": (
        "infer {base} --split SP1 --cloud 127.0.0.1:{other_cut}",
        ["serves bundle {other_cut_model}", "the edge runs {base_sp1_model}"],
    ),
}


def test_each_mistake_is_one_line_that_says_the_way_out(
    servers: dict[str, Served], released: Path
) -> None:
    base = load_bundle(released / "base")
    with silent_server() as silent:
        words: dict[str, Any] = {
            **{name: released / name for name in ("base", "sp1", "sp2")},
            "taken": servers["split bundle"].port,
            "free": free_port(),
            "silent": silent.getsockname()[1],
            "other_cut": servers["base at SP2"].port,
            "sp1_model": servers["split bundle"].model[:12],
            "sp2_model": load_bundle(released / "sp2").sha256[:12],
            "other_cut_model": servers["base at SP2"].model[:12],
            "base_sp1_model": deployment_id(base, cut_bundle(base, "SP1").cut)[:12],
        }

        def refused(case: str, *options: str) -> tuple[str, str]:
            """The line on stderr and what came to stdout."""
            command = [word.format(**words) for word in REFUSED[case][0].split()]
            with running(*command, *options) as program:
                assert program.await_end(START_S) == 2, program.described()
                if options:
                    assert program.lines == [], program.described()
                    return "", program.out
                return error_of(program), ""

        with ThreadPoolExecutor(max_workers=2) as pool:
            lines = {case: pool.submit(refused, case) for case in REFUSED}
            objects = {"silent": pool.submit(refused, "silent", "--json")}
    for case, line in lines.items():
        for part in REFUSED[case][1]:
            assert part.format(**words) in line.result()[0], case
    for case, out in objects.items():
        error = json.loads(out.result()[1])["error"]
        assert error["type"] == "BridgeError"
        assert REFUSED[case][1][0].format(**words) in error["message"]
        assert error["hint"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "serve {sp1} --host 0.0.0.0",
            "host 0.0.0.0 is not loopback, and nothing would be encrypted",
        ),
        ("serve {sp1} --host 0.0.0.0", "--certificate and --key, and --tokens or --client-ca"),
        ("serve {sp1} --port 70000", "port is 70000, expected 0..65535"),
        ("serve {base} --port 0", "pass --split with one of SP1, SP2, SP3 or input"),
        ("serve {base} --split SP4 --port 0", "no split point SP4"),
        ("serve {sp1} --split input --port 0", "'input' is not a split point"),
        ("infer {base}", "pass --split with one of SP1, SP2, SP3 or input"),
        ("infer {sp1} --cloud localhost", "'localhost' is not the address of a cloud server"),
        ("infer {sp1} --cloud 127.0.0.1:99999", "port 99999 in 127.0.0.1:99999"),
        ("infer {sp1} --cloud http://127.0.0.1:80", "is not the address of a cloud server"),
        ("infer {sp1} --timeout 0", "timeout_s is 0"),
        ("infer {sp1} --timeout nan", "timeout_s is nan"),
        ("infer {sp1} --alpha 2", "alpha 2.0 is outside (0, 1]"),
    ],
)
def test_a_wrong_option_is_told_before_anything_starts(
    command: str,
    expected: str,
    released: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import neucodex_lava.evaluation.infer as module

    def started(*_: object) -> None:
        raise AssertionError("Lava was started")

    monkeypatch.setattr(module, "EdgeSession", started)
    words = {name: released / name for name in ("base", "sp1")}
    status = run([word.format(**words) for word in command.split()])
    out, err = capfd.readouterr()
    assert (status, out) == (2, "")
    assert expected in err
    assert err.startswith("neucodex: ")
    assert err.count("\n") == 1


def test_interrupting_the_server_ends_it_and_tells_its_edges(released: Path) -> None:
    with ExitStack() as stack:
        server, ready = stack.enter_context(served(released / "sp1", "--grace", 1))
        links = [stack.enter_context(slow_link(ready["port"])) for _ in range(2)]
        edges = [
            stack.enter_context(
                running(
                    *("infer", released / "sp1", "--cloud", link.address, "--samples", 0),
                    *("--retry-for", 0),
                )
            )
            for link in links
        ]
        for link, edge in zip(links, edges):
            wait_until(lambda link=link: link.answers > 12, START_S, edge.described)
        # One edge goes on asking, the other one is connected and says nothing.
        edges[1].process.send_signal(signal.SIGSTOP)
        server.process.send_signal(signal.SIGINT)
        assert server.await_end(fault_s()) == 0, server.described()
        edges[1].process.send_signal(signal.SIGCONT)
        assert "Traceback" not in server.err
        for edge in edges:
            assert edge.await_end(fault_s()) == 2, edge.described()
            assert re.search(r"the cloud server is stopping|lost the cloud", error_of(edge))
        for program in (server, *edges):
            program.assert_nothing_left()


def test_a_server_that_falls_silent_is_given_up_after_the_timeout(
    servers: dict[str, Served],
) -> None:
    server = servers["split bundle"]
    with slow_link(server.port) as link:
        args = ["infer", server.bundle, "--cloud", link.address, "--samples", 0]
        with running(*args, "--timeout", 1, "--retry-for", 0) as edge:
            wait_until(lambda: link.answers > 12, START_S, edge.described)
            link.open.clear()
            began = time.monotonic()
            assert edge.await_end(1 + fault_s()) == 2, edge.described()
            assert time.monotonic() - began > 0.9
            line = error_of(edge)
            assert f"no answer from the cloud server at {link.address} within 1 s at sample" in line
            edge.assert_nothing_left()
