"""Spiking VGGs by stages, widths and convolutions; VGG-16 is one configuration.

Every convolution is conv-BN-LIF. Nothing is pooled on the way: the last convolution of each stage has
stride 2 in place of the max pooling behind it, so that VGG-16 goes from 32x32 down to 1x1. The readout
averages what is left, as the ResNet's does. SPi lies after convolution i.
"""

from __future__ import annotations

from neucodex_lava.config import VGGConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT, Shape
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import Synapses


def build_vgg(
    config: VGGConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights.

    Args:
        config: stages, widths, convolutions.
        input_shape: (C, H, W).
        classes: outputs of the readout.
        timesteps: T_max.
        input_bits: 1 for spikes, b for graded input.

    Raises:
        ConfigError: the input is too small for the network's strides.
    """
    source, shape = INPUT, input_shape
    blocks: list[SpikingBlock] = []
    split_points: dict[int, int] = {}
    for stage_width, count in zip(config.widths, config.convolutions):
        for i in range(count):
            number = len(blocks) + 1
            width = config.width_of(number, stage_width)
            halves = i == count - 1
            stride = (2 if halves else 1) * (config.stem_stride if number == 1 else 1)
            if min(shape[1:]) < stride:
                raise ConfigError(
                    f"{config.architecture}: convolution {number} cannot halve a map of"
                    f" {shape[1]}x{shape[2]}",
                    "use fewer stages or larger images",
                )
            block = SpikingBlock(
                f"conv{number}", [Synapses(source, "conv", shape, width, stride=stride)]
            )
            blocks.append(block)
            source, shape = block.name, block.shape
            split_points[number] = number
    readout = Synapses(source, "dense", shape, classes, norm=False, pooled=True)
    blocks.append(SpikingBlock("readout", [readout], readout=True, timesteps=timesteps))
    return SplitModel(input_shape, blocks, split_points, timesteps, input_bits)
