"""One layer of a NetX file that lava-dl wrote, as a node.

The integers are those that lava-dl's reader gives to Lava. What it would change on the way (delays
above 62, some dense weights without a positive one) is refused rather than repeated.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.connection import DELAY_MAX
from neucodex_lava.edge.netx.hdf5 import CheckedGroup
from neucodex_lava.edge.netx.layout import garbled_by_lava_dl
from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import (
    DECAY_ONE,
    EXPONENT_MAX,
    INPUT,
    READOUT,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    WEIGHT_MIN,
    Connection,
    ConnectionKind,
    Neuron,
    Node,
    Shape,
)
from neucodex_lava.structure import GEOMETRY_LIMIT, NEURONS_LIMIT

NEURON_TYPES = ("CUBA", "LOIHI")
INPUT_WEIGHT = 64
"""Weight of an input block that says none."""
CHANNELS_LIMIT = 1 << 20
"""Channels of an input block, each of which gets a bias from nothing in the file."""
MUST_BE_ZERO = {
    "weight_exp": "has a weight exponent, which lava-dl's own reader ignores",
    "wgtExp": "has a weight exponent, which lava-dl's own reader ignores",
    "gradedSpike": "sends graded spikes ('gradedSpike' is set), which lava-dl's own reader ignores",
    "messageBits": "sends graded spikes ('messageBits' is set)",
}
"""Neuron settings that an IntegerNet has no room for, and what they mean."""


def conv_or_dense(
    layer: CheckedGroup, name: str, kind: ConnectionKind, source: str, source_shape: Shape
) -> Node:
    """The node of a ``conv`` or ``dense`` layer behind `source`.

    Raises:
        FormatError, NetError: naming the layer and what it holds that cannot be expressed.
    """
    if layer.has("weight_rec"):
        raise FormatError(f"{layer.where}: the layer is recurrent, which is not supported")
    if not layer.has("neuron") and (kind != "dense" or layer.has("bias")):
        raise FormatError(f"{layer.where}: the layer has no neuron, which is not supported")
    shape = shape_of(layer, kind)
    weight = _weight(layer, kind, shape[0])
    if kind == "dense":
        if reason := garbled_by_lava_dl(weight):
            raise FormatError(f"{layer.where}: {reason}")
        connection = _checked(layer, source, kind, weight, delay=_dense_delay(layer, weight.shape))
    else:
        if layer.has("delay") and layer.numbers("delay").any():
            raise FormatError(
                f"{layer.where}: the convolution has delays, which lava-dl's own reader ignores"
            )
        connection = _checked(
            layer,
            source,
            kind,
            weight,
            stride=_pair(layer, "stride", 1),
            padding=_pair(layer, "padding", 0),
            dilation=_pair(layer, "dilation", 1),
            groups=_in_range(layer, "groups", layer.integer("groups"), 1, NEURONS_LIMIT),
        )
    connection.check_against(source_shape, shape, layer.where)
    bias = layer.numbers("bias").reshape(-1) if layer.has("bias") else np.zeros(1, np.int32)
    if bias.size not in (1, shape[0]):
        raise FormatError(
            f"{layer.where}: {bias.size} biases for {shape[0]} channels",
            "one for each channel is supported",
        )
    bias = np.resize(bias, shape[0])
    # An affine block: lava-dl's reader makes it an integrator that does not leak nor spike.
    neuron = _neuron(layer) if layer.has("neuron") else READOUT
    return Node(name, shape, neuron, bias, (connection,))


def input_block(layer: CheckedGroup, name: str, shape: Shape) -> Node:
    """The neurons of an ``input`` layer, which take graded values.

    In lava-dl the host writes ``weight * x + bias`` into their bias at each step, past their
    current. Here that is an identity connection, a bias, and a current without memory.

    Raises:
        FormatError, NetError: as `conv_or_dense`.
    """
    value = layer.integer("weight") if layer.has("weight") else INPUT_WEIGHT
    bias = layer.integer("bias") if layer.has("bias") else 0
    if shape[0] > CHANNELS_LIMIT:
        raise FormatError(f"{layer.where}: {shape[0]} channels, the limit is {CHANNELS_LIMIT}")
    exponent = 0
    while exponent < EXPONENT_MAX and not WEIGHT_MIN <= value <= WEIGHT_MAX and value % 4 == 0:
        value //= 2
        exponent += 1
    connection = _checked(layer, INPUT, "identity", np.array(value, np.int32), exponent=exponent)
    neuron = _neuron(layer)
    neuron = Neuron(DECAY_ONE, neuron.voltage_decay, neuron.threshold)
    biases = np.full(shape[0], bias, np.int32)
    return Node(name, shape, neuron, biases, (connection,))


def shape_of(layer: CheckedGroup, kind: str) -> Shape:
    """A layer's ``shape`` as (C, H, W): dense layers are flat, an input may be (n,) or (H, W)."""
    sizes = [int(n) for n in layer.numbers("shape").reshape(-1)]
    possible = {"conv": (3,), "dense": (1, 2, 3), "input": (1, 2, 3)}[kind]
    if len(sizes) not in possible or min(sizes) < 1 or max(sizes) > NEURONS_LIMIT:
        raise FormatError(f"{layer.where}: {sizes[:8]} is no shape of a layer of type {kind}")
    product = int(np.prod([float(n) for n in sizes]))
    if product > NEURONS_LIMIT:
        raise FormatError(f"{layer.where}: shape {sizes} exceeds {NEURONS_LIMIT} neurons")
    if kind == "dense" or len(sizes) == 1:
        return product, 1, 1
    if len(sizes) == 2:
        return 1, sizes[0], sizes[1]
    return sizes[0], sizes[1], sizes[2]


