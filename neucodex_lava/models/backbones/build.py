"""A base network of any configured architecture."""

from __future__ import annotations

from neucodex_lava.config import ModelConfig, ResNetConfig
from neucodex_lava.config.own import OwnConfig
from neucodex_lava.integer_net import Shape
from neucodex_lava.models.backbones.resnet import build_resnet
from neucodex_lava.models.backbones.vgg import build_vgg
from neucodex_lava.models.own import build_own
from neucodex_lava.models.split import SplitModel


def build_base(
    config: ModelConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights; arguments and errors are its backbone's."""
    if isinstance(config, ResNetConfig):
        return build_resnet(config, input_shape, classes, timesteps, input_bits)
    if isinstance(config, OwnConfig):
        return build_own(config, input_shape, classes, timesteps, input_bits)
    return build_vgg(config, input_shape, classes, timesteps, input_bits)
