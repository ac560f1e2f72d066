"""A base network of any configured architecture."""

from __future__ import annotations

from neucodex_lava.config import ChainConfig, ModelConfig, ResNetConfig
from neucodex_lava.config.own import OwnConfig
from neucodex_lava.integer_net import Shape
from neucodex_lava.models.backbones.chain import build_chain
from neucodex_lava.models.backbones.resnet import build_resnet
from neucodex_lava.models.backbones.vgg import build_vgg
from neucodex_lava.models.exit_heads import with_exit_heads
from neucodex_lava.models.own import build_own
from neucodex_lava.models.split import SplitModel


def build_base(
    config: ModelConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights; arguments and errors are its backbone's."""
    size = input_shape, classes, timesteps, input_bits
    if isinstance(config, OwnConfig):
        return build_own(config, *size)
    if isinstance(config, ResNetConfig):
        model = build_resnet(config, *size)
    elif isinstance(config, ChainConfig):
        model = build_chain(config, *size)
    else:
        model = build_vgg(config, *size)
    return with_exit_heads(model, config.exit_heads)
