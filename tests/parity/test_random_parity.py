"""Random small networks on every backend: all nodes' spikes, potentials and counts, with ``==``.

The plain interpreter says what is right. Where it finds a current that wraps, or a readout that clips
or fires, every backend must fail the run instead.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from engine_runs import run_engine
from hypothesis import HealthCheck, assume, given, settings
from net_strategy import STATE_MAX, Expected, cases, expect
from plain import arrivals, delayed_sums, running_sums

from energy.ledger import Ledger
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.engine.layout import Synapses
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node
from neucodex_lava.models.neurons import lif, slayer_neuron

# Seconds on an idle machine, minutes where twenty processes share two cores.
pytestmark = pytest.mark.timeout(600)

Trains = dict[str, np.ndarray]
Case = tuple[IntegerNet, np.ndarray]
Found = tuple[Trains, Trains, Ledger]

many = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
few = settings(many, max_examples=int(os.environ.get("NEUCODEX_LAVA_EXAMPLES", "8")))


def assert_same(expected: Expected, run: Callable[[], Found]) -> None:
    """The run's spikes, potentials and counts are the expected ones, or it fails where it must."""
    if expected.overflow:
        with pytest.raises(OverflowInRunError):
            run()
        return
    spikes, potentials, ledger = run()
    assert spikes.keys() == potentials.keys() == expected.spikes.keys()
    for name in expected.spikes:
        assert np.array_equal(spikes[name], expected.spikes[name]), f"spikes of {name}"
        assert np.array_equal(potentials[name], expected.potentials[name]), f"potentials of {name}"
    assert ledger.first_difference(expected.ledger) is None


def on_executor(net: IntegerNet, inputs: np.ndarray) -> Found:
    run = run_twin(Executor(net), inputs, record=True, batch_size=2)
    assert run.spikes is not None
    assert run.potentials is not None
    check_exit_sums(net, run.potentials, run.exit_sums)
    return run.spikes, run.potentials, run.ledger


def check_exit_sums(net: IntegerNet, potentials: Trains, found: Trains) -> None:
    """Each exit head's running sums are its potentials, whose exactness is checked apart."""
    assert found.keys() == {head.name for head in net.exit_heads}
    for name, sums in found.items():
        assert np.array_equal(sums, running_sums(potentials[name])), f"sums of {name}"


def on_lava(net: IntegerNet, inputs: np.ndarray, backend: Any, schedule: Any) -> Found:
    names = [node.name for node in net.nodes]
    run = simulate(net, inputs, backend=backend, schedule=schedule, record=True, watch=names)
    assert run.spikes is not None
    check_exit_sums(net, run.potentials, run.exit_sums)
    return run.spikes, run.potentials, run.ledger


def always_gather(self: Synapses, synapses: int, groups: int) -> None:
    """In place of the estimate of what is faster: targets gather, however few spikes there are."""
    self.gather_from = self.share_from = float("inf")
    if groups == 1 and synapses:
        self.gather_from = 0.0


def step_by_step(net: IntegerNet, inputs: np.ndarray) -> np.ndarray:
    """Spikes of the last node (N, C, H, W, T), the executor called once per timestep."""
    executor = Executor(net)
    state = executor.initial_state()
    out: list[np.ndarray] = []
    for t in range(inputs.shape[-1]):
        x = torch.from_numpy(np.ascontiguousarray(inputs[..., t]))[None]
        state, traces = executor.advance(state, x)
        out.append(traces.spikes[net.last.name][0].numpy())
    return np.stack(out, axis=-1)


