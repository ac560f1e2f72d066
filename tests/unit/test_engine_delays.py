"""Delayed connections in the fused engine against plain loops."""

import numpy as np
import pytest
from engine_runs import assert_as_plain
from plain import delayed_net, random_net, run_plain

from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

SCHEDULES = ["gated", "pipelined"]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("timesteps", [1, 3, 12, 80])
def test_every_kind_of_delay_spike_for_spike_and_count_for_count(
    schedule: str, timesteps: int
) -> None:
    net, inputs = delayed_net(timesteps)
    spikes, _, _ = run_plain(net, inputs)
    if timesteps == 12:
        assert spikes["last"].any(), "the delayed spikes reach the end"
    assert_as_plain(net, np.concatenate([inputs, inputs[::-1], inputs]), schedule)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", range(4))
def test_random_nets_with_a_delay_in_every_connection(schedule: str, seed: int) -> None:
    net, inputs = random_net(seed)
    rng = np.random.default_rng(seed)
    timesteps = 6
    inputs = np.concatenate([inputs] * timesteps, axis=-1)[..., :timesteps]

    def delayed(c: Connection) -> Connection:
        shape = {0: (), 1: (1, c.weight.shape[-1]), 2: (c.weight.shape[0], 1)}
        kind = int(rng.integers(0, 3)) if c.kind == "dense" else 0
        return Connection(**(vars(c) | {"delay": rng.integers(0, 8, shape[kind])}))

    nodes = tuple(
        Node(n.name, n.shape, n.neuron, n.bias, tuple(delayed(c) for c in n.connections))
        for n in net.nodes
        if not n.neuron.is_readout
    )
    assert_as_plain(
        IntegerNet(net.input_shape, nodes, len(nodes), timesteps, net.input_bits), inputs, schedule
    )


def test_a_sample_left_early_leaves_nothing_behind() -> None:
    net, inputs = delayed_net()
    expected, before_reset, ledger = run_plain(net, inputs)
    engine = FusedEngine(Wiring.of(net, "gated"))
    links, nodes = engine.zero_counts(1)
    for t in range(4):
        frame = np.ones_like(inputs[0, ..., t]).transpose(2, 1, 0)
        engine.step(frame, t == 0, links[0], nodes[0])
    for t in range(net.timesteps):
        frame = inputs[0, ..., t].transpose(2, 1, 0)
        engine.step(frame, t == 0, links[0], nodes[0])
        assert (links[0, :, 1] == ledger.syn_ops[0, :, t]).all()
        for name in engine.names:
            fired = expected[name][0, ..., t]
            assert np.array_equal(engine.spikes(name).transpose(2, 0, 1), fired)
            left = np.where(fired, 0, before_reset[name][0, ..., t])
            assert np.array_equal(engine.potential(name).transpose(2, 0, 1), left)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_graded_values_wait_with_their_value(schedule: str) -> None:
    weight = 2 * np.arange(1, 5).reshape(2, 2, 1, 1)
    row = 2 * np.arange(1, 9).reshape(1, 8)
    stem = Connection("input", "conv", weight, delay=np.array(2))
    direct = Connection("input", "dense", row, delay=np.array([[0, 1, 2, 3] * 2]))
    nodes = (
        Node("stem", (2, 2, 2), Neuron(4096, 2048, 300), np.zeros(2, int), (stem,)),
        Node("sum", (1, 1, 1), Neuron(4096, 2048, 900), np.zeros(1, int), (direct,)),
    )
    net = IntegerNet((2, 2, 2), nodes, 2, 5, 4)
    inputs = np.random.default_rng(0).integers(0, 16, (3, 2, 2, 2, 5)).astype(np.uint8)
    assert_as_plain(net, inputs, schedule)


def test_the_current_is_that_of_the_step_just_done() -> None:
    identity = Connection("input", "identity", np.array(6), delay=np.array(1))
    node = Node("n", (1, 1, 2), Neuron(2048, 2048, 20), np.array([0]), (identity,))
    engine = FusedEngine(Wiring.of(IntegerNet((1, 1, 2), (node,), 1, 3), "gated"))
    links, nodes = engine.zero_counts(1)
    seen = []
    for t, frame in enumerate([[1, 0], [1, 1], [0, 0]]):
        frame = np.array(frame, np.uint8).reshape(2, 1, 1)
        engine.step(frame, t == 0, links[0], nodes[0])
        seen.append((engine.current("n").reshape(-1) / 64).tolist())
    assert seen == [[0, 0], [6, 0], [9, 6]]
    assert engine.current("n").dtype == np.int32
