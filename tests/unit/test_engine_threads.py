"""Threads inside the engine: the same integers, and safe where Lava forks; no timestep allocates."""

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from engine_runs import assert_as_plain
from numba.core.runtime import _nrt_python, rtsys
from plain import random_net

from neucodex_lava.edge.engine import layout
from neucodex_lava.edge.engine.active import list_active
from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.engine.gather import gather
from neucodex_lava.edge.engine.scatter import add_identity, scatter
from neucodex_lava.edge.engine.update import update
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node
from neucodex_lava.workers import Workers


@pytest.fixture
def always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SHARED_FROM_NS", -1e12)
    monkeypatch.setattr(layout, "SCATTER_ROW_NS", 1e12)


def wide_net() -> tuple[IntegerNet, np.ndarray]:
    """16 and 70 channels at 20 x 20: large beside what Python itself allocates."""
    rng = np.random.default_rng(0)
    first = Connection("input", "conv", 2 * rng.integers(-60, 60, (16, 2, 3, 3)), padding=(1, 1))
    second = Connection("a", "conv", 2 * rng.integers(-60, 60, (70, 16, 3, 3)), padding=(1, 1))
    nodes = (
        Node("a", (16, 20, 20), Neuron(4096, 2048, 200), np.zeros(16, int), (first,)),
        Node("b", (70, 20, 20), Neuron(3000, 2048, 900), np.zeros(70, int), (second,)),
    )
    inputs = (rng.random((2, 2, 20, 20, 4)) < 0.3).astype(np.uint8)
    return IntegerNet((2, 20, 20), nodes, 2, 4), inputs


def step_through(engine: FusedEngine, inputs: np.ndarray, rounds: int = 1) -> int:
    links, nodes = engine.zero_counts(1)
    sent = 0
    for _ in range(rounds):
        for t in range(inputs.shape[-1]):
            engine.step(inputs[0, ..., t].transpose(2, 1, 0), t == 0, links[0], nodes[0])
            sent += int(nodes[0, :, 1].sum())
    return sent


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.usefixtures("always_shared")
def test_threads_change_no_spike_and_no_count(schedule: str, threads: int) -> None:
    for seed in range(6):
        assert_as_plain(*random_net(seed), schedule, threads=threads)
    assert_as_plain(*wide_net(), schedule, threads=threads)


@pytest.mark.lava
@pytest.mark.usefixtures("always_shared")
def test_a_session_with_threads_gives_what_one_without_gives() -> None:
    net, inputs = wide_net()

    def run(threads: int) -> tuple[list[bytes], np.ndarray]:
        with EdgeSession(net, threads=threads, keep_ledger=True) as session:
            session.start_sample()
            codes = [session.step(inputs[0, ..., t]).code.tobytes() for t in range(4)]
            return codes, session.ledger().syn_ops

    (codes, counts), (same_codes, same_counts) = run(1), run(2)
    assert codes == same_codes
    assert any(any(code) for code in codes)
    assert np.array_equal(counts, same_counts)


@pytest.mark.usefixtures("always_shared")
def test_threads_begin_with_the_first_step_and_end_with_their_engine() -> None:
    net, inputs = wide_net()
    before = threading.active_count()
    engines = [FusedEngine(Wiring.of(net, "gated"), threads=3) for _ in range(5)]
    assert threading.active_count() == before
    assert len({step_through(engine, inputs) for engine in engines}) == 1
    assert threading.active_count() == before + 5 * 2
    engines.clear()
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


@pytest.mark.usefixtures("always_shared")
def test_an_engine_used_and_then_forked_goes_on_in_the_child() -> None:
    net, inputs = wide_net()
    engine = FusedEngine(Wiring.of(net, "gated"), threads=2)
    sent = step_through(engine, inputs)
    child = os.fork()
    if child == 0:
        os._exit(0 if step_through(engine, inputs) == sent else 1)
    deadline = time.monotonic() + 30
    status = os.waitpid(child, os.WNOHANG)
    while status == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
        status = os.waitpid(child, os.WNOHANG)
    if status == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == (child, 0)
    assert step_through(engine, inputs) == sent


def test_a_process_with_threads_ends() -> None:
    code = """
from test_engine_threads import FusedEngine, Wiring, layout, step_through, wide_net
layout.SHARED_FROM_NS = -1e12
net, inputs = wide_net()
engine = FusedEngine(Wiring.of(net, "gated"), threads=2)
print(step_through(engine, inputs))
"""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent / "support"), str(here.parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    net, inputs = wide_net()
    assert int(done.stdout) == step_through(FusedEngine(Wiring.of(net, "gated")), inputs)


def test_a_failing_share_fails_the_work_and_nothing_else() -> None:
    workers = Workers(3)
    seen: list[int] = []

    def job(share: int) -> None:
        seen.append(share)
        if share == 2:
            raise ValueError("share 2")

    with pytest.raises(ValueError, match="share 2"):
        workers.run(job)
    assert sorted(seen) == [0, 1, 2]
    workers.run(seen.append)
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ConfigError, match="0 threads"):
        Workers(0)


@pytest.mark.parametrize("low", [0.0, np.inf])
@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_a_timestep_compiles_and_allocates_nothing(schedule: str, low: float) -> None:
    net, inputs = wide_net()
    engine = FusedEngine(Wiring.of(net, schedule))  # type: ignore[arg-type]
    for synapses in engine._synapses:
        synapses.gather_from = low
    kernels = (list_active, gather, scatter, add_identity, update)
    compiled = [len(kernel.signatures) for kernel in kernels]
    step_through(engine, inputs)
    tracemalloc.start()
    _nrt_python.memsys_enable_stats()
    allocated = rtsys.get_allocation_stats().alloc
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    step_through(engine, inputs, rounds=100)
    after, peak = tracemalloc.get_traced_memory()
    allocated = rtsys.get_allocation_stats().alloc - allocated
    _nrt_python.memsys_disable_stats()
    tracemalloc.stop()
    # Numba wraps every array argument once per call: 7 to list, 8 to deliver, 6 to update.
    assert 0 < allocated <= 100 * inputs.shape[-1] * 2 * (7 + 8 + 6)
    assert [len(kernel.signatures) for kernel in kernels] == compiled
    smallest_state = 20 * 20 * 16
    assert peak - before < smallest_state
    assert after - before < 4096, "400 timesteps keep nothing"
