"""Our counts are those of two other projects, per connection, sample and timestep.

* Sinabs (`sinabs.hooks.conv_layer_synops_hook`, `linear_layer_synops_hook`) counts every synapse that a
  spike reaches, weights of zero too: `syn_ops`. For graded input, made binary here: `macs`.
* NeuroBench (`neurobench.metrics.workload.SynapticOperations`, ``Effective_ACs``) counts those with a
  weight other than zero: `syn_ops_nonzero`. It returns negative counts for weight-normed SLAYER
  synapses, so both see plain torch layers with the same integers.

Both know `nn.Conv2d` and `nn.Linear`. An identity is a depthwise 1x1 convolution to them, and a
transposed convolution one over its input with zeros in between.

Runs in an environment of its own: ``make crosscheck``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from plain import load_join_net, random_net
from torch import Tensor, from_numpy, nn, no_grad, zeros
from torch.nn import functional as F

from energy.ledger import Ledger
from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

WHY = "needs Sinabs and NeuroBench: make crosscheck"
sinabs = pytest.importorskip("sinabs.hooks", reason=WHY)
neurobench = pytest.importorskip("neurobench.metrics.workload", reason=WHY)
models = pytest.importorskip("neurobench.models", reason=WHY)

BUNDLE = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits" / "base"


def as_layer(connection: Connection, channels: int) -> nn.Conv2d | nn.Linear:
    """A connection as the plain torch layer with its weights, in float64: counts are exact."""
    weight = from_numpy(np.asarray(connection.effective_weight())).double()
    geometry = {"padding": connection.padding, "stride": connection.stride}
    groups = connection.groups
    if connection.kind == "dense":
        layer: nn.Conv2d | nn.Linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    else:
        if connection.kind == "identity":
            weight, groups = weight.repeat(channels, 1, 1, 1), channels
        if connection.kind == "conv_transpose":
            # Input channels of a group to its outputs, taps in reverse.
            weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
            geometry = {}
        out, per_group, *kernel = weight.shape
        layer = nn.Conv2d(
            per_group * groups,
            out,
            tuple(kernel),
            dilation=connection.dilation,
            groups=groups,
            bias=False,
            **geometry,
        )
    layer = layer.double()
    with no_grad():
        layer.weight.copy_(weight)
    return layer


def as_input(connection: Connection, frame: Tensor) -> Tensor:
    """What that layer takes for a frame (C, H, W): (1, C, H, W), or (1, C * H * W)."""
    if connection.kind == "dense":
        return frame.reshape(1, -1)
    if connection.kind != "conv_transpose":
        return frame[None]
    c, h, w = frame.shape
    (sy, sx), (oy, ox) = connection.stride, connection.output_padding
    apart = zeros(c, (h - 1) * sy + 1, (w - 1) * sx + 1, dtype=frame.dtype)
    apart[:, ::sy, ::sx] = frame
    by = [
        d * (k - 1) - p
        for d, k, p in zip(connection.dilation, connection.weight.shape[2:], connection.padding)
    ]
    return F.pad(apart, (by[1], by[1] + ox, by[0], by[0] + oy))[None]


class Peers:
    """One layer with the hooks of both on it."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        convolves = isinstance(layer, nn.Conv2d)
        layer.register_forward_hook(
            sinabs.conv_layer_synops_hook if convolves else sinabs.linear_layer_synops_hook
        )
        self.layer = layer
        self.model = models.TorchModel(nn.Sequential(layer))
        self.model.register_hooks()

    def count(self, x: Tensor) -> tuple[int, int]:
        """(synapses, synapses other than zero) that the spikes of one timestep reach."""
        with no_grad():
            out = self.model(x)
            metric = neurobench.SynapticOperations()
            nonzero = metric(self.model, out, (x, None))["Effective_ACs"]
            self.model.reset_hooks()
            every = self.layer.hook_data["layer_synops_per_timestep"].item()
        assert every == int(every)
        assert nonzero == int(nonzero)
        return int(every), int(nonzero)


def rows(
    net: IntegerNet, inputs: np.ndarray
) -> Iterator[tuple[int, Connection, np.ndarray, Ledger]]:
    """Per connection: its row in the ledger, itself, its recorded input, and the ledger."""
    run = run_twin(Executor(net), inputs, record=True)
    assert run.spikes is not None
    values = {"input": inputs} | run.spikes
    for row, (_, connection) in enumerate(net.connections()):
        yield row, connection, values[connection.source], run.ledger