def features(layer: CheckedGroup) -> int:
    """Inputs of a dense layer."""
    return int(_weight(layer, "dense", shape_of(layer, "dense")[0]).shape[1])


def _checked(
    layer: CheckedGroup,
    source: str,
    kind: ConnectionKind,
    weight: NDArray[np.int32],
    **more: object,
) -> Connection:
    try:
        return Connection(source, kind, cast("NDArray[np.int16]", weight), **more)  # type: ignore[arg-type]
    except NetError as problem:
        raise NetError(f"{layer.where}: {problem.message}", problem.hint) from problem


def _neuron(layer: CheckedGroup) -> Neuron:
    group = layer.inside("neuron")
    kind = group.word("type")
    if kind not in NEURON_TYPES:
        raise FormatError(
            f"{group.where}: neurons of type '{kind[:40]}' are not supported", "CUBA is"
        )
    for key, meaning in MUST_BE_ZERO.items():
        if group.has(key) and group.numbers(key).any():
            raise FormatError(f"{group.where}: {meaning}")
    if group.has("refDelay") and group.integer("refDelay") != 1:
        raise FormatError(
            f"{group.where}: refractory delays other than 1 are ignored by lava-dl's own reader"
        )
    for key in ("iDecay", "vDecay"):
        if np.prod(group.shape_of(key)) != 1:
            raise FormatError(
                f"{group.where}: '{key}' differs by channel (shared_param=False), which is not"
                " supported"
            )
    neuron = Neuron(group.integer("iDecay"), group.integer("vDecay"), group.integer("vThMant"))
    if neuron.threshold > THRESHOLD_MAX:
        raise NetError(
            f"{group.where}: threshold {neuron.threshold} is outside [0, {THRESHOLD_MAX}]; neurons"
            " that never spike (an affine block with dynamics) are not supported"
        )
    return neuron


def _weight(layer: CheckedGroup, kind: str, rows: int) -> NDArray[np.int32]:
    if layer.is_group("weight"):
        raise FormatError(f"{layer.where}: the layer has complex weights, which are not supported")
    shape = layer.shape_of("weight")
    if 0 in shape:
        raise FormatError(f"{layer.where}: has no weights")
    fits = len(shape) == 4 or (len(shape) == 5 and shape[4] == 1)
    if kind == "conv" and not fits:
        raise FormatError(f"{layer.where}: conv weights have shape {shape}")
    weight = layer.numbers("weight")
    if kind == "conv":
        return weight.reshape(shape[:4])
    if weight.ndim != 2:
        if weight.size % rows:
            raise FormatError(f"{layer.where}: {weight.size} weights for {rows} neurons")
        weight = weight.reshape(rows, -1)
    return weight


def _dense_delay(layer: CheckedGroup, weights: tuple[int, ...]) -> NDArray[np.int32]:
    """Delays as a scalar, a column (per target neuron) or a row (per source neuron).

    Of one dimension they are the targets' where that fits, also in a square layer: so lava-dl
    reads them, although SLAYER meant its neurons' output.
    """
    if not layer.has("delay"):
        return np.zeros((), np.int32)
    delay = layer.numbers("delay")
    if not delay.size or delay.min() < 0 or delay.max() > DELAY_MAX:
        raise FormatError(
            f"{layer.where}: delays must be in [0, {DELAY_MAX}]; lava-dl's own reader clamps them"
        )
    if (delay == delay.flat[0]).all() and delay.shape in ((), weights):
        return delay.reshape(-1)[0]
    if delay.ndim == 1 and delay.size in weights:
        return delay.reshape((-1, 1) if delay.size == weights[0] else (1, -1))
    if delay.shape != weights:
        raise FormatError(f"{layer.where}: delays {delay.shape} do not fit weights {weights}")
    if (delay == delay[:, :1]).all():
        return delay[:, :1]
    if (delay == delay[:1]).all():
        return delay[:1]
    raise FormatError(
        f"{layer.where}: a delay of its own for each synapse is not supported",
        "one for each source neuron or one for each target neuron is",
    )


def _pair(layer: CheckedGroup, key: str, low: int) -> tuple[int, int]:
    values = [int(n) for n in layer.numbers(key).reshape(-1)]
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise FormatError(f"{layer.where}: '{key}' holds {len(values)} numbers, not two")
    y, x = (_in_range(layer, key, n, low, GEOMETRY_LIMIT) for n in values)
    return y, x


def _in_range(layer: CheckedGroup, key: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise FormatError(f"{layer.where}: '{key}' is {value}, outside [{low}, {high}]")
    return value
