"""The network for the chip: stock processes alone, power-of-two resets, plain spikes and sums."""

from dataclasses import replace

import numpy as np
import pytest
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from plain import delayed_net, load_join_net, run_plain

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.stock.chip import chip_network, run_chip_network
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava


def rich_net(timesteps: int, bits: int = 1) -> tuple[IntegerNet, np.ndarray]:
    """Stride, padding, dilation, groups, a projection and an identity that wait, dense, readout."""
    rng = np.random.default_rng(timesteps)

    def w(*size: int) -> np.ndarray:
        return 2 * rng.integers(-40, 41, size)

    def node(name: str, shape: tuple[int, int, int], threshold: int, *links: Connection) -> Node:
        # A bias above the threshold in one channel fires in blank frames, too.
        bias = rng.integers(-30, 60, shape[0])
        bias[0] = threshold + 5
        memory = 3000 if name == "join" else 4096
        return Node(name, shape, Neuron(memory, 2048, threshold), bias, links)

    main = Connection("stem", "conv", w(4, 2, 3, 2), 0, (2, 1), (1, 2), (1, 2), groups=2)
    shape = main.output_shape((4, 7, 6))
    assert shape is not None
    second = Connection("main", "conv", w(6, 4, 3, 3), padding=(1, 1))
    projected = Connection("stem", "conv", w(6, 4, 3, 2), 0, (2, 1), (1, 2), (1, 2))
    wide = (6, *shape[1:])
    same = Connection("mid", "conv", w(6, 6, 3, 3), padding=(1, 1))
    nodes = (
        node("stem", (4, 7, 6), 90, Connection("input", "conv", w(4, 2, 3, 3), padding=(1, 1))),
        node("main", shape, 120, main),
        node("join", wide, 150, second, projected),
        node("mid", wide, 100, Connection("join", "conv", w(6, 1, 1, 1), groups=6)),
        node("out", wide, 130, same, Connection("join", "identity", np.array(38), 3)),
        node("hidden", (3, 2, 1), 60, Connection("out", "dense", w(6, 6 * shape[1] * shape[2]), 1)),
        Node("readout", (5, 1, 1), READOUT, w(5), (Connection("hidden", "dense", w(5, 6)),)),
    )
    net = IntegerNet((2, 7, 6), nodes, len(nodes), 8, bits)
    inputs = rng.integers(0, 1 << bits, (3, 2, 7, 6, timesteps))
    return net, (inputs * (rng.random(inputs.shape) < 0.5)).astype(np.uint8)


@pytest.mark.parametrize("timesteps", range(1, 9))
def test_spikes_and_sums(timesteps: int) -> None:
    net, inputs = rich_net(timesteps)
    spikes, potential, _ = run_plain(net, inputs)
    out, sums = run_chip_network(net, inputs)
    assert not out.any()
    assert np.array_equal(sums, potential["readout"].reshape(3, 5, timesteps) >> 6)
    cut = net.with_cut(5)
    out, sums = run_chip_network(cut, inputs)
    assert sums is None
    assert np.array_equal(out, spikes["out"])
    assert 0 < out.sum() < out.size
    assert np.array_equal(out, simulate(cut, inputs).output)


def test_graded_input() -> None:
    net, inputs = rich_net(3, bits=4)
    spikes, potential, _ = run_plain(net, inputs)
    out, sums = run_chip_network(net, inputs)
    assert np.array_equal(sums, potential["readout"].reshape(3, 5, 3) >> 6)
    out, _ = run_chip_network(net.with_cut(5), inputs)
    assert np.array_equal(out, spikes["out"])


def test_the_fixture() -> None:
    net, spikes, _ = load_join_net(5)
    inputs = np.concatenate([spikes, spikes[..., ::-1], spikes])
    want, potential, _ = run_plain(net, inputs)
    out, sums = run_chip_network(net, inputs)
    assert np.array_equal(out, want[net.nodes[-1].name])
    assert np.array_equal(sums, potential[net.nodes[-1].name].reshape(3, -1, 2) >> 6)


def test_stock_lava_runs_it_alone_and_blank_frames_do_not_matter() -> None:
    net, inputs = rich_net(5)
    net = net.with_cut(5)
    want = run_plain(net.edge_part(), inputs)[0]["out"]
    network = chip_network(net, timesteps=5)
    assert (network.timesteps, network.interval, network.latency) == (5, 8, 5)
    assert all(type(p).__module__.startswith("lava.proc.") for p in network.stock)
    # Five nodes, seven connections of which one is an identity, two relays with their synapses.
    assert sorted(type(p).__name__ for p in network.stock) == [
        *["Conv"] * 6,
        *["LIF"] * 2,
        *["LIFReset"] * 5,
        *["Sparse"] * 3,
    ]
    steps = network.output_step(2, 4) + 1
    frames = np.ones((*network.inp.shape, steps), np.int32)
    for n in range(3):
        for t in range(5):
            frames[..., network.frame_step(n, t)] = inputs[n, ..., t].transpose(2, 1, 0)
    source, sink = Source(data=frames), Sink(shape=network.out.shape, buffer=steps)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    # In two goes: Lava's clock, and with it the resets, goes on.
    for part in (9, steps - 9):
        network.run(condition=RunSteps(part), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    out = sink.data.get()
    network.stop()
    for n in range(3):
        for t in range(5):
            frame = out[..., network.output_step(n, t)].transpose(2, 1, 0)
            assert np.array_equal(frame, want[n, ..., t])


def test_refusals_name_the_connection_and_a_way_out() -> None:
    net, inputs = rich_net(2, bits=4)
    stem = net.node("stem")

    def refused(changed: IntegerNet, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            chip_network(changed)

    skip = Connection("input", "conv", np.full((4, 2, 3, 2), 2), 0, (2, 1), (1, 2), (1, 2))
    main = replace(net.node("main"), connections=(*net.node("main").connections, skip))
    refused(net.with_nodes(main), "'main', connection from 'input': graded input skips ahead")
    delayed, _ = delayed_net()
    refused(delayed, "'stem', connection from 'input': spikes delayed by up to 2 .* backend fused")
    wide = replace(stem.connections[0], exponent=5)
    weights = "the exponent 5, and weights times 2.5 are wider than 8 bits .*smaller gain"
    refused(net.with_nodes(replace(stem, connections=(wide,), sum_bound=1000)), weights)
    forever = replace(stem, neuron=Neuron(0, 2048, 90), sum_bound=100)
    refused(net.with_nodes(forever), "'stem': .* iDecay 0 is not possible .*backend fused")
    up = Connection("stem", "conv_transpose", np.full((4, 1, 2, 2), 4), 0, (2, 2))
    decoder = Node("up", (1, 14, 12), Neuron(), np.zeros(1, int), (up,))
    refused(IntegerNet((2, 7, 6), (stem, decoder), 2, 2, 4), "no transposed convolution")
    refused(net.with_cut(0), "cut at 0")
    with pytest.raises(ConfigError, match="T is 9"):
        chip_network(net, 9)
    with pytest.raises(DataError, match="nothing to run"):
        run_chip_network(net, inputs[:0])