def check(net: IntegerNet, inputs: np.ndarray) -> tuple[int, int]:
    """Compare every connection, sample and timestep; returns both totals."""
    totals = np.zeros(2, np.int64)
    for row, connection, values, ledger in rows(net, inputs):
        peers = Peers(as_layer(connection, values.shape[1]))
        for n in range(values.shape[0]):
            for t in range(values.shape[-1]):
                frame = from_numpy(np.ascontiguousarray(values[n, ..., t] != 0)).double()
                every, nonzero = peers.count(as_input(connection, frame))
                if net.is_graded(connection):
                    assert ledger.macs[n, row, t] == every
                    assert ledger.syn_ops[n, row, t] == ledger.syn_ops_nonzero[n, row, t] == 0
                else:
                    assert ledger.syn_ops[n, row, t] == every
                    assert ledger.syn_ops_nonzero[n, row, t] == nonzero
                totals += every, nonzero
    return int(totals[0]), int(totals[1])


def test_the_released_network() -> None:
    bundle = load_bundle(BUNDLE)
    every, nonzero = check(bundle.net, bundle.golden.inputs)
    assert (every, nonzero) == (
        bundle.golden.ledger.total("syn_ops"),
        bundle.golden.ledger.total("syn_ops_nonzero"),
    )
    assert every > nonzero > 100_000


def test_the_fixture() -> None:
    net, inputs, _ = load_join_net()
    check(net, inputs)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int) -> None:
    every, nonzero = check(*random_net(seed))
    assert every > nonzero > 0


# (C, H, W), output channels, kernel, stride, padding, dilation, groups
CONVOLUTIONS = [
    ((3, 8, 8), 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((3, 9, 8), 5, (3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((2, 7, 9), 4, (3, 2), (2, 1), (0, 1), (1, 1), 1),
    ((2, 10, 10), 4, (1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((1, 11, 12), 3, (7, 7), (2, 2), (3, 3), (1, 1), 1),
    ((2, 9, 9), 4, (3, 3), (1, 1), (2, 2), (2, 2), 1),
    ((2, 12, 9), 4, (3, 2), (3, 2), (1, 2), (2, 3), 1),
    ((4, 6, 6), 6, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    ((4, 7, 7), 8, (3, 3), (2, 2), (1, 1), (1, 1), 4),
    ((2, 5, 4), 3, (5, 4), (1, 1), (0, 0), (1, 1), 1),
    ((2, 5, 5), 3, (3, 3), (4, 4), (0, 0), (1, 1), 1),
]


def one_layer(
    shape: tuple[int, int, int], link: Connection, out: tuple[int, int, int]
) -> IntegerNet:
    node = Node("node", out, Neuron(), np.zeros(out[0], int), (link,), sum_bound=30_000)
    return IntegerNet(shape, (node,), 1, timesteps=3)


def sparse_weights(rng: np.random.Generator, *size: int) -> np.ndarray:
    return 2 * rng.integers(-9, 10, size) * (rng.random(size) < 0.7)


def spikes(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Two samples of three timesteps: busy, none, sparse."""
    rate = np.array([0.6, 0.0, 0.1])
    return (rng.random((2, *shape, 3)) < rate).astype(np.uint8)


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "stride", "padding", "dilation", "groups"), CONVOLUTIONS
)
def test_convolutions(
    kind: str, shape: tuple[int, int, int], out: int, kernel: tuple[int, int],
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(5)
    per = (out, shape[0] // groups) if kind == "conv" else (shape[0], out // groups)
    more = tuple(s - 1 for s in stride) if kind == "conv_transpose" else (0, 0)
    weight = sparse_weights(rng, *per, *kernel)
    link = Connection("input", kind, weight, 1, stride, padding, dilation, more, groups)  # type: ignore[arg-type]
    target = link.output_shape(shape)
    assert target is not None
    every, nonzero = check(one_layer(shape, link, target), spikes(rng, shape))
    assert every > nonzero > 0


@pytest.mark.parametrize(("shape", "out"), [((3, 4, 5), 7), ((1, 1, 1), 3), ((200, 1, 1), 11)])
def test_dense_layers(shape: tuple[int, int, int], out: int) -> None:
    rng = np.random.default_rng(6)
    link = Connection("input", "dense", sparse_weights(rng, out, int(np.prod(shape))))
    busy = spikes(rng, shape)
    every, _ = check(one_layer(shape, link, (out, 1, 1)), busy)
    assert every == out * busy.sum()


def test_identities() -> None:
    rng = np.random.default_rng(7)
    for weight, exist in ((6, 1), (0, 0)):
        link = Connection("input", "identity", np.array(weight))
        busy = spikes(rng, (3, 4, 5))
        every, nonzero = check(one_layer((3, 4, 5), link, (3, 4, 5)), busy)
        assert (every, nonzero) == (busy.sum(), busy.sum() * exist)
