"""Currents and potentials of watched nodes, in state units, against the fixture and plain loops."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from plain import load_join_net, random_net, run_plain

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava

RUNS = [("fused", "gated"), ("fused", "pipelined")]


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
def test_states_of_the_fixture(backend: Any, schedule: Any) -> None:
    net, spikes, steps = load_join_net(5)
    inputs = np.concatenate([spikes, spikes])
    names = [node.name for node in net.nodes]
    result = simulate(net, inputs, backend=backend, schedule=schedule, watch=names)
    assert result.spikes is None
    assert list(result.currents) == list(result.potentials) == names
    for name, node in zip(names, net.nodes):
        assert result.currents[name].dtype == result.potentials[name].dtype == np.int32
        assert result.currents[name].shape == (2, *node.shape, 2)
        for sample in (0, 1):
            for step in (s for s in steps if s["node"] == name):
                now = sample, ..., step["timestep"] - 1
                assert node.neuron.current_decay == 4096
                assert np.array_equal(result.currents[name][now], np.array(step["a"]) << 6)
                after = np.array(step["potential_before_reset"]) * (np.array(step["spikes"]) == 0)
                assert np.array_equal(result.potentials[name][now], after)


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
@pytest.mark.parametrize("seed", [2, 3])
def test_recording_keeps_every_potential(schedule: Any, seed: int) -> None:
    net, inputs = random_net(seed)
    sent, before_reset, _ = run_plain(net.edge_part(), inputs)
    result = simulate(net, inputs, schedule=schedule, record=True, watch=["stem"])
    assert list(result.currents) == ["stem"]
    assert set(result.potentials) == set(sent)
    for name, spikes in sent.items():
        assert np.array_equal(result.potentials[name], before_reset[name] * (spikes == 0)), name
    quiet = simulate(net, inputs, schedule=schedule)
    assert quiet.spikes is None
    assert not quiet.currents
    assert not quiet.potentials


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_an_unknown_node_is_refused(backend: Any) -> None:
    net, spikes, _ = load_join_net(3)
    with pytest.raises(ConfigError, match="no node 'readout' to watch"):
        simulate(net, spikes, backend=backend, schedule="pipelined", watch=["readout"])


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_a_run_keeps_its_output_and_counts_alone(schedule: Any) -> None:
    wide = Connection("input", "conv", np.full((32, 1, 1, 1), 4, np.int16))
    narrow = Connection("wide", "conv", np.full((1, 32, 8, 8), 4, np.int16), stride=(8, 8))
    neuron = Neuron(threshold=50)
    nodes = (
        Node("wide", (32, 64, 64), neuron, np.zeros(32, int), (wide,)),
        Node("narrow", (1, 8, 8), neuron, np.zeros(1, int), (narrow,)),
    )
    net = IntegerNet((1, 64, 64), nodes, 2, 4)

    def peak(samples: int, record: bool) -> int:
        inputs = np.zeros((samples, 1, 64, 64, 4), np.uint8)
        tracemalloc.start()
        simulate(net, inputs, schedule=schedule, record=record)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2, False)
    per_sample = (peak(22, False) - peak(2, False)) / 20
    # Four codes of 64 bytes, and counts of 2 x 32 and 2 x 16 bytes: a spike of `wide` is not kept.
    assert per_sample < 4 * 4096 < 4 * 32 * 64 * 64
    assert (peak(22, True) - peak(2, True)) / 20 > 4 * 32 * 64 * 64
