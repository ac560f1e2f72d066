"""The structure of an IntegerNet as JSON: everything but its numbers.

Names, shapes, sources, kinds, geometry and resets are text; weights, biases, decays, thresholds and
exponents are arrays of the file the text is part of (NetX HDF5, safetensors). A reader gives the
numbers by a node's and a connection's index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.connection import DELAY_MAX
from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import (
    THRESHOLD_MAX,
    Connection,
    ConnectionKind,
    Neuron,
    Node,
    Reset,
    Shape,
)
from neucodex_lava.json_fields import Fields

NODES_LIMIT = 4096
CONNECTIONS_LIMIT = 64
NAME_LIMIT = 200
NEURONS_LIMIT = 1 << 26
"""Neurons in one node, and values of one input: what a reader accepts before anything is made."""
GEOMETRY_LIMIT = 1 << 12
"""Stride, padding and dilation that a reader accepts."""
TIMESTEPS_LIMIT = 1 << 20
SUM_BOUND_LIMIT = 1 << 40
STRUCTURE_LIMIT_BYTES = 1 << 24


class Numbers(Protocol):
    """Where the numbers of a net come from; `node` and `connection` are indices."""

    def neuron(self, node: int) -> Neuron:
        """The node's neuron, but for its reset and initial potential."""
        ...

    def bias(self, node: int, channels: int) -> NDArray[Any]:
        """Integers (channels,)."""
        ...

    def exponent(self, node: int, connection: int) -> int:
        """The connection's exponent."""
        ...

    def weight(self, node: int, connection: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Even integers of this shape, which was checked for size by the caller's file."""
        ...


def nodes_to_json(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Plain JSON values that `nodes_from_json` reads back.

    A neuron's ``reset`` and ``initial`` stand there only where stock Lava has no such neuron.
    """
    return [
        {
            "name": node.name,
            "shape": list(node.shape),
            "sum_bound": node.sum_bound,
            "connections": [_connection_to_json(c) for c in node.connections],
        }
        | ({} if node.neuron.is_stock else _resets_to_json(node.neuron))
        for node in nodes
    ]


def needs_resets(nodes: Iterable[Node]) -> bool:
    """Whether a file of these nodes says resets or initial potentials, which came later."""
    return not all(node.neuron.is_stock for node in nodes)


def _resets_to_json(neuron: Neuron) -> dict[str, Any]:
    return {"reset": neuron.reset, "initial": neuron.initial}


def _connection_to_json(connection: Connection) -> dict[str, Any]:
    values = connection.attributes() | {"weight_shape": list(connection.weight.shape)}
    del values["exponent"]
    return values


def nodes_from_json(parent: Fields, numbers: Numbers) -> tuple[Node, ...]:
    """The nodes under key ``nodes`` of `parent`; numbers are asked for node by node, in order.

    Raises:
        FormatError: naming the node when a field is missing, of the wrong type or out of range.
        NetError: when a node breaks a rule of the semantics.
    """
    nodes: list[Node] = []
    for index, item in enumerate(parent.children("nodes", NODES_LIMIT)):
        item.only("name", "shape", "sum_bound", "connections", "reset", "initial")
        name = item.text("name", NAME_LIMIT)
        if not name or not name.isprintable():
            raise item.fail("a node's name must be printable and not empty")
        here = Fields(item.values, f"{parent.where}: node '{name}'", item.error)
        shape = shape_from_json(here, "shape")
        bound = None
        if item.values.get("sum_bound") is not None:
            bound = here.integer("sum_bound", 0, SUM_BOUND_LIMIT)
        links = tuple(
            _connection_from_json(link, numbers, index, j)
            for j, link in enumerate(here.children("connections", CONNECTIONS_LIMIT))
        )
        bias = numbers.bias(index, shape[0])
        neuron = _with_resets(numbers.neuron(index), here)
        nodes.append(Node(name, shape, neuron, bias, links, bound))
    return tuple(nodes)


def _with_resets(neuron: Neuron, fields: Fields) -> Neuron:
    """The neuron with its reset and initial potential, where its node says any."""
    if "reset" in fields.values:
        reset = fields.text("reset", 40)
        if reset not in get_args(Reset):
            raise fields.fail(f"unknown reset '{reset}'")
        neuron = replace(neuron, reset=cast("Reset", reset))
    if "initial" in fields.values:
        initial = fields.integer("initial", -THRESHOLD_MAX, THRESHOLD_MAX)
        neuron = replace(neuron, initial=initial)
    return neuron


def shape_from_json(fields: Fields, key: str) -> Shape:
    """A shape (C, H, W) of positive sizes with at most `NEURONS_LIMIT` values."""
    c, h, w = fields.integers(key, 3, 1, NEURONS_LIMIT)
    if c * h * w > NEURONS_LIMIT:
        raise fields.fail(f"'{key}' {(c, h, w)} has {c * h * w} values, limit {NEURONS_LIMIT}")
    return c, h, w


def _connection_from_json(fields: Fields, numbers: Numbers, node: int, index: int) -> Connection:
    fields.only(
        "source", "kind", "stride", "padding", "dilation", "output_padding", "groups",
        "weight_shape", "delay",
    )  # fmt: skip
    kind = fields.text("kind", 40)
    if kind not in get_args(ConnectionKind):
        raise fields.fail(f"unknown kind of connection '{kind}'")
    shape = fields.integers("weight_shape", None, 1, NEURONS_LIMIT)
    pairs = {
        key: cast("tuple[int, int]", fields.integers(key, 2, low, GEOMETRY_LIMIT))
        for key, low in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    }
    try:
        return Connection(
            fields.text("source", NAME_LIMIT),
            cast("ConnectionKind", kind),
            numbers.weight(node, index, shape),
            numbers.exponent(node, index),
            **pairs,
            groups=fields.integer("groups", 1, NEURONS_LIMIT),
            delay=_delay_from_json(fields),
        )
    except NetError as problem:
        raise NetError(f"{fields.where}: {problem.message}", problem.hint) from problem


def _delay_from_json(fields: Fields) -> NDArray[Any]:
    """An integer, a row of them or a column; nothing is 0. Sizes are the connection's to check."""
    value: Any = fields.values.get("delay", 0)
    rows: list[Any] = value if isinstance(value, list) else [[value]]
    if not rows or not all(isinstance(r, list) and len(r) == len(rows[0]) for r in rows):
        raise fields.fail("'delay' must be an integer, or a list of lists of equal length")
    if not all(type(n) is int and 0 <= n <= DELAY_MAX for row in rows for n in row):
        raise fields.fail(f"'delay' must hold integers in [0, {DELAY_MAX}]")
    delay = np.array(rows, np.uint8)
    return delay if isinstance(value, list) else delay.reshape(())


def to_integers(values: NDArray[Any], where: str) -> NDArray[np.int64]:
    """`values` as int64; floats must hold integers, since a truncated weight is another weight.

    Raises:
        FormatError: naming `where` and the first value that is no integer of 32 bits.
    """
    if values.dtype.kind not in "iufb":
        raise FormatError(f"{where}: holds {values.dtype}, not numbers")
    with np.errstate(invalid="ignore"):
        rounded = np.rint(values) if values.dtype.kind == "f" else values
        wrong = (rounded != values) | ~(np.abs(values.astype(np.float64)) < 2**31)
    if wrong.any():
        first = np.asarray(values)[wrong].flat[0]
        raise FormatError(f"{where}: {first} is not an integer of 32 bits")
    return values.astype(np.int64)
