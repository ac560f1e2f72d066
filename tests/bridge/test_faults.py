"""Faults of every kind between a real bundle's edge and its server.

Every sample ends with one result, and one marked as the cloud's is the fault-free run's to the last
bit. A few samples each; ``NEUCODEX_FAULT_SAMPLES=2000`` for the full campaign.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_runs import Runner, differences, sources
from restarting_server import ROOT, RestartingServer, restarting_server

from host_bridge import EdgeClient
from host_bridge.client.ladder import Source, Verdict
from host_bridge.codecs import CONDITIONED, Coder
from host_bridge.links import FaultProxy, Faults
from neucodex_lava.bundle import load_coding, read_manifest

SAMPLES = int(os.environ.get("NEUCODEX_FAULT_SAMPLES", "16"))
BUNDLE = ROOT / "netx_exports" / "resnet-small-digits" / "sp1"
PATIENT_S = 60.0
"""A deadline that only a fault which never ends can miss."""

pytestmark = pytest.mark.timeout(180 + 2 * SAMPLES)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("faults") / "server.log"


@pytest.fixture(scope="module")
def server(log) -> Iterator[RestartingServer]:
    with restarting_server(BUNDLE, log) as running:
        yield running


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    manifest, _ = read_manifest(BUNDLE)
    rng = np.random.default_rng(2026)
    drawn = rng.random((SAMPLES, manifest.t_max, *SHAPE)) < 0.2
    # Most spikes come again, as a trained network's do: codes told by the ones before them are shorter.
    for t in range(1, manifest.t_max):
        fresh = rng.random((SAMPLES, *SHAPE)) < 0.1
        drawn[:, t] = np.where(fresh, drawn[:, t], drawn[:, t - 1])
    return drawn.astype(np.uint8)


SHAPE = (8, 4, 4)
CODING = load_coding(BUNDLE)


def test_the_codes_are_told_by_the_ones_before_them(samples):
    coder = Coder(SHAPE, tables=CODING)
    used = [
        [coder.encode(code, before)[0] for before, code in itertools.pairwise(sample)]
        for sample in samples
    ]
    assert np.mean(np.array(used) == CONDITIONED) > 0.5


def client(target: str, **changes) -> EdgeClient:
    manifest, sha256 = read_manifest(BUNDLE)
    settings = {"timeout_s": 2.0, "patience_s": PATIENT_S} | changes
    return EdgeClient(
        target,
        model=sha256,
        code_shape=SHAPE,
        t_max=manifest.t_max,
        coding=CODING,
        codec="auto",
        **settings,
    )


@pytest.fixture(scope="module")
def truth(server, samples) -> np.ndarray:
    """Running sums without a fault, (N, T, classes)."""
    rows = []
    with client(server.address) as edge:
        for codes in samples:
            edge.start_sample()
            rows.append([edge.step(code).sums for code in codes])
            edge.end_sample()
        assert edge.counts.reconnects == 0
    found = np.array(rows)
    # The codes decide: no two samples end alike, so that a mixed-up answer would be seen.
    assert len({row.tobytes() for row in found[:, -1]}) == SAMPLES
    return found


def times(share: float) -> set[tuple[int, int]]:
    """Seeded (sample, timestep) pairs for so large a share of the samples, two at least."""
    dice = random.Random(7)
    chosen = dice.sample(range(SAMPLES), max(2, round(SAMPLES * share)))
    return {(number, dice.randint(2, 4)) for number in chosen}


def run(make, samples, truth, deadline_s=PATIENT_S, before_step=lambda *_: None):
    """The runner and its verdicts, checked for what holds under every fault."""
    runner = Runner(make, deadline_s, before_step)
    verdicts = runner.run(samples)
    assert len(verdicts) == len(samples)
    assert differences(verdicts, truth) == []
    print(dict(sources(verdicts)), f"{runner.lost} reconnects, {runner.clients} clients")
    print(*runner.errors, sep="\n")
    return runner, verdicts


def test_a_wrong_answer_would_be_seen(truth):
    good = [Verdict(Source.CLOUD, len(row), row[-1]) for row in truth]
    assert differences(good, truth) == []
    early = [Verdict(Source.EARLIER, 1, row[0]) for row in truth]
    assert differences(early, truth) == []
    lies = [
        Verdict(Source.CLOUD, len(truth[0]), truth[0, -1] + 1),
        Verdict(Source.CLOUD, 1, truth[1, 0]),
        Verdict(Source.EARLIER, 2, truth[2, 0]),
        Verdict(Source.CLOUD, len(truth[0]), truth[4, -1]),
    ]
    assert differences([*lies, *good[4:]], truth) == [0, 1, 2, 3]


def test_a_server_killed_and_restarted_in_mid_sample(server, samples, truth):
    kills, before = times(0.1), server.starts

    def kill(number, timestep):
        if (number, timestep) in kills:
            started = server.starts
            server.kill()
            server.await_start(started + 1)

    runner, verdicts = run(lambda: client(server.address), samples, truth, before_step=kill)
    assert server.starts - before == len(kills)
    assert runner.lost >= len(kills)
    assert sources(verdicts) == {Source.CLOUD: SAMPLES}


def test_a_server_that_drains(server, samples, truth):
    drains, before = times(0.1), server.starts

    def drain(number, timestep):
        if (number, timestep) in drains:
            server.drain()

    runner, verdicts = run(lambda: client(server.address), samples, truth, before_step=drain)
    assert server.starts > before
    assert runner.lost + runner.clients > 1
    assert sources(verdicts) == {Source.CLOUD: SAMPLES}


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("reset", Faults(reset=0.02)),
        ("corrupt_data", Faults(corrupt_data=0.05)),
        ("corrupt", Faults(corrupt=0.05)),
    ],
)
def test_a_link_that_resets_or_corrupts(server, samples, truth, name, faults):
    proxy = FaultProxy(server.address, faults=faults, seed=3)
    with proxy as address:
        _, verdicts = run(lambda: client(address, timeout_s=1.0), samples, truth)
    print(dict(proxy.happened), proxy.connections)
    assert proxy.happened[name] > 0
    assert proxy.connections > 1
    # Whatever the cloud did not answer in time was one of the few that met fault after fault.
    assert sources(verdicts)[Source.CLOUD] >= 0.9 * SAMPLES


def test_stalls_beyond_the_deadline(server, samples, truth):
    # About one stall in ten samples, as one is some ten chunks; more where there are few samples.
    faults = Faults(stall=max(0.01, 0.6 / SAMPLES), stall_s=1.0)
    proxy = FaultProxy(server.address, faults=faults, seed=5)
    with proxy as address:
        runner, verdicts = run(
            lambda: client(address, timeout_s=5.0), samples, truth, deadline_s=0.5
        )
    found = sources(verdicts)
    assert proxy.happened["stall"] > 0
    assert found[Source.CLOUD] > 0
    assert found[Source.CLOUD] < SAMPLES
    assert runner.errors == []


def test_a_link_that_dies_and_comes_back(server, samples, truth):
    proxy = FaultProxy(server.address, seed=5)
    third = SAMPLES // 3

    def change(number, timestep):
        if (number, timestep) == (third, 1):
            proxy.faults = Faults(half_open=True, refuse=True)
            runner.deadline_s = 0.1
        if (number, timestep) == (2 * third, 1):
            proxy.faults = Faults()
            runner.deadline_s = PATIENT_S

    with proxy as address:
        runner = Runner(lambda: client(address, timeout_s=0.5), PATIENT_S, change)
        verdicts = runner.run(samples)
    assert differences(verdicts, truth) == []
    found = [verdict.source for verdict in verdicts]
    assert found[:third] == [Source.CLOUD] * third
    assert found[third : 2 * third] == [Source.ABSTAINED] * third
    assert found[2 * third :] == [Source.CLOUD] * (SAMPLES - 2 * third)


def test_no_fault_is_a_defect_in_the_log_and_no_session_is_left(server, truth, log):
    text = log.read_text()
    assert "Traceback" not in text
    # Of the server that is running now; those that were killed could not say it.
    lines = text.rpartition("listening on")[2].splitlines()
    opened, ended = (sum(word in line for line in lines) for word in (" opened:", " ended"))
    assert opened == ended


def test_a_server_whose_log_cannot_be_written(samples, truth):
    command = [sys.executable, "-c", "from neucodex_lava.cli import main; main()"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            [*command, "serve", str(BUNDLE), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().split('"port":')[1].split(",")[0].strip()
        _, verdicts = run(lambda: client(f"127.0.0.1:{port}"), samples, truth)
        assert sources(verdicts) == {Source.CLOUD: SAMPLES}
        assert process.poll() is None
        process.terminate()
        # Its last log lines cannot be written either, and it ends all the same.
        assert process.wait(30) in (0, 120)
    finally:
        process.kill()
        process.wait()
