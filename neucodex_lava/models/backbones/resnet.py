"""Spiking ResNets by stages, widths and blocks; ResNet-18 is one configuration, the demo's another.

A residual block is conv-BN-LIF, then conv-BN and the shortcut summed into the membrane of one LIF:
a join by membrane current. SPi lies after residual block i.
"""

from __future__ import annotations

from neucodex_lava.config import ResNetConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT, Shape
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import Synapses


def build_resnet(
    config: ResNetConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights.

    Args:
        config: stages, widths, blocks.
        input_shape: (C, H, W).
        classes: outputs of the readout.
        timesteps: T_max.
        input_bits: 1 for spikes, b for graded input.

    Raises:
        ConfigError: the input is too small for the network's strides.
    """
    channels = config.width_of(0, config.widths[0])
    stem = Synapses(INPUT, "conv", input_shape, channels, stride=config.stem_stride)
    blocks = [SpikingBlock("stem", [stem])]
    source, shape = "stem", blocks[0].shape
    split_points: dict[int, int] = {}
    number = 0
    for stage, (stage_width, count) in enumerate(zip(config.widths, config.blocks)):
        for i in range(count):
            number += 1
            width = config.width_of(number, stage_width)
            stride = 2 if stage > 0 and i == 0 else 1
            if min(shape[1:]) < stride:
                raise ConfigError(
                    f"{config.architecture}: block {number} cannot halve a map of"
                    f" {shape[1]}x{shape[2]}",
                    "use fewer stages or larger images",
                )
            mid = SpikingBlock(
                f"block{number}_mid", [Synapses(source, "conv", shape, width, stride=stride)]
            )
            body = Synapses(mid.name, "conv", mid.shape, width)
            if stride == 1 and shape[0] == width:
                shortcut = Synapses(source, "identity", shape, width, norm=False)
            else:
                shortcut = Synapses(source, "conv", shape, width, kernel=1, stride=stride)
            out = SpikingBlock(f"block{number}_out", [body, shortcut])
            blocks += [mid, out]
            source, shape = out.name, out.shape
            split_points[number] = len(blocks)
    readout = Synapses(source, "dense", shape, classes, norm=False, pooled=True)
    blocks.append(SpikingBlock("readout", [readout], readout=True, timesteps=timesteps))
    return SplitModel(input_shape, blocks, split_points, timesteps, input_bits)
