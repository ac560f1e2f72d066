"""The door out of the training wing: a trained SplitModel becomes an IntegerNet."""

from __future__ import annotations

import numpy as np
import torch

from neucodex_lava.integer_net import (
    EXPONENT_MAX,
    READOUT,
    WEIGHT_MAX,
    Connection,
    IntegerNet,
    Neuron,
    Node,
)
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.own import OwnBlock, OwnSynapses
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import Synapses
from neucodex_lava.watched import watched


def to_integer_net(model: SplitModel) -> IntegerNet:
    """The whole network in integers, with the model's cut.

    Args:
        model: in its integer phase; its gains are ``model.gains``.

    Raises:
        NetError: a limit of the hardware is broken; names the node, the limit and the value.
    """
    assert model.integer, "quantise the model first"
    with torch.no_grad():
        nodes = tuple(_node(block, model.input_bits) for block in model.block_list())
    return IntegerNet(model.input_shape, nodes, model.cut, model.timesteps, model.input_bits)


def _node(block: SpikingBlock, input_bits: int) -> Node:
    neuron = READOUT
    if not block.readout:
        assert block.soft or float(block.threshold) == 2 * block.gain, "half an integer threshold"
        slayer = block.neuron
        decays = int(slayer.cx_current_decay), int(slayer.cx_voltage_decay)
        reset = "subtract" if block.soft else "zero"
        neuron = Neuron(*decays, int(block.threshold), reset, int(block.initial))
    bias = block.integer_bias().cpu().numpy().astype(np.int32)
    links = tuple(_connection(block, link) for link in block.links())
    node = Node(block.name, block.shape, neuron, bias, links)
    # A pooled readout of large maps: its gain left measured sums a margin, every run is checked. So it
    # is for slow neurons of a network that is not ours, or converted.
    may_exceed = block.readout or block.converted is not None or isinstance(block, OwnBlock)
    steps = block.converted.timesteps if block.converted else block.timesteps
    return watched(node, input_bits, steps) if may_exceed else node


def _connection(block: SpikingBlock, link: Synapses) -> Connection:
    weight = block.integer_weights(link).cpu().numpy()
    integers = np.rint(weight).astype(np.int64)
    assert np.array_equal(integers, weight), "the quantiser gives integers"
    if link.kind == "identity":
        mantissa, exponent = split_power(int(integers))
        return Connection(link.source, "identity", np.int16(mantissa), exponent)  # type: ignore[arg-type]
    delay = link.integer_delay() if isinstance(link, OwnSynapses) else np.zeros((), np.uint8)
    if link.kind == "dense":
        spread = link.spread(torch.from_numpy(integers)).numpy().astype(np.int16)
        return Connection(link.source, "dense", spread, delay=delay)
    synapse = link.synapse
    return Connection(
        link.source,
        link.kind,
        integers[..., 0].astype(np.int16),
        stride=synapse.stride[:2],
        padding=synapse.padding[:2],
        dilation=synapse.dilation[:2],
        output_padding=synapse.output_padding[:2],
        groups=synapse.groups,
        delay=delay,
    )


def split_power(value: int) -> tuple[int, int]:
    """An identity's weight as (even mantissa <= 254, exponent), value = mantissa * 2^exponent."""
    exponent = 0
    while value >> exponent > WEIGHT_MAX or (value >> exponent) & 1:
        exponent += 1
        if exponent > EXPONENT_MAX:
            raise ValueError(f"{value} is no even 8-bit weight times a power of two")
    assert (value >> exponent) << exponent == value
    return value >> exponent, exponent
