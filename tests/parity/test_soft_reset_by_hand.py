"""Soft reset and initial potential, worked out by hand, on every backend and in the plain loops.

Two integrating neurons (threshold 10, initial potential 5), two leaky ones behind them that halve their
potential (threshold 10, initial -7), an exit head that listens to the former, a readout.
"""

from typing import Any

import numpy as np
import pytest
from engine_runs import run_engine
from plain import after_reset, run_plain, running_sums

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

INPUT = [[1, 1, 0, 1, 1], [0, 1, 1, 0, 1]]
SPIKES = {
    # 5 + 9 = 14 fires and leaves 4; 4 + 9 = 13 fires, 3; 3 + 1 = 4; 4 + 9 = 13 fires, 3; 12 fires, 2.
    # 5 - 6 = -1; -1 + 14 = 13 fires, 3; 3 + 20 = 23 fires once, 13; 13 - 6 = 7; 7 + 14 = 21 fires, 11.
    "if": [[1, 1, 0, 1, 1], [0, 1, 1, 0, 1]],
    # -3.5 + 12 = 8.5; 4.25 + 12 = 16.25 fires, 6.25; 3.125; 1.5625 + 12 = 13.5625 fires, 3.5625; ...
    # -3.5; -1.75 + 12 = 10.25 fires, 0.25; 0.125 + 12 = 12.125 fires, 2.125; 1.0625; 12.53125 fires.
    "lif": [[0, 1, 0, 1, 1], [0, 1, 1, 0, 1]],
}
POTENTIALS = {
    "if": [[4, 3, 4, 3, 2], [-1, 3, 13, 7, 11]],
    "lif": [[8.5, 6.25, 3.125, 3.5625, 3.78125], [-3.5, 0.25, 2.125, 1.0625, 2.53125]],
}
"""After reset, in units of the weights."""
EXIT_SUMS = [[3, 10, 15, 18, 25], [-7, -14, -15, -22, -29]]
SUMS = [[0, 0, -2, 0, 0]]


def net() -> IntegerNet:
    def dense(source: str, *rows: list[int]) -> tuple[Connection, ...]:
        return (Connection(source, "dense", np.array(rows)),)

    integrator = Neuron(4096, 0, 10, "subtract", 5)
    leaky = Neuron(4096, 2048, 10, "subtract", -7)
    none = np.zeros(2, int)
    nodes = (
        Node("if", (2, 1, 1), integrator, np.array([1, 0]), dense("input", [8, 0], [-6, 20])),
        Node("exit", (2, 1, 1), READOUT, np.array([1, -1]), dense("if", [2, 4], [-6, 0])),
        Node("lif", (2, 1, 1), leaky, none, dense("if", [12, 0], [0, 12])),
        Node("readout", (1, 1, 1), READOUT, none[:1], dense("lif", [2, -2])),
    )
    return IntegerNet((2, 1, 1), nodes, 4, timesteps=5)


def inputs() -> np.ndarray:
    one = np.array(INPUT, np.uint8).reshape(1, 2, 1, 1, 5)
    return np.concatenate([one, one])


def check(spikes: Any, potentials: Any, sums: Any, exit_sums: Any) -> None:
    for n in range(2):
        for name in SPIKES:
            assert spikes[name][n, :, 0, 0].tolist() == SPIKES[name], name
            assert (potentials[name][n, :, 0, 0] / 64).tolist() == POTENTIALS[name], name
        assert sums[n].tolist() == SUMS
        assert exit_sums[n].tolist() == EXIT_SUMS


def test_plain_loops() -> None:
    spikes, potential, _ = run_plain(net(), inputs())
    sums = {name: running_sums(potential[name]) for name in ("readout", "exit")}
    check(spikes, after_reset(net(), spikes, potential), sums["readout"], sums["exit"])


def test_executor() -> None:
    run = run_twin(Executor(net()), inputs(), record=True)
    check(run.spikes, run.potentials, run.sums, run.exit_sums["exit"])


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_engine(schedule: str) -> None:
    spikes, potentials, _ = run_engine(net(), inputs(), schedule)
    sums = [running_sums(potentials[name].astype(int)) for name in ("readout", "exit")]
    check(spikes, potentials, *sums)


@pytest.mark.lava
@pytest.mark.parametrize(
    ("backend", "schedule"),
    [("fused", "gated"), ("fused", "pipelined"), ("reference", "pipelined")],
)
def test_lava(backend: Any, schedule: Any) -> None:
    names = list(SPIKES)
    run = simulate(net(), inputs(), backend=backend, schedule=schedule, record=True, watch=names)
    check(run.spikes, run.potentials, run.sums, run.exit_sums["exit"])