@pytest.mark.slow
def test_engine_and_executor() -> None:
    corners: Counter[str] = Counter()

    @many
    @given(cases())
    def one(case: Case) -> None:
        net, inputs = case
        expected = expect(net, inputs)
        corners.update({*expected.corners, "overflow" if expected.overflow else "result"})
        assert_same(expected, lambda: run_engine(net, inputs, "gated"))
        assert_same(expected, lambda: run_engine(net, inputs, "pipelined"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Synapses, "_estimate", always_gather)
            assert_same(expected, lambda: run_engine(net, inputs, "gated"))
        assert_same(expected, lambda: on_executor(net, inputs))
        if not expected.overflow:
            last = expected.spikes[net.last.name]
            assert np.array_equal(step_by_step(net, inputs), last)

    one()
    # The strategy reaches every corner that it names, often enough to mean something.
    rare = dict.fromkeys(
        ("identity", "just above", "clip", "wrap", "wide", "a spike of what was kept"), 3
    )
    common = (
        "tie",
        "high threshold fires",
        "delay",
        "dense",
        "conv_transpose",
        "negative",
        "fires",
        "soft reset",
        "initial",
        "exit head",
    )
    for corner, least in {
        **rare,
        "readout out of range": 1,
        "soft out of range": 1,
        "ends before its last node": 10,
        **dict.fromkeys(common, 25),
        "result": 120,
    }.items():
        assert corners[corner] >= least, corners


@pytest.mark.lava
@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_fused_in_lava(schedule: str) -> None:
    @few
    @given(cases())
    def one(case: Case) -> None:
        assert_same(expect(*case), lambda: on_lava(*case, "fused", schedule))

    one()


@pytest.mark.lava
@pytest.mark.slow
def test_reference_in_lava() -> None:
    @few
    @given(cases(stock=True))
    def one(case: Case) -> None:
        assert_same(expect(*case), lambda: on_lava(*case, "reference", "pipelined"))

    one()


def test_slayer_neurons() -> None:
    """SLAYER's own CUBA neuron and ours, on the same sums; without a current's memory or a clip."""
    compared: Counter[str] = Counter()

    @settings(many, max_examples=200)
    @given(cases(slayer=True))
    def one(case: Case) -> None:
        net, inputs = case
        expected = expect(net, inputs)
        trains = {"input": inputs} | expected.spikes
        for node in net.nodes:
            neuron = node.neuron
            clips = np.abs(expected.potentials[node.name]).max() >= STATE_MAX - 1
            if neuron.current_decay != 4096 or neuron.threshold == 0 or clips or expected.overflow:
                continue
            sums = sum(
                np.stack([delayed_sums(c, x, node.shape) for x in trains[c.source]])
                for c in node.connections
            )
            biased = sums + node.bias[:, None, None, None]
            # SLAYER's states do not end at 24 bits.
            if np.abs(biased).sum(axis=-1).max() << 6 >= STATE_MAX:
                continue
            slayer = slayer_neuron(neuron.threshold, neuron.voltage_decay / 4096, 1)
            drive = torch.from_numpy(biased).float()
            assert np.array_equal(slayer(drive).numpy(), expected.spikes[node.name])
            ours = lif(drive.movedim(-1, 0), slayer).movedim(0, -1)
            assert np.array_equal(ours.numpy(), expected.spikes[node.name])
            compared.update(["node", "fires" if expected.spikes[node.name].any() else "silent"])

    one()
    assert compared["fires"] > 20, compared


@pytest.mark.parametrize(
    ("shape", "weight", "stride", "padding"),
    [
        ((1, 1, 5), (1, 1, 2, 3), (1, 3), (1, 0)),
        ((1, 3, 2), (4, 1, 1, 2), (1, 3), (0, 0)),
        ((1, 1, 1), (1, 1, 3, 1), (3, 2), (2, 1)),
        ((2, 1, 1), (4, 1, 2, 1), (1, 3), (1, 2)),
    ],
)
def test_convolutions_that_torch_gets_wrong_with_channels_last(
    shape: Any, weight: Any, stride: Any, padding: Any
) -> None:
    """Columns of sums that were never written, and crashes."""
    groups = shape[0] // weight[1]
    filled = np.full(weight, 2)
    link = Connection("input", "conv", filled, 0, stride, padding, groups=groups)
    target = link.output_shape(shape)
    assert target is not None
    node = Node("node", target, Neuron(4096, 2048, 3), np.zeros(target[0], int), (link,))
    net = IntegerNet(shape, (node,), 1, 4)
    inputs = np.ones((4, *shape, 4), np.uint8)
    assert_same(expect(net, inputs), lambda: on_executor(net, inputs))


def test_what_arrives_is_what_is_counted() -> None:
    """The strategy's delays are real: some spikes arrive late, some never."""
    late = lost = 0

    @settings(many, max_examples=60)
    @given(cases())
    def one(case: Case) -> None:
        nonlocal late, lost
        net, inputs = case
        trains = {"input": inputs} | expect(net, inputs).spikes
        assume(any(c.longest_delay for _, c in net.connections()))
        for _, c in net.connections():
            if c.longest_delay and not c.delays_targets:
                sent = trains[c.source]
                got = np.stack([arrivals(c, x) for x in sent])
                late += int((got > sent).sum())
                lost += int((sent != 0).sum() - (got != 0).sum())

    one()
    assert min(late, lost) > 100


@pytest.mark.lava
@pytest.mark.parametrize("backend", ["executor", "fused", "reference"])
def test_a_readout_that_is_not_the_last_node_may_not_clip_either(backend: str) -> None:
    """An exit head, say; found by `test_reference_in_lava`."""
    strong = np.full((1, 40), 254)
    link = Connection("input", "dense", strong, 3)
    head = Node("head", (1, 1, 1), READOUT, np.zeros(1, int), (link,), sum_bound=30_000)
    after = Connection("input", "dense", np.full((1, 40), 2))
    last = Node("last", (1, 1, 1), Neuron(), np.zeros(1, int), (after,))
    net = IntegerNet((40, 1, 1), (head, last), 2, timesteps=3)
    inputs = np.ones((1, 40, 1, 1, 3), np.uint8)
    assert expect(net, inputs).overflow
    run = {
        "executor": lambda x: on_executor(net, x),
        "fused": lambda x: on_lava(net, x, "fused", "gated"),
        "reference": lambda x: on_lava(net, x, "reference", "pipelined"),
    }[backend]
    with pytest.raises(OverflowInRunError, match="'head'"):
        run(inputs)
    assert_same(expect(net, inputs[..., :1]), lambda: run(inputs[..., :1]))
