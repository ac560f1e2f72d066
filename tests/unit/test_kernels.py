"""The event-driven engine against plain loops: every kind of connection, neuron and count."""

from dataclasses import replace

import numpy as np
import pytest
from engine_runs import assert_as_plain
from plain import leaky_net, load_join_net, run_plain, synapse

from neucodex_lava.edge.engine import FusedEngine
from neucodex_lava.edge.layout import Neurons, Synapses, to_hwc
from neucodex_lava.edge.wiring import Wiring, check_inputs
from neucodex_lava.errors import ConfigError, DataError, OverflowInRunError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
@pytest.mark.parametrize("cut", [1, 3, 4, 5])
def test_fixture_spike_for_spike_and_count_for_count(schedule: str, cut: int) -> None:
    net, spikes, _ = load_join_net(cut)
    inputs = np.concatenate([spikes, spikes[..., ::-1], spikes])
    assert_as_plain(net, inputs, schedule)


def test_leaks_round_towards_zero() -> None:
    net, inputs = leaky_net()
    _, potential, _ = run_plain(net, inputs)
    wiring = Wiring.of(net, "gated")
    engine = FusedEngine(wiring)
    links, nodes = engine.zero_counts(1)
    for t in range(inputs.shape[-1]):
        engine.step(inputs[0, ..., t].transpose(2, 1, 0), t == 0, links[0], nodes[0])
        fired = engine.spikes("leaky").transpose(2, 0, 1)
        expected = np.where(fired, 0, potential["leaky"][0, ..., t])
        assert np.array_equal(engine.potential("leaky").transpose(2, 0, 1), expected)
    lost = (potential["leaky"] < 0) & (potential["leaky"] % 64 != 0)
    assert lost.mean() > 0.2, "most negative potentials have lost low bits by leaking"


def test_early_stop_is_the_truncated_ledger() -> None:
    net, spikes, _ = load_join_net(5)
    wiring = Wiring.of(net, "gated")
    engine = FusedEngine(wiring)
    links, nodes = engine.zero_counts(3)
    for step, (t, start) in enumerate([(0, True), (0, True), (1, False)]):
        engine.step(spikes[0, ..., t].transpose(2, 1, 0), start, links[step], nodes[step])
    _, _, ledger = run_plain(net, spikes)
    assert (links[0] == links[1]).all()
    assert (ledger.syn_ops[0] == links[1:, :, 1].T).all()


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("graded", [False, True])
def test_scatter_is_the_convolution(
    kind: str, stride: tuple[int, int], dilation: tuple[int, int], groups: int, graded: bool
) -> None:
    rng = np.random.default_rng(0)
    source = (4, 7, 6)
    shape = (6, 4 // groups, 3, 2) if kind == "conv" else (4, 6 // groups, 3, 2)
    weight = 2 * rng.integers(-128, 128, shape)
    link = Connection("input", kind, weight, 2, stride, (1, 0), dilation, groups=groups)  # type: ignore[arg-type]
    target = link.output_shape(source)
    assert target is not None
    high = 16 if graded else 2
    values = (rng.random(source) < 0.4) * rng.integers(1, high, source)
    compiled = Synapses(link, source, target, graded=graded)
    acc = np.zeros(compiled.target_view, np.int64)
    counts = np.zeros(4, np.int64)
    compiled.deliver(to_hwc(values.astype(np.uint8)), acc, counts)
    assert np.array_equal(acc, to_hwc(synapse(link, values, target)))
    every, nonzero = link.fan_out(source, target)
    active = values != 0
    ops = [(every * active).sum(), (nonzero * active).sum(), 0]
    expected = [0, 0, ops[0]] if graded else ops
    assert counts.tolist() == [active.sum(), *expected]


def test_neuron_wraps_clips_and_reports_as_stock_lava_does() -> None:
    neuron = Neuron(4096, 2048, 100)
    link = Connection("input", "identity", np.array(2))
    node = Node("n", (1, 1, 5), neuron, np.array([-64]), (link,))
    neurons = Neurons(node, 1)
    sums = np.array([131_071, 131_072, 131_073, -131_072, -131_071])
    neurons.acc[:] = sums.reshape(1, 5, 1)
    spikes = np.zeros((1, 5, 1), np.uint8)
    neurons.step(spikes)
    limit = 1 << 23
    assert neurons.current.reshape(-1).tolist() == [
        131_071 << 6, limit, (131_073 << 6) - 2 * limit, limit, -131_071 << 6,
    ]  # fmt: skip
    assert spikes.reshape(-1).tolist() == [1, 1, 0, 1, 0]
    assert neurons.potential.reshape(-1).tolist()[-1] == -limit + 1
    assert neurons.overflow.tolist() == [1, 2, 131_073]
    assert not neurons.acc.any()


def test_overflow_fails_the_run_with_node_and_timestep() -> None:
    weight = np.full((1, 1024), 254)
    link = Connection("input", "dense", weight, 1)
    node = Node("wide", (1, 1, 1), Neuron(4096, 2048, 100), np.array([0]), (link,), sum_bound=1000)
    net = IntegerNet((1, 32, 32), (node,), 1, 2)
    engine = FusedEngine(Wiring.of(net, "gated"))
    links, nodes = engine.zero_counts(1)
    blank = np.zeros((32, 32, 1), np.uint8)
    engine.step(blank, True, links[0], nodes[0])
    with pytest.raises(OverflowInRunError, match="'wide', sample 0, timestep 2.* 520192 "):
        engine.step(blank + 1, False, links[0], nodes[0])


def test_bad_wiring_and_input_are_named() -> None:
    net, spikes, _ = load_join_net(3)
    with pytest.raises(ConfigError, match="cut at 0"):
        Wiring.of(net.with_cut(0), "gated")
    with pytest.raises(ConfigError, match="'async'"):
        Wiring.of(net, "async")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="T is 3"):
        Wiring.of(net, "gated", 3)
    with pytest.raises(DataError, match="uint8"):
        check_inputs(spikes.astype(float), net)
    with pytest.raises(DataError, match=r"shape \(1, 4, 3\)"):
        check_inputs(spikes[:, :, :, :3], net)
    with pytest.raises(DataError, match="value 2 is above 1"):
        check_inputs(spikes * 2, net)
    assert replace(net, input_bits=1) == net
