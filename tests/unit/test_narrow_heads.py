"""A network may be narrower up to a split point; files from before know nothing of it."""

import numpy as np
import pytest
import torch

from neucodex_lava.config import (
    BottleneckConfig,
    ResNetConfig,
    VGGConfig,
    architecture,
    from_dict,
    to_dict,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.quantize import to_integer_net


def channels(name: str, **options: float) -> dict[str, int]:
    model = build_base(architecture(name, **options), (3, 32, 32), 10, 2)  # type: ignore[arg-type]
    return {block.name: block.shape[0] for block in model.block_list()}


def test_only_the_head_of_a_resnet_is_narrower() -> None:
    found = channels("resnet18", width=0.25, head=3, head_width=0.5)
    plain = channels("resnet18", width=0.25)
    assert found["stem"] == found["block1_out"] == found["block2_mid"] == 8
    assert found["block3_mid"] == found["block3_out"] == 16
    assert {k: v for k, v in found.items() if found[k] != plain[k]}.keys() == {
        "stem", *(f"block{i}_{part}" for i in (1, 2, 3) for part in ("mid", "out")),
    }  # fmt: skip


def test_only_the_head_of_a_vgg_is_narrower() -> None:
    found = channels("vgg16", width=0.25, head=4, head_width=0.5)
    plain = channels("vgg16", width=0.25)
    assert [found[f"conv{i}"] for i in range(1, 6)] == [8, 8, 16, 16, 64]
    assert plain["conv4"] == 32


def test_a_narrow_head_is_the_same_network_in_integers_and_in_slayer() -> None:
    torch.manual_seed(0)
    config = ResNetConfig("t", widths=(8, 16), blocks=(2, 1), head=1, head_width=0.5)
    model = insert_bottleneck(build_base(config, (1, 8, 8), 10, 2), BottleneckConfig(1, 2, 2))
    x = (torch.rand(2, 8, 1, 8, 8) < 0.5).float()
    model.train()(x)
    model.eval().quantise(x)
    assert to_integer_net(model).shape_of("block1_out")[0] == 4
    assert to_integer_net(model).shape_of("block2_out")[0] == 8
    spikes = model.run_slayer(x.permute(1, 2, 3, 4, 0).numpy().astype(np.uint8)).spikes
    _, values = model.run(x)
    for name in ("block1_out", "encoder", "decoder", "block2_out", "block3_out"):
        found = values[name].detach().permute(1, 2, 3, 4, 0).numpy()
        np.testing.assert_array_equal(found, spikes[name])


def test_names_say_the_head_and_old_files_load() -> None:
    config = architecture("vgg16", 0.5, 4, 0.5)
    assert config.architecture == "vgg16-w0.5-h0.5sp4"
    assert architecture("resnet18", 0.5).architecture == "resnet18-w0.5"
    assert from_dict(VGGConfig, to_dict(config)) == config
    old = to_dict(architecture("resnet18"))
    del old["head"], old["head_width"]
    assert from_dict(ResNetConfig, old) == architecture("resnet18")


def test_a_head_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="head SP9 does not exist, the last is SP8"):
        architecture("resnet18", head=9, head_width=0.5)
    with pytest.raises(ConfigError, match=r"head width 0\.5 of no head"):
        architecture("resnet18", head_width=0.5)
    with pytest.raises(ConfigError, match=r"head width 0 is outside"):
        architecture("resnet18", head=1, head_width=0)
    with pytest.raises(ConfigError, match=r"the head up to SP1 is as wide as the rest"):
        architecture("resnet18", head=1)
