"""lava-dl's own NetX reader on our files: chains with the same spikes, everything else refused.

Stock `netx.hdf5.Network` runs pipelined under stock Lava, samples back to back: the spikes of
timestep t of sample n (both from 0) leave the last of d layers at Lava step nT + t + d.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plain import load_join_net, run_plain

from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.edge.netx.layout import garbled_by_lava_dl
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node, Shape
from neucodex_lava.stock_netx import run_stock_netx

netx = pytest.importorskip("lava.lib.dl.netx.hdf5")

T = 3
SAMPLES = 3


def even(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    return (2 * rng.integers(low // 2, high // 2 + 1, shape)).astype(np.int16)


class Chain:
    """A chain built layer by layer, with seeded weights and biases."""

    def __init__(self, seed: int, input_shape: Shape) -> None:
        self.rng = np.random.default_rng(seed)
        self.input_shape = input_shape
        self.nodes: list[Node] = []

    @property
    def source(self) -> tuple[str, Shape]:
        return (self.nodes[-1].name, self.nodes[-1].shape) if self.nodes else (
            "input", self.input_shape)  # fmt: skip

    def _add(self, shape: Shape, neuron: Neuron, link: Connection) -> Chain:
        bias = self.rng.integers(-9, 30, shape[0])
        name = f"{link.kind} {len(self.nodes)}"
        self.nodes.append(Node(name, shape, neuron, bias, (link,)))
        return self

    def conv(self, out: int, kernel: tuple[int, int], neuron: Neuron, **geometry) -> Chain:
        name, shape = self.source
        per_group = shape[0] // geometry.get("groups", 1)
        weight = even(self.rng, -60, 90, (out, per_group, *kernel))
        link = Connection(name, "conv", weight, **geometry)
        return self._add(link.output_shape(shape), neuron, link)

    def dense(self, out: int, neuron: Neuron, low: int = -60, high: int = 90) -> Chain:
        name, shape = self.source
        weight = even(self.rng, low, high, (out, int(np.prod(shape))))
        return self._add((out, 1, 1), neuron, Connection(name, "dense", weight))

    def net(self, timesteps: int = T) -> IntegerNet:
        return IntegerNet(self.input_shape, tuple(self.nodes), len(self.nodes), timesteps)


LIF = Neuron(threshold=70)


def geometry() -> Chain:
    """Rectangular everything: strides, paddings, dilations and groups differ by axis."""
    chain = Chain(1, (2, 9, 7))
    chain.conv(4, (3, 2), LIF, stride=(2, 1), padding=(1, 2))
    chain.conv(6, (2, 3), Neuron(1000, 500, 90), padding=(2, 1), dilation=(2, 1), groups=2)
    return chain.conv(6, (1, 2), LIF, stride=(1, 3), groups=6)


def classifier() -> Chain:
    chain = Chain(2, (2, 6, 5))
    chain.conv(3, (3, 3), LIF, padding=(1, 1)).conv(4, (3, 3), LIF, stride=(2, 2), padding=(1, 0))
    return chain.dense(7, Neuron(2048, 1024, 120)).dense(5, Neuron(4096, 4096, 10))


def with_readout() -> Chain:
    return Chain(3, (1, 4, 4)).conv(3, (2, 2), LIF).dense(6, LIF).dense(4, READOUT)


def dense_only() -> Chain:
    """Dense from a 3-D input; current without decay, voltage without decay, threshold 0."""
    chain = Chain(4, (2, 3, 2)).dense(8, Neuron(0, 0, 150)).dense(6, Neuron(1, 4096, 0))
    return chain.dense(5, Neuron(4095, 4095, 400), low=0, high=254)


def extreme_weights() -> Chain:
    chain = Chain(5, (1, 4, 3)).conv(2, (2, 2), LIF)
    weight = np.array([[-256, 254, 2, -2] * 3, [254] * 12, [-256] * 12], np.int16)
    link = Connection(chain.source[0], "dense", weight)
    return chain._add((3, 1, 1), LIF, link)


CHAINS = [geometry, classifier, with_readout, dense_only, extreme_weights]


def load_stock(path: Path, timesteps: int = T):
    return netx.Network(net_config=str(path), reset_interval=timesteps, reset_offset=1)


def some_spikes(net: IntegerNet, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((SAMPLES, *net.input_shape, net.timesteps)) < 0.5).astype(np.uint8)


@pytest.mark.lava
@pytest.mark.parametrize("make", CHAINS)
def test_stock_netx_gives_the_same_spikes_on_a_chain(make, tmp_path: Path) -> None:
    net = make().net()
    path = tmp_path / "chain.net"
    write_netx(net, path)
    assert read_netx(path) == net
    spikes = some_spikes(net)
    expected, _, _ = run_plain(net, spikes)
    last = expected[net.nodes[-1].name]
    for name, out in expected.items():
        if not net.node(name).neuron.is_readout:
            assert 0 < out.mean() < 1, f"{name} proves nothing"
    assert np.array_equal(run_stock_netx(path, net, spikes)[0], last)


@pytest.mark.lava
def test_stock_netx_integrates_a_readout_to_the_same_sum(tmp_path: Path) -> None:
    net = with_readout().net()
    path = tmp_path / "chain.net"
    write_netx(net, path)
    spikes = some_spikes(net)
    _, potential, _ = run_plain(net, spikes)
    expected = potential[net.nodes[-1].name][:, :, 0, 0, :] >> 6
    assert np.unique(expected).size > SAMPLES * T
    assert np.array_equal(run_stock_netx(path, net, spikes)[1], expected)


@pytest.mark.lava
def test_a_net_that_slayer_exports_is_read_as_stock_netx_reads_it(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    torch = pytest.importorskip("torch")
    block = pytest.importorskip("lava.lib.dl.slayer").block.cuba

    torch.manual_seed(5)
    neuron = {"threshold": 1.1, "current_decay": 0.4, "voltage_decay": 0.3}
    blocks = [
        block.Input({**neuron, "norm": None}, weight=1, bias=0),
        block.Conv(neuron, 2, 3, (3, 2), stride=(2, 1), padding=(1, 0), weight_scale=3),
        block.Conv(neuron, 3, 4, 3, padding=1, weight_scale=3),
        block.Flatten(),
        block.Dense(neuron, 4 * 3 * 4, 6, weight_scale=2),
    ]
    x = torch.rand(1, 2, 6, 5, T).gt(0.5).float()
    for layer in blocks:
        x = layer(x)
    path = tmp_path / "slayer.net"
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(blocks):
            layer.export_hdf5(file.create_group(f"layer/{i}"))
        del file["layer/0/neuron"], file["layer/0/weight"], file["layer/0/bias"]
    net = read_netx(path, timesteps=T)
    assert [node.name for node in net.nodes] == ["conv1", "conv2", "dense4"]
    spikes = some_spikes(net)
    last = run_plain(net, spikes)[0]["dense4"]
    assert 0 < last.mean() < 1
    assert np.array_equal(run_stock_netx(path, net, spikes)[0], last)


def _identity() -> IntegerNet:
    link = Connection("input", "identity", np.int16(200))
    node = Node("same", (2, 3, 3), LIF, np.zeros(2, int), (link,))
    return IntegerNet((2, 3, 3), (node,), 1, T)


def _transposed() -> IntegerNet:
    link = Connection("input", "conv_transpose", np.full((2, 1, 2, 2), 4, np.int16))
    node = Node("up", (1, 4, 4), LIF, np.zeros(1, int), (link,))
    return IntegerNet((2, 3, 3), (node,), 1, T)


def _with_weight(net: IntegerNet, index: int, **changes) -> IntegerNet:
    node = net.nodes[index]
    return net.with_nodes(replace(node, connections=(replace(node.connections[0], **changes),)))


def _spatial_dense() -> IntegerNet:
    link = Connection("input", "dense", np.full((8, 4), 100, np.int16))
    node = Node("map", (2, 2, 2), LIF, np.zeros(2, int), (link,))
    return IntegerNet((4, 1, 1), (node,), 1, T)


def _conv_after_dense() -> IntegerNet:
    return Chain(6, (1, 3, 3)).dense(4, LIF).conv(2, (1, 1), LIF).net()


def _skip() -> IntegerNet:
    net = Chain(7, (2, 4, 4)).conv(2, (1, 1), LIF).conv(2, (1, 1), LIF).net()
    return _with_weight(net, 1, source="input")


NOT_FOR_STOCK = {
    "a join": load_join_net(3)[0],
    "a whole net with a join": load_join_net(5)[0],
    "a skipped layer": _skip(),
    "an identity": _identity(),
    "a transposed convolution": _transposed(),
    "an exponent": _with_weight(geometry().net(), 0, exponent=1),
    "graded input": replace(classifier().net(), input_bits=4),
    "a dense layer with a map": _spatial_dense(),
    "a convolution after a dense layer": _conv_after_dense(),
    "dense weights all negative": _with_weight(
        dense_only().net(), 1, weight=np.full((6, 8), -2, np.int16)
    ),
    "dense weights all zero": _with_weight(
        dense_only().net(), 1, weight=np.zeros((6, 8), np.int16)
    ),
    "128 groups": Chain(8, (128, 2, 2)).conv(128, (2, 2), LIF, groups=128).net(),
    "a delayed convolution": _with_weight(geometry().net(), 0, delay=np.array(2)),
    "a stride of 128": Chain(9, (1, 140, 2)).conv(2, (2, 2), LIF, stride=(128, 1)).net(),
}


@pytest.mark.parametrize("what", NOT_FOR_STOCK)
def test_stock_netx_refuses_what_it_would_misread(what: str, tmp_path: Path) -> None:
    net = NOT_FOR_STOCK[what]
    path = tmp_path / "other.net"
    write_netx(net, path)
    assert read_netx(path) == net.edge_part()
    for arguments in ({}, {"skip_layers": 1}, {"skip_layers": 2}, {"num_layers": 1}):
        with pytest.raises(NotImplementedError, match="concat"):
            netx.Network(net_config=str(path), reset_interval=T, reset_offset=1, **arguments)


def test_lava_garbles_exactly_the_dense_weights_that_are_refused() -> None:
    """The rule in layout.py, for every smallest and largest weight."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils import weightutils

    def as_lava_uses(weights: np.ndarray) -> np.ndarray:
        scaled, bits, exponent, _ = optimize_weight_bits(weights)
        mode = weightutils.determine_sign_mode(scaled)
        kept = weightutils.clip_weights(scaled, mode, num_bits=8)
        kept = weightutils.truncate_weights(kept, mode, bits)
        return kept << exponent if exponent > 0 else kept >> -exponent

    def check(low: int, high: int) -> None:
        weights = np.array([[low, high, min(high, max(low, 2)), min(high, max(low, 6))]])
        with np.errstate(divide="ignore"):
            exact = np.array_equal(as_lava_uses(weights), weights)
        assert exact == (garbled_by_lava_dl(weights) == ""), (low, high)

    assert garbled_by_lava_dl(np.zeros((1, 2), int))
    with pytest.raises(OverflowError):
        as_lava_uses(np.zeros((1, 2), int))
    for high in range(-256, 256, 2):
        for low in range(-256, high + 1, 2):
            if (low, high) != (0, 0):
                check(low, high)
    assert garbled_by_lava_dl(np.full((1, 2), -2))
    assert not garbled_by_lava_dl(np.full((1, 2), -6))
