"""A quantised SplitModel is one network in four forms: fast path, SLAYER, IntegerNet, executor."""

import numpy as np
import pytest
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import RESNETS, BottleneckConfig, ResNetConfig
from neucodex_lava.errors import ConfigError, NetError
from neucodex_lava.integer_net import THRESHOLD_MAX, IntegerNet
from neucodex_lava.models.backbones.resnet import build_resnet
from neucodex_lava.models.blocks import largest_even_mantissa
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import split_power, to_integer_net

TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(2, 1))
SIZE = (2, 8, 8)


def trained(bottleneck: BottleneckConfig | None, bits: int = 1, timesteps: int = 3) -> SplitModel:
    """A model with calibrated batch norms and a lively firing rate, in its integer phase."""
    torch.manual_seed(5)
    model = build_resnet(TINY, SIZE, 5, timesteps, bits)
    if bottleneck:
        model = insert_bottleneck(model, bottleneck)
    for block in model.block_list():
        for link in block.links():
            if link.bn is not None:
                link.bn.momentum = None
                torch.nn.init.uniform_(link.bn.bias, 0.2, 1.0)
    model.train()
    for seed in range(3):
        model(inputs(bits, timesteps, seed, samples=32)[0])
    model.quantise()
    return model.eval()


def inputs(
    bits: int, timesteps: int, seed: int, samples: int = 4
) -> tuple[torch.Tensor, np.ndarray]:
    """The same input as (T, N, C, H, W) float and (N, C, H, W, T) uint8."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2**bits, (samples, *SIZE, timesteps)).astype(np.uint8)
    return torch.from_numpy(np.moveaxis(x, -1, 0).copy()).float(), x


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize(
    "bottleneck",
    [
        None,
        BottleneckConfig(1, 2, 1, 3),
        BottleneckConfig(2, 3, 2, 3),
        BottleneckConfig(3, 2, 4, 5),
        BottleneckConfig(2, 1, 1, 1),
    ],
)
def test_four_forms_agree(bottleneck: BottleneckConfig | None, bits: int) -> None:
    model = trained(bottleneck, bits)
    net = to_integer_net(model)
    x, spikes_in = inputs(bits, 3, seed=9)
    run = model.run_slayer(spikes_in)
    slayer, sums = run.spikes, run.sums
    twin = run_twin(Executor(net), spikes_in, record=True)
    assert twin.spikes is not None
    assert twin.sums is not None
    for node in net.nodes[:-1]:
        np.testing.assert_array_equal(slayer[node.name], twin.spikes[node.name], err_msg=node.name)
        assert slayer[node.name].any(), f"{node.name} is silent: the comparison is empty"
    np.testing.assert_array_equal(sums, twin.sums)
    assert twin.potentials is not None
    for node in net.nodes:
        np.testing.assert_array_equal(run.potentials[node.name], twin.potentials[node.name])
    y = model(x).detach().numpy()
    steps = np.arange(1, 4)[:, None, None]
    np.testing.assert_allclose(
        y, np.moveaxis(sums, -1, 0) / (steps * model.readout.gain), rtol=1e-6
    )
    if bottleneck is not None:
        encoder = net.nodes[net.cut - 1]
        assert encoder.name == "encoder"
        side = {1: 8, 2: 8, 3: 4}[bottleneck.split] // bottleneck.stride
        assert net.code_shape == (bottleneck.channels, side, side)


def test_a_base_may_be_cut_after_every_block() -> None:
    model = trained(None)
    net = to_integer_net(model)
    assert net.cut == len(net.nodes)
    assert model.split_points == {1: 3, 2: 5, 3: 7}
    assert set(model.split_points.values()) <= set(net.legal_cuts())
    for cut in model.split_points.values():
        assert net.with_cut(cut).code_shape == net.nodes[cut - 1].shape


def test_gains_use_the_range_and_stay_in_it() -> None:
    net: IntegerNet = to_integer_net(trained(None))
    for node in net.nodes[:-1]:
        conv = [c for c in node.connections if c.kind == "conv"]
        assert max(int(np.abs(c.weight).max()) for c in conv) > 100
        assert node.neuron.threshold < THRESHOLD_MAX
    joins = [c for n in net.nodes for c in n.connections if c.kind == "identity"]
    assert joins
    for node in net.nodes:
        for c in node.connections:
            if c.kind == "identity":
                assert 2 * int(c.effective_weight()) == node.neuron.threshold


def pooled_readout(timesteps: int, measure: bool) -> tuple[SplitModel, np.ndarray]:
    """A readout that averages maps of 20x20: its worst case leaves it next to no weights."""
    torch.manual_seed(2)
    model = build_resnet(TINY, (2, 40, 40), 5, timesteps)
    x = np.random.default_rng(4).integers(0, 2, (2, 2, 40, 40, timesteps)).astype(np.uint8)
    batch = torch.from_numpy(np.moveaxis(x, -1, 0).copy()).float()
    for _ in range(20):
        model(batch)
    model.quantise(batch if measure else None)
    return model.eval(), x


def test_a_readout_that_cannot_rest_on_the_worst_case_rests_on_measured_sums() -> None:
    worst, _ = pooled_readout(8, measure=False)
    model, x = pooled_readout(8, measure=True)
    coarse, net = to_integer_net(worst), to_integer_net(model)
    assert coarse.nodes[-1].sum_bound is None
    assert int(np.abs(coarse.nodes[-1].connections[0].weight).max()) < 64
    assert model.readout.gain > 2 * worst.readout.gain
    bias = int(np.abs(net.nodes[-1].bias).max())
    assert net.nodes[-1].sum_bound == 131_071 // 8 - bias
    assert all(node.sum_bound is None for node in net.nodes[:-1])
    run, twin = model.run_slayer(x), run_twin(Executor(net), x)
    np.testing.assert_array_equal(run.sums, twin.sums)
    assert 131_071 / 8 < np.abs(run.sums).max() < 131_071 / 3, "a margin of four, times 0.9"


def test_a_readout_without_weights_is_refused() -> None:
    with pytest.raises(NetError, match="sums over 400 timesteps leave it weights of at most"):
        pooled_readout(400, measure=False)


@pytest.mark.parametrize("limit", [2.0, 3.9, 253.9, 254, 255.9, 256, 300.4, 840.0, 12_345.6])
def test_identity_weights_are_the_largest_that_fit(limit: float) -> None:
    value = largest_even_mantissa(limit)
    mantissa, exponent = split_power(value)
    assert mantissa << exponent == value <= limit
    candidates = [w << e for e in range(8) for w in range(2, 255, 2) if w << e <= limit]
    assert value == max(candidates)


def test_bad_split_points_and_strides() -> None:
    base = build_resnet(RESNETS["resnet-small"], (1, 8, 8), 10, 2)
    with pytest.raises(ConfigError, match="SP4 is not a split point"):
        insert_bottleneck(base, BottleneckConfig(4, 1))
    with pytest.raises(ConfigError, match="stride 4 does not divide the 2x2 map at SP3"):
        insert_bottleneck(base, BottleneckConfig(3, 1, 4, 5))
    with pytest.raises(ConfigError, match="C' is 0"):
        BottleneckConfig(1, 0)
    with pytest.raises(ConfigError, match="cannot halve a map of 1x1"):
        build_resnet(RESNETS["resnet18"], (3, 1, 1), 10, 2)
