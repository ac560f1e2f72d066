"""The fixture and small random networks through Lava: spike for spike and count for count."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from against_plain import lava_is_exact
from plain import load_join_net

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import ConfigError, DataError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava

RUNS = [("fused", "gated"), ("fused", "pipelined"), ("reference", "pipelined")]


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
def test_fixture_three_samples_back_to_back(backend: str, schedule: str) -> None:
    net, spikes, _ = load_join_net(5)
    inputs = np.concatenate([spikes, spikes[..., ::-1], spikes])
    result = lava_is_exact(net, inputs, backend, schedule)
    assert result.steps == (6 if schedule == "gated" else 11)
    relay, outside = result.ledger.relay, result.ledger.outside_window
    if schedule == "gated":
        assert not any(vars(outside).values())
    else:
        assert outside.dendrite_updates == 5 * sum(n.size for n in net.nodes)
    if backend == "reference":
        assert relay.dendrite_updates == 11 * net.node("stem").size
        # Both pipelines do the same work outside of the windows.
        fused = simulate(net, inputs, schedule="pipelined").ledger
        assert fused.outside_window == outside
        assert not any(vars(fused.relay).values())
    else:
        assert not any(vars(relay).values())


def random_net(seed: int) -> tuple[IntegerNet, np.ndarray]:
    """A small residual network: strides, groups, dilation, joins, projection, dense, readout."""
    rng = np.random.default_rng(seed)
    graded = seed % 3 == 1
    bits = 3 if graded else 1

    def w(*shape: int) -> np.ndarray:
        weight = 2 * rng.integers(-40, 41, shape)
        return weight * (rng.random(shape) < 0.8)

    def lif(threshold: int) -> Neuron:
        memory = 4096 if seed % 2 else 3000
        return Neuron(memory, int(rng.choice([1024, 2048, 4096])), threshold)

    def bias(n: int) -> np.ndarray:
        return rng.integers(-30, 60, n)

    stride = (2, 1) if seed % 2 else (1, 2)
    h, width = 7, 6
    stem = Connection("input", "conv", w(4, 2, 3, 3), 0, (1, 1), (1, 1))
    nodes = [Node("stem", (4, h, width), lif(90), bias(4), (stem,))]
    main = Connection("stem", "conv", w(4, 2, 3, 2), 1, stride, (1, 2), (1, 2), groups=2)
    shape = main.output_shape(nodes[0].shape)
    assert shape is not None
    nodes.append(Node("main", shape, lif(120), bias(4), (main,)))
    second = Connection("main", "conv", w(6, 4, 3, 3), 0, (1, 1), (1, 1))
    padded = Connection("stem", "conv", w(6, 4, 3, 2), 2, stride, (1, 2), (1, 2))
    nodes.append(Node("join", (6, *shape[1:]), lif(150), bias(6), (second, padded)))
    same = Connection("join", "conv", w(6, 6, 3, 3), 0, (1, 1), (1, 1))
    shortcut = Connection("join", "identity", np.array(2 * rng.integers(20, 120)), 2)
    nodes.append(Node("mid", nodes[2].shape, lif(100), bias(6), (same,)))
    again = Connection("mid", "conv", w(6, 1, 1, 1), 0, groups=6)
    nodes.append(Node("out", nodes[2].shape, lif(130), bias(6), (again, shortcut)))
    size = nodes[-1].size
    hidden = Connection("out", "dense", w(6, size), 1)
    nodes.append(Node("hidden", (3, 2, 1), lif(60), bias(3), (hidden,)))
    if seed % 2:
        # The image skips everything and enters the last layers, too.
        image = Connection("input", "dense", w(6, 2 * h * width))
        nodes[-1] = Node("hidden", (3, 2, 1), lif(60), bias(3), (hidden, image))
    final = Connection("hidden", "dense", w(5, 6))
    nodes.append(Node("readout", (5, 1, 1), READOUT, bias(5), (final,)))
    net = IntegerNet((2, h, width), tuple(nodes), len(nodes), 4, bits)
    inputs = rng.integers(0, 1 << bits, (3, 2, h, width, 3)) * (
        rng.random((3, 2, h, width, 3)) < 0.4
    )
    return net, inputs.astype(np.uint8)


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed: int, backend: str, schedule: str) -> None:
    net, inputs = random_net(seed)
    result = lava_is_exact(net, inputs, backend, schedule)
    assert result.ledger.total("axon_out") > 50
    assert (result.ledger.total("macs") > 0) == (net.input_bits > 1)


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
def test_cut_before_the_end_and_no_recording(backend: Any, schedule: Any) -> None:
    net, inputs = random_net(2)
    net = net.with_cut(3)
    want = lava_is_exact(net, inputs, backend, schedule)
    plain = simulate(net, inputs, backend=backend, schedule=schedule)
    assert plain.spikes is None
    assert np.array_equal(plain.output, want.output)
    assert plain.ledger.first_difference(want.ledger) is None
    assert (plain.ledger.relay, plain.ledger.outside_window) == (
        want.ledger.relay,
        want.ledger.outside_window,
    )


def test_outside_windows_both_pipelines_do_the_same_work() -> None:
    net, inputs = random_net(3)
    # A bias above the threshold fires from the first step on, with no input at all.
    busy = [replace(n, bias=np.full(n.shape[0], 200)) for n in net.nodes if n.name != "readout"]
    net = net.with_nodes(*busy)
    fused = simulate(net, inputs, schedule="pipelined").ledger.outside_window
    reference = simulate(net, inputs, backend="reference", schedule="pipelined").ledger
    assert fused == reference.outside_window
    assert fused.syn_ops > 0
    assert reference.relay.syn_ops > 0


def test_progress_counts_samples() -> None:
    net, inputs = random_net(0)
    for backend, schedule in RUNS:
        seen: list[tuple[int, int]] = []
        simulate(
            net,
            inputs,
            backend=backend,  # type: ignore[arg-type]
            schedule=schedule,  # type: ignore[arg-type]
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )
        assert seen == sorted(seen)
        assert seen[-1] == (3, 3)


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
def test_overflow_fails_the_run(backend: Any, schedule: Any) -> None:
    link = Connection("input", "dense", np.full((1, 1024), 254), 1)
    wide = Node("wide", (1, 1, 1), Neuron(4096, 2048, 100), np.array([0]), (link,), sum_bound=1000)
    net = IntegerNet((1, 32, 32), (wide,), 1, 2)
    inputs = np.zeros((2, 1, 32, 32, 2), np.uint8)
    inputs[1, ..., 1] = 1
    with pytest.raises(OverflowInRunError, match="'wide', sample 1, timestep 2.* 520192 "):
        simulate(net, inputs, backend=backend, schedule=schedule)


def test_refusals_are_clear() -> None:
    net, inputs = random_net(0)
    with pytest.raises(ConfigError, match="no stock neuron does this"):
        simulate(net, inputs, backend="reference")
    with pytest.raises(ConfigError, match="'loihi'"):
        simulate(net, inputs, backend="loihi")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cut at 0"):
        simulate(net.with_cut(0), inputs)
    with pytest.raises(ConfigError, match="T is 5"):
        simulate(net, np.zeros((1, 2, 7, 6, 5), np.uint8))
    with pytest.raises(DataError, match="nothing to run"):
        simulate(net, inputs[:0])
    up = Connection("stem", "conv_transpose", np.full((2, 1, 2, 2), 4), 0, (2, 2))
    stem = Connection("input", "identity", np.array(2))
    nodes = (
        Node("stem", (2, 3, 3), Neuron(), np.zeros(2, int), (stem,)),
        Node("up", (1, 6, 6), Neuron(), np.zeros(1, int), (up,)),
    )
    decoder = IntegerNet((2, 3, 3), nodes, 2, 1)
    frames = np.ones((1, 2, 3, 3, 1), np.uint8)
    lava_is_exact(decoder, frames, "fused", "gated")
    with pytest.raises(ConfigError, match="no transposed convolution"):
        simulate(decoder, frames, backend="reference", schedule="pipelined")
    integrator = Node("stem", (2, 3, 3), Neuron(0, 2048, 128), np.zeros(2, int), (stem,))
    one = IntegerNet((2, 3, 3), (integrator,), 1, 1)
    with pytest.raises(ConfigError, match="iDecay 0"):
        simulate(one, frames, backend="reference", schedule="pipelined")
