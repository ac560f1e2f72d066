"""NetX files that lava-dl wrote: chains of conv, dense and flatten layers.

What an IntegerNet cannot hold, or what lava-dl itself reads in another sense than it was written
(delays of convolutions, `weight_exp`, refractory delays), is refused by name.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.netx.hdf5 import CheckedGroup
from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import (
    INPUT,
    Connection,
    ConnectionKind,
    IntegerNet,
    Neuron,
    Node,
    Shape,
)
from neucodex_lava.structure import GEOMETRY_LIMIT, NEURONS_LIMIT, NODES_LIMIT

NEURON_TYPES = ("CUBA", "LOIHI")
MUST_BE_ZERO = ("wgtExp", "weight_exp", "messageBits", "gradedSpike")
"""Neuron settings that an IntegerNet has no room for, and lava-dl partly ignores."""


def read_foreign(
    layers: CheckedGroup,
    count: int,
    timesteps: int | None,
    input_shape: Shape | None,
    skip_layers: int,
) -> IntegerNet:
    """An IntegerNet from the layers of a file that lava-dl wrote; see `read_netx`."""
    if timesteps is None:
        raise FormatError(
            f"{layers.where}: a file of lava-dl does not say how many timesteps it runs",
            "pass timesteps",
        )
    if count > NODES_LIMIT:
        raise FormatError(f"{layers.where}: {count} layers, the limit is {NODES_LIMIT}")
    shape = input_shape
    nodes: list[Node] = []
    flattened = False
    first_shape: Shape | None = None
    for i in range(count):
        layer = layers.inside(str(i))
        kind = layer.word("type")
        if kind == "input":
            if i > 0:
                raise FormatError(f"{layer.where}: an input layer must be the first")
            if layer.has("neuron") and skip_layers < 1:
                raise FormatError(
                    f"{layer.where}: the input layer has neurons of its own, which encode the"
                    " input and have no place in an IntegerNet",
                    "pass skip_layers=1 and feed the spikes behind it",
                )
            shape = _shape(layer)
        elif kind == "flatten":
            flattened = True
        elif kind in ("conv", "dense"):
            if i < skip_layers:
                shape = _shape(layer)
                continue
            if shape is None:
                shape = _guess_input(layer, kind)
            if kind == "dense" and not flattened and shape[1:] != (1, 1):
                raise FormatError(f"{layer.where}: a dense layer after {shape} needs a flatten")
            first_shape = first_shape or shape
            source = nodes[-1].name if nodes else INPUT
            nodes.append(_node(layer, f"{kind}{i}", cast("ConnectionKind", kind), source, shape))
            shape = nodes[-1].shape
            flattened = False
        else:
            raise FormatError(
                f"{layer.where}: layers of type '{kind[:40]}' are not supported",
                "conv, dense, flatten and input are",
            )
    if first_shape is None or flattened:
        raise FormatError(f"{layers.where}: no conv or dense layer, or none after a flatten")
    return IntegerNet(first_shape, tuple(nodes), cut=len(nodes), timesteps=timesteps)


def _node(
    layer: CheckedGroup, name: str, kind: ConnectionKind, source: str, source_shape: Shape
) -> Node:
    _refuse_what_we_cannot_hold(layer)
    shape = _shape(layer)
    if kind == "dense":
        shape = (shape[0] * shape[1] * shape[2], 1, 1)
        weight = _dense_weight(layer, shape[0])
        connection = _connection(layer, source, kind, weight)
    else:
        connection = _connection(
            layer,
            source,
            kind,
            _conv_weight(layer),
            stride=_pair(layer, "stride", 1),
            padding=_pair(layer, "padding", 0),
            dilation=_pair(layer, "dilation", 1),
            groups=_in_range(layer, "groups", layer.integer("groups"), 1, NEURONS_LIMIT),
        )
    connection.check_against(source_shape, shape, layer.where)
    if layer.has("bias"):
        bias = layer.numbers("bias").reshape(-1)
    else:
        bias = np.zeros(shape[0], np.int64)
    return Node(name, shape, _neuron(layer), cast("NDArray[np.int32]", bias), (connection,))


def _connection(
    layer: CheckedGroup,
    source: str,
    kind: ConnectionKind,
    weight: NDArray[np.int64],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Connection:
    if not weight.size:
        raise FormatError(f"{layer.where}: has no weights")
    try:
        return Connection(
            source,
            kind,
            cast("NDArray[np.int16]", weight),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
    except NetError as problem:
        raise NetError(f"{layer.where}: {problem.message}", problem.hint) from problem


def _refuse_what_we_cannot_hold(layer: CheckedGroup) -> None:
    for key in ("weight_rec", "neuron"):
        if layer.has(key) == (key == "weight_rec"):
            what = "is recurrent" if key == "weight_rec" else "has no neuron (an affine block)"
            raise FormatError(f"{layer.where}: the layer {what}, which is not supported")
    if layer.has("delay") and layer.numbers("delay").any():
        raise FormatError(f"{layer.where}: the layer has delays, which are not supported")


def _neuron(layer: CheckedGroup) -> Neuron:
    group = layer.inside("neuron")
    kind = group.word("type")
    if kind not in NEURON_TYPES:
        raise FormatError(
            f"{group.where}: neurons of type '{kind[:40]}' are not supported", "CUBA is"
        )
    for key in MUST_BE_ZERO:
        if group.has(key) and group.integer(key):
            raise FormatError(f"{group.where}: '{key}' is set, which is not supported")
    if group.has("refDelay") and group.integer("refDelay") != 1:
        raise FormatError(f"{group.where}: refractory delays other than 1 are not supported")
    return Neuron(*(group.integer(key) for key in ("iDecay", "vDecay", "vThMant")))


def _guess_input(layer: CheckedGroup, kind: str) -> Shape:
    """The input's shape where a file has no input layer: only a dense layer gives it away."""
    if kind == "dense" and layer.has("inFeatures"):
        features = layer.integer("inFeatures")
        return (_in_range(layer, "inFeatures", features, 1, NEURONS_LIMIT), 1, 1)
    raise FormatError(
        f"{layer.where}: the file does not say the shape of its input", "pass input_shape"
    )


def _shape(layer: CheckedGroup) -> Shape:
    sizes = [int(n) for n in layer.numbers("shape").reshape(-1)]
    if len(sizes) == 1:
        sizes += [1, 1]
    if len(sizes) != 3 or min(sizes) < 1 or max(sizes) > NEURONS_LIMIT:
        raise FormatError(f"{layer.where}: shape {sizes[:8]} is not (C, H, W) or (n,)")
    if sizes[0] * sizes[1] * sizes[2] > NEURONS_LIMIT:
        raise FormatError(f"{layer.where}: shape {sizes} exceeds {NEURONS_LIMIT} neurons")
    return sizes[0], sizes[1], sizes[2]


def _dense_weight(layer: CheckedGroup, rows: int) -> NDArray[np.int64]:
    weight = layer.numbers("weight")
    if weight.ndim != 2:
        if weight.size % rows:
            raise FormatError(f"{layer.where}: {weight.size} weights for {rows} neurons")
        weight = weight.reshape(rows, -1)
    return weight


def _conv_weight(layer: CheckedGroup) -> NDArray[np.int64]:
    weight = layer.numbers("weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4:
        raise FormatError(f"{layer.where}: conv weights have shape {weight.shape}")
    return weight


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
