"""Read a NetX file into an IntegerNet: one of ours, or a plain chain as lava-dl writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.netx.foreign import ForeignArguments, read_foreign
from neucodex_lava.edge.netx.hdf5 import CheckedGroup, open_hdf5
from neucodex_lava.edge.netx.layout import (
    EXTRA,
    FORMAT,
    FORMAT_VERSION,
    HALVED_SINCE,
    MARKER,
    STRUCTURE,
    layer_plan,
    node_fields,
    plain_layer_fields,
    top_level_keys,
    why_not_stock,
)
from neucodex_lava.errors import FormatError
from neucodex_lava.integer_net import IntegerNet, Neuron, Node, Shape
from neucodex_lava.json_fields import Fields
from neucodex_lava.structure import (
    NAME_LIMIT,
    NODES_LIMIT,
    STRUCTURE_LIMIT_BYTES,
    TIMESTEPS_LIMIT,
    nodes_from_json,
    shape_from_json,
)


def read_netx(
    path: Path | str,
    *,
    timesteps: int | None = None,
    input_shape: Shape | None = None,
    input_bits: int | None = None,
    skip_layers: int = 0,
    num_layers: int | None = None,
) -> IntegerNet:
    """Read a NetX file.

    A file of ours gives ``net.edge_part()`` of the net it was written from, whole and exact. For
    a file that lava-dl wrote, the arguments say what it does not.

    Args:
        path: the file.
        timesteps: T_max of a file of lava-dl; another one than our own file says.
        input_shape: (C, H, W) where a file of lava-dl has no input layer.
        input_bits: of the graded values that the input of a file of lava-dl takes; by default 8
            where an input layer has neurons of its own, else 1, spikes.
        skip_layers: leave out the first layers of a file of lava-dl, as in ``netx.hdf5.Network``;
            1 drops an input layer with neurons of its own.
        num_layers: stop after so many layers of a file of lava-dl, as there.

    Returns:
        A net that is cut after its last node.

    Raises:
        FormatError: when the file is not NetX, damaged, or holds what we cannot express.
        NetError: when the net breaks a rule of the semantics or a limit of the hardware.
    """
    with open_hdf5(Path(path)) as root:
        layers = root.inside("layer")
        names = layers.names(2 * NODES_LIMIT)
        if sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
            raise FormatError(f"{layers.where}: layers are not numbered from 0 on")
        if root.has(EXTRA):
            net = _read_own(root, layers, len(names))
            said = (net.input_shape, net.input_bits, 0, None)
            if (input_shape or said[0], input_bits or said[1], skip_layers, num_layers) != said:
                raise FormatError(
                    f"{path}: says its input and its layers itself: shape {said[0]}, {said[1]} bits"
                )
            return replace(net, timesteps=timesteps) if timesteps else net
        told = ForeignArguments(timesteps, input_shape, input_bits, skip_layers, num_layers)
        return read_foreign(layers, len(names), told)


def is_own(path: Path | str) -> bool:
    """Whether we wrote the NetX file, and not lava-dl.

    Raises:
        FormatError: when it is no HDF5.
    """
    with open_hdf5(Path(path)) as root:
        return root.has(EXTRA)


class _Layers:
    """The numbers of a file of ours, by node and connection."""

    def __init__(self, layers: CheckedGroup, index: tuple[int, ...], halved: bool) -> None:
        self._layers = layers
        self._index = index
        self._halved = halved

    def _layer(self, node: int) -> CheckedGroup:
        if node >= len(self._index):
            raise FormatError(f"{self._layers.where}: fewer layers than nodes")
        return self._layers.inside(str(self._index[node]))

    def _connection(self, node: int, connection: int) -> CheckedGroup:
        layer = self._layer(node)
        return layer.inside("connection").inside(str(connection)) if connection else layer

    def neuron(self, node: int) -> Neuron:
        group = self._layer(node).inside("neuron")
        return Neuron(group.integer("iDecay"), group.integer("vDecay"), group.integer("vThMant"))

    def bias(self, node: int, channels: int) -> NDArray[Any]:
        return _shaped(self._layer(node), "bias", (channels,))

    def exponent(self, node: int, connection: int) -> int:
        group = self._connection(node, connection)
        return group.integer("exponent") if group.has("exponent") else 0

    def weight(self, node: int, connection: int, shape: tuple[int, ...]) -> NDArray[Any]:
        stored = _shaped(self._connection(node, connection), "weight", shape)
        # Clipped, because a value that is no int8 must not wrap into a weight when it is doubled.
        return 2 * np.clip(stored, -(1 << 16), 1 << 16) if self._halved else stored


def _shaped(group: CheckedGroup, key: str, shape: tuple[int, ...]) -> NDArray[np.int32]:
    found = group.shape_of(key)
    if found != shape:
        raise FormatError(f"{group.where}/{key}: has shape {found}, expected {shape}")
    return group.numbers(key)


def _read_own(root: CheckedGroup, layers: CheckedGroup, count: int) -> IntegerNet:
    extra = root.inside(EXTRA)
    text = extra.text(STRUCTURE, STRUCTURE_LIMIT_BYTES)
    fields = Fields.parse(text, f"{extra.where}/{STRUCTURE}", STRUCTURE_LIMIT_BYTES)
    if fields.text("format") != FORMAT:
        raise fields.fail(f"'format' is not '{FORMAT}'")
    version = fields.integer("version", 1, 1 << 30)
    if version > FORMAT_VERSION:
        raise fields.fail(
            f"format version {version}, this program reads up to {FORMAT_VERSION}",
            "update neucodex-lava",
        )
    fields.only(
        "format", "version", "refused_by_lava_dl", "input_shape", "input_bits", "timesteps",
        "layers", "nodes", "end",
    )  # fmt: skip
    index = _layer_numbers(fields, count)
    halved = version >= HALVED_SINCE
    if halved and layers.inside("0").word("type") != MARKER:
        raise fields.fail(f"version {version} of a file that lava-dl would read, and misread")
    net = IntegerNet(
        shape_from_json(fields, "input_shape"),
        nodes := nodes_from_json(fields, _Layers(layers, index, halved)),
        cut=len(nodes),
        timesteps=fields.integer("timesteps", 1, TIMESTEPS_LIMIT),
        input_bits=fields.integer("input_bits", 1, 64),
        end=fields.text("end", NAME_LIMIT) if "end" in fields.values else "",
    )
    _check_layers(net, layers, index, count)
    return net


def _layer_numbers(fields: Fields, count: int) -> tuple[int, ...]:
    values: Any = fields.values.get("layers")
    if not isinstance(values, list) or not all(type(i) is int and 0 <= i < count for i in values):
        raise fields.fail(f"'layers' must be a list of layer numbers below {count}")
    return tuple(values)


def _check_layers(
    net: IntegerNet, layers: CheckedGroup, index: tuple[int, ...], count: int
) -> None:
    """The layers that lava-dl sees must say exactly what the structure says."""
    marked = layers.inside("0").word("type") == MARKER
    reason = why_not_stock(net)
    if reason and not marked:
        raise FormatError(
            f"{layers.where}: lava-dl would misread this file, since {reason}",
            "export the net again",
        )
    plan = layer_plan(net, marked)
    placed = tuple(i for i, item in enumerate(plan) if isinstance(item, Node))
    if len(plan) != count or placed != index:
        raise FormatError(f"{layers.where}: the layers do not match {EXTRA}/{STRUCTURE}")
    for i, item in enumerate(plan):
        layer = layers.inside(str(i))
        if isinstance(item, Node):
            fields = node_fields(net, item)
        else:
            fields = plain_layer_fields(item, net, plan[i + 1] if i + 1 < count else None)
        _check_group(layer, fields)


def _check_group(group: CheckedGroup, fields: dict[str, Any]) -> None:
    """Raise FormatError unless `group` holds these keys with these values and no others."""
    expected = set(top_level_keys(fields))
    for name in group.names(1000):
        if name not in expected:
            raise FormatError(f"{group.where}: unexpected '{name[:80]}'")
    nested: dict[str, dict[str, Any]] = {}
    for key, value in fields.items():
        first, _, rest = key.partition("/")
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            _check_value(group, key, value)
    for name, inner in nested.items():
        _check_group(group.inside(name), inner)


def _check_value(group: CheckedGroup, key: str, value: Any) -> None:
    if key == "type":
        word = value[0].decode("ascii")
        found = group.word(key)
        if found != word:
            raise FormatError(f"{group.where}: type is '{found[:40]}', expected '{word}'")
    elif key in ("weight", "bias"):
        return  # the net was made from these
    elif not np.array_equal(group.numbers(key), value):
        raise FormatError(f"{group.where}: '{key}' does not match {EXTRA}/{STRUCTURE}")
