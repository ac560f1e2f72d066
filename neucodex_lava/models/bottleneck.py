"""The learned spike bottleneck: Conv-BN-LIF encoder on the edge, ConvTranspose-BN-LIF decoder in
the cloud (NeuCODEX, arXiv 2509.19156, section III).
"""

from __future__ import annotations

from neucodex_lava.config import BottleneckConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Shape
from neucodex_lava.models.blocks import FLOAT_SCALE, SpikingBlock
from neucodex_lava.models.split import SplitModel, require_split_point
from neucodex_lava.models.synapses import FLOAT_THRESHOLD, Synapses

ENCODER, DECODER = "encoder", "decoder"


def insert_bottleneck(base: SplitModel, config: BottleneckConfig) -> SplitModel:
    """A copy of the base with encoder and decoder at a split point, back in the float phase.

    Args:
        base: trained network without a bottleneck.
        config: split point, C', stride and kernel.

    Raises:
        ConfigError: no such split point, or a stride that does not divide the map there.
    """
    cut = require_split_point(base, config.split)
    model = base.copy()
    blocks = model.block_list()
    last = model.sender(cut)
    channels, height, width = last.shape
    if height % config.stride or width % config.stride:
        raise ConfigError(
            f"bottleneck stride {config.stride} does not divide the {height}x{width} map at"
            f" SP{config.split}",
            "choose a stride that does",
        )
    encoder = SpikingBlock(
        ENCODER,
        [
            Synapses(
                last.name,
                "conv",
                last.shape,
                config.channels,
                kernel=config.kernel,
                stride=config.stride,
            )
        ],
    )
    decoder = SpikingBlock(
        DECODER,
        [
            Synapses(
                ENCODER,
                "conv_transpose",
                encoder.shape,
                channels,
                kernel=config.kernel,
                stride=config.stride,
            )
        ],
    )
    expected: Shape = last.shape
    assert decoder.shape == expected, (decoder.shape, expected)
    for block in blocks[cut:]:
        for link in block.links():
            if link.source == last.name:
                link.source = DECODER
    for block in blocks:
        block.gain = 0.0
        block.neuron = block._neuron(FLOAT_THRESHOLD, FLOAT_SCALE)  # pyright: ignore[reportPrivateUsage]
    return SplitModel(
        model.input_shape,
        [*blocks[:cut], encoder, decoder, *blocks[cut:]],
        model.split_points,
        model.timesteps,
        model.input_bits,
        cut=cut + 1,
        bottleneck=config,
    )
