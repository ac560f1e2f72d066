"""A spiking VGG: its shapes, its split points, and one network in all four forms."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import (
    ARCHITECTURES,
    BottleneckConfig,
    DataConfig,
    ResNetConfig,
    TrainConfig,
    VGGConfig,
    architecture,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Shape
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.runs import load_model, read_run
from neucodex_lava.training.stages import train_base

TINY = VGGConfig("tiny-vgg", widths=(4, 8), convolutions=(2, 2))


def test_vgg16_goes_down_to_one_position() -> None:
    model = build_base(architecture("vgg16"), (3, 32, 32), 10, 2)
    shapes = [block.shape for block in model.block_list()]
    assert [s[0] for s in shapes[:-1]] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [s[1] for s in shapes] == [32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1]
    assert model.split_points == {i: i for i in range(1, 14)}
    assert architecture("vgg16").split_points == 13


@pytest.mark.parametrize(
    ("name", "input_shape", "stem_stride", "last"),
    [
        ("resnet18", (3, 32, 32), 1, (512, 4, 4)),
        ("resnet18", (2, 128, 128), 2, (512, 8, 8)),
        ("resnet18", (3, 224, 224), 4, (512, 7, 7)),
        ("vgg16", (2, 128, 128), 1, (512, 4, 4)),
        ("vgg16", (3, 224, 224), 4, (512, 2, 2)),
        ("vgg16", (3, 28, 28), 1, (512, 1, 1)),
    ],
)
def test_full_width_takes_all_inputs(
    name: str, input_shape: Shape, stem_stride: int, last: Shape
) -> None:
    base = ARCHITECTURES[name]
    kind = type(base)
    sizes = base.blocks if isinstance(base, ResNetConfig) else base.convolutions
    config = kind(name, base.widths, sizes, stem_stride)
    blocks = build_base(config, input_shape, 10, 8).block_list()
    assert blocks[-2].shape == last


def test_an_input_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="convolution 10 cannot halve a map of 1x1"):
        build_base(architecture("vgg16"), (1, 8, 8), 10, 2)


@pytest.mark.parametrize("split", [0, 1, 2, 3, 4])
def test_four_forms_agree(split: int) -> None:
    torch.manual_seed(3)
    model = build_base(TINY, (2, 8, 8), 5, 3)
    if split:
        model = insert_bottleneck(model, BottleneckConfig(split, 2, 1))
    for block in model.block_list():
        for link in block.links():
            if link.bn is not None:
                torch.nn.init.constant_(link.bn.bias, 0.8)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (8, 2, 8, 8, 3)).astype(np.uint8)
    for _ in range(20):
        model(torch.from_numpy(np.moveaxis(x, -1, 0).copy()).float())
    model.quantise()
    net = to_integer_net(model.eval())
    run, twin = model.run_slayer(x), run_twin(Executor(net), x, record=True)
    assert twin.spikes is not None
    for node in net.nodes[:-1]:
        np.testing.assert_array_equal(run.spikes[node.name], twin.spikes[node.name])
        assert 0.02 < run.spikes[node.name].mean() < 0.9, node.name
    np.testing.assert_array_equal(run.sums, twin.sums)
    assert net.cut == (split + 1 if split else 5)


def test_a_vgg_trains_and_is_read_back(tmp_path: Path) -> None:
    data, train = DataConfig(timesteps=2, train_limit=64), TrainConfig(1, 1, 32, threads=1)
    done = train_base(tmp_path / "base", TINY, data, train)
    assert read_run(tmp_path / "base") == done
    assert done.model == TINY
    _, model = load_model(tmp_path / "base")
    assert [n.name for n in to_integer_net(model).nodes] == [
        "conv1", "conv2", "conv3", "conv4", "readout",
    ]  # fmt: skip
    other = ResNetConfig("tiny-vgg", widths=(4, 8), blocks=(2, 2))
    with pytest.raises(ConfigError, match="another configuration"):
        train_base(tmp_path / "base", other, data, train)


def test_architectures_by_name_and_width() -> None:
    assert architecture("vgg16", 0.25).widths == (16, 32, 64, 128, 128)
    assert architecture("vgg16", 0.25).architecture == "vgg16-w0.25"
    with pytest.raises(ConfigError, match="unknown architecture 'vgg19'"):
        architecture("vgg19")
    with pytest.raises(ConfigError, match="2 widths for 1 stages"):
        VGGConfig("x", (4, 8), (1,))
