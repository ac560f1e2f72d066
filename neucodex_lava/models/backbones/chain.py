"""Small spiking networks as chains: MLP, LeNet-5, AlexNet for 32x32, SNNCutoff's VGGSNN.

Every layer is its synapses, batch norm and LIF. Nothing is pooled: a convolution of stride 2 stands
where the original has pooling beside it, so that the map sizes of the layers behind are the
original's. The readout sees every neuron of the last layer. SPi lies after layer i.
"""

from __future__ import annotations

from neucodex_lava.config import ChainConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT, Shape
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import Synapses


def build_chain(
    config: ChainConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights.

    Args:
        config: convolutions and dense layers.
        input_shape: (C, H, W).
        classes: outputs of the readout.
        timesteps: T_max.
        input_bits: 1 for spikes, b for graded input.

    Raises:
        ConfigError: the input is too small for the network's strides.
    """
    source, shape = INPUT, input_shape
    blocks: list[SpikingBlock] = []

    def add(name: str, synapses: Synapses) -> None:
        nonlocal source, shape
        blocks.append(SpikingBlock(name, [synapses]))
        source, shape = name, blocks[-1].shape

    for number, layer in enumerate(config.maps, 1):
        if min(shape[1:]) < layer.stride:
            raise ConfigError(
                f"{config.architecture}: convolution {number} cannot divide a map of"
                f" {shape[1]}x{shape[2]} by {layer.stride}",
                "use larger images",
            )
        conv = Synapses(
            source, "conv", shape, layer.channels, kernel=layer.kernel, stride=layer.stride
        )
        add(f"conv{number}", conv)
    for number, neurons in enumerate(config.hidden, 1):
        add(f"dense{number}", Synapses(source, "dense", shape, neurons))
    readout = Synapses(source, "dense", shape, classes, norm=False)
    split_points = {i: i for i in range(1, len(blocks) + 1)}
    blocks.append(SpikingBlock("readout", [readout], readout=True, timesteps=timesteps))
    return SplitModel(input_shape, blocks, split_points, timesteps, input_bits)
