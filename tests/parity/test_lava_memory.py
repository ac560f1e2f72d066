"""Sessions that run long, and many in one process: nothing grows."""

import gc
import logging
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest
from lava.magma.core.process.process import AbstractProcess, ProcessServer
from lava.magma.core.process.variable import Var, VarServer
from plain import load_join_net, random_net

from neucodex_lava.edge.session import EdgeSession, StepResult
from neucodex_lava.edge.simulation import simulate

pytestmark = [pytest.mark.lava, pytest.mark.slow]

STEPS, SETTLED = 10_000, 2_000
MOST_BYTES = 1 << 20


def resident(session: EdgeSession) -> dict[int, int]:
    """Resident bytes of this process and of Lava's."""
    gc.collect()
    me = psutil.Process()
    return {p: psutil.Process(p).memory_info().rss for p in (me.pid, *session.pids)}


def stream(session: EdgeSession, frames: list[np.ndarray]) -> None:
    """10,000 timesteps; every third pipelined sample is stopped, every third gated one left."""
    settled: dict[int, int] = {}
    sample, t = 0, 0
    timesteps = len(frames)
    for step in range(STEPS):
        if step == SETTLED:
            settled = resident(session)
        result: StepResult | None
        if session.wiring.pipelined:
            result = session.feed(frames[step % timesteps])
            if result is not None and result.sample % 3 == 0:
                session.stop(result)
        else:
            if t == 0:
                session.start_sample()
            result = session.step(frames[t])
            t += 1
            if t == timesteps or (t == 1 and sample % 3 == 0):
                sample, t = sample + 1, 0
    for pid, after in resident(session).items():
        assert after - settled[pid] < MOST_BYTES, f"{(after - settled[pid]) >> 10} KiB more"


@pytest.mark.parametrize("timesteps", [2, 64])
@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_ten_thousand_timesteps_in_a_row_keep_memory_flat(schedule: Any, timesteps: int) -> None:
    if timesteps == 2:
        net, inputs, _ = load_join_net(5)
    else:
        net, inputs = random_net(6, readout=False)
        net = replace(net, timesteps=timesteps)
        inputs = inputs[..., np.arange(timesteps) % inputs.shape[-1]]
    frames = [np.ascontiguousarray(inputs[0, ..., t]) for t in range(timesteps)]
    with EdgeSession(net, schedule=schedule) as session:
        stream(session, frames)
        totals = session.totals
    assert totals.steps == STEPS
    if schedule == "gated":
        assert totals.timesteps == STEPS
    else:
        assert totals.stopped >= STEPS // timesteps // 3 - session.wiring.depth
        assert totals.timesteps < STEPS or totals.saved == 0
    sizes = [node.size for node in session.wiring.net.nodes]
    updates = totals.nodes[:, 0] + totals.outside_nodes[:, 0]
    assert updates.tolist() == [STEPS * size for size in sizes]


def holdings() -> tuple[Any, ...]:
    """What a run must give back exactly."""
    gc.collect()
    me = psutil.Process()
    return (
        me.num_fds(),
        threading.active_count(),
        sorted(p.pid for p in me.children(recursive=True)),
        len(ProcessServer().processes),
        len(VarServer().vars),
        sum(isinstance(o, AbstractProcess | Var) for o in gc.get_objects()),
        list(logging.getLogger().handlers),
    )


def test_thirty_runs_in_one_process_leave_nothing() -> None:
    net, inputs, _ = load_join_net(5)
    frame = np.ascontiguousarray(inputs[0, ..., 0])

    def run(i: int) -> None:
        if i % 5 == 0:
            simulate(net, inputs, backend="reference", schedule="pipelined", watch=["stem"])
        elif i % 2:
            simulate(net, inputs, schedule="pipelined", record=True)
        else:
            with EdgeSession(net) as session:
                session.start_sample()
                session.step(frame)

    for i in range(6):
        run(i)
    before, rss = holdings(), psutil.Process().memory_info().rss
    for i in range(30):
        run(i)
        # Cycles are collected when the collector likes to; here it is what stays that counts.
        gc.collect()
    assert holdings() == before
    grown = psutil.Process().memory_info().rss - rss
    assert grown < 2 * MOST_BYTES, f"{grown >> 10} KiB more"
