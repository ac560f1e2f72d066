"""The event-driven engine against plain loops: every kind of connection, neuron and count."""

from dataclasses import replace

import numpy as np
import pytest
from engine_runs import assert_as_plain, check_delivery
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from plain import decay, leaky_net, load_join_net, run_plain

from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.engine.layout import Synapses, to_hwc
from neucodex_lava.edge.engine.neurons import Neurons
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
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("high", [1, 15])
def test_scatter_and_gather_are_the_convolution(
    kind: str, stride: tuple[int, int], dilation: tuple[int, int], groups: int, high: int
) -> None:
    rng = np.random.default_rng(0)
    source = (4, 7, 6)
    shape = (6, 4 // groups, 3, 2) if kind == "conv" else (4, 6 // groups, 3, 2)
    weight = 2 * rng.integers(-128, 128, shape)
    link = Connection("input", kind, weight, 2, stride, (1, 0), dilation, groups=groups)  # type: ignore[arg-type]
    target = link.output_shape(source)
    assert target is not None
    values = (rng.random(source) < 0.4) * rng.integers(1, high + 1, source)
    check_delivery(link, source, target, values, high, np.int64)


@settings(max_examples=100, deadline=None)
@given(geometry=st.data(), seed=st.integers(0, 2**16))
def test_whatever_the_geometry(geometry: st.DataObject, seed: int) -> None:
    def pick(low: int, high: int) -> int:
        return geometry.draw(st.integers(low, high))

    kind = geometry.draw(st.sampled_from(["conv", "conv_transpose"]))
    groups = geometry.draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, out = groups * pick(1, 5), groups * geometry.draw(st.sampled_from([1, 4, 17, 33, 65]))
    kernel, stride, dilation = ((pick(1, 4), pick(1, 4)) for _ in range(3))
    padding = (pick(0, 3), pick(0, 3))
    source = (channels, pick(1, 9), pick(1, 9))
    shape = (out, channels // groups) if kind == "conv" else (channels, out // groups)
    rng = np.random.default_rng(seed)
    weight = 2 * rng.integers(-128, 128, (*shape, *kernel))
    link = Connection("input", kind, weight, pick(0, 7), stride, padding, dilation, groups=groups)
    target = link.output_shape(source)
    assert target is not None
    assume(min(target) > 0)
    high = geometry.draw(st.sampled_from([1, 15, 255]))
    values = (rng.random(source) < rng.choice([0.1, 0.5, 1])) * rng.integers(1, high + 1, source)
    check_delivery(link, source, target, values, high, rng.choice([np.int32, np.int64]))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize(
    ("channels", "out", "groups"),
    [(1, 16, 1), (3, 64, 1), (70, 10, 1), (64, 33, 1), (16, 150, 1), (40, 40, 40), (8, 140, 2)],
)
def test_every_number_of_channels_and_lanes(
    channels: int, out: int, groups: int, high: int, kind: type
) -> None:
    rng = np.random.default_rng(channels)
    source = (channels, 5, 6)
    weight = 2 * rng.integers(-128, 128, (out, channels // groups, 3, 3))
    link = Connection("input", "conv", weight, 0, (1, 2), (1, 4), groups=groups)
    target = link.output_shape(source)
    assert target is not None
    for rate in (0.02, 0.3, 1):
        values = (rng.random(source) < rate) * rng.integers(1, high + 1, source)
        check_delivery(link, source, target, values, high, kind)


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("weight", [-256, 254])
def test_partial_sums_do_not_overflow(weight: int, high: int) -> None:
    size = 3 * 256 + 7 if high == 1 else 2 * 65_536 + 5
    link = Connection("input", "dense", np.full((17, size), weight), 7)
    values = np.full((size, 1, 1), high)
    check_delivery(link, (size, 1, 1), (17, 1, 1), values, high, np.int64)


@pytest.mark.parametrize("high", [1, 15])
def test_identity_is_one_synapse_each(high: int) -> None:
    rng = np.random.default_rng(0)
    for weight in (-256, 0, 6):
        link = Connection("input", "identity", np.array(weight), 3)
        values = (rng.random((3, 4, 5)) < 0.4) * rng.integers(1, high + 1, (3, 4, 5))
        compiled = Synapses(link, (3, 4, 5), (3, 4, 5), graded=high > 1)
        acc, counts = np.ones(compiled.target_view, np.int32), np.zeros(4, np.int64)
        compiled.deliver(to_hwc(values.astype(np.uint8)).reshape(compiled.source_view), acc, counts)
        assert np.array_equal(acc, to_hwc(values) * weight * 8 + 1)
        active = int((values != 0).sum())
        ops = [active, active if weight else 0, 0] if high == 1 else [0, 0, active]
        assert counts.tolist() == [active, *ops]


@pytest.mark.parametrize("decays", [(4096, 2048), (3000, 700), (0, 0), (1, 4095)])
def test_fast_rows_update_as_exact_ones_do(decays: tuple[int, int]) -> None:
    """Rows with and without a sum near the limit beside each other, over several timesteps."""
    rng = np.random.default_rng(3)
    link = Connection("input", "identity", np.array(2))
    bias = rng.integers(-4096, 4096, 3)
    node = Node("n", (3, 8, 7), Neuron(*decays, 9000), bias, (link,), sum_bound=10)
    neurons = Neurons(node, 1)
    spikes = np.zeros((8, 7, 3), np.uint8)
    u = v = np.zeros((8, 7, 3), np.int64)
    for _ in range(6):
        a = rng.integers(-131_000, 131_000, u.shape) // rng.choice([1, 8, 4000], (8, 1, 1))
        neurons.acc[:] = a
        fired = neurons.step(spikes)
        u = decay(u, decays[0]) + (a << 6)
        u = np.where(u > 2**23, u - 2**24, u)
        u = np.where(u <= -(2**23), u + 2**24, u)
        v = np.clip(decay(v, decays[1]) + u + (bias << 6), -(2**23) + 1, 2**23 - 1)
        assert np.array_equal(spikes, v > 9000 << 6)
        assert fired == spikes.sum()
        v = np.where(spikes, 0, v)
        assert np.array_equal(neurons.current, u)
        assert np.array_equal(neurons.potential, v)
        assert not neurons.acc.any()


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


def test_a_frame_of_another_shape_or_type_is_refused() -> None:
    net, _, _ = load_join_net(3)
    engine = FusedEngine(Wiring.of(net, "gated"))
    links, nodes = engine.zero_counts(1)
    for frame in (
        np.zeros((4, 3, 1), np.uint8),
        np.zeros((1, 1, 1), np.uint8),
        np.zeros((4, 4, 1), np.int32),
    ):
        with pytest.raises(DataError, match=r"uint8 \(W, H, C\) = \(4, 4, 1\)"):
            engine.step(frame, True, links[0], nodes[0])
    with pytest.raises(ConfigError, match=r"\(3, 2\) and \(3, 2\) are not of this engine"):
        engine.step(np.zeros((4, 4, 1), np.uint8), True, nodes[0], nodes[0])


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
