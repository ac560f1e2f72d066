"""What a NetX file holds, key by key, and which nets lava-dl's own reader can be trusted with.

A file has groups ``layer/0..n``, one per NetX layer, with the keys and types that SLAYER blocks
export, and one group that NetX does not look at, ``neucodex/``, with the structure of the
IntegerNet as JSON. Shapes are stored as torch has them, (C, H, W), and strides as (y, x): lava-dl
reverses both when it reads, to W, H, C and (x, y), and flips the kernels itself. Its `flatten`
orders a convolution's outputs C, H, W, as we do, so that dense weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.integer_net import INPUT, Connection, IntegerNet, Node, Shape

FORMAT = "neucodex-netx"
FORMAT_VERSION = 3
EXITS_SINCE = 3
"""From this version on a file may say resets, initial potentials, and an end that is not its last node:
only in files that need it."""
HALVED_SINCE = 2
"""From this version on weights are int8 holding w / 2, a quarter of the bytes: only in files that
lava-dl refuses, which would take them for whole ones. Those that it reads are written as version 1."""
EXTRA = "neucodex"
"""The group that NetX ignores."""
STRUCTURE = "structure"
MARKER = "concat"
"""A layer type at which lava-dl raises NotImplementedError; layers of unknown type it skips."""

LAYER_TYPES = {
    "conv": "conv",
    "conv_transpose": "convT",
    "dense": "dense",
    "identity": "identity",
}
INT8_MAX = 127


def why_not_stock(net: IntegerNet) -> str:
    """Why lava-dl's own reader must refuse this edge, or "" when it reads it spike for spike.

    Each rule below is a case in which lava-dl 0.6.0 with lava-nc 0.10.0 would load the plain layers
    and compute something else, or fail in an obscure way.
    """
    for node in net.edge_nodes:
        if reason := node.neuron.why_not_stock:
            return f"node '{node.name}': {reason}, NetX has no such neuron"
    if not net.is_chain:
        return "it is no chain of layers"
    if net.input_bits > 1:
        return "its input is graded, which lava-dl takes for spikes unless told otherwise"
    previous = ""
    for node in net.edge_nodes:
        connection = node.connections[0]
        reason = _why_not_stock_connection(node, connection, previous)
        if reason:
            return f"node '{node.name}': {reason}"
        previous = connection.kind
    return ""


def _why_not_stock_connection(node: Node, connection: Connection, previous: str) -> str:
    if connection.kind not in ("conv", "dense"):
        return f"NetX has no {connection.kind} layer"
    if connection.exponent:
        return f"its weights have the exponent {connection.exponent}, which lava-dl ignores"
    if connection.kind == "dense":
        if node.shape[1:] != (1, 1):
            return f"a dense layer of shape {node.shape} is flat in NetX"
        return garbled_by_lava_dl(connection.weight)
    if connection.longest_delay:
        return "lava-dl ignores the delays of a convolution"
    if previous == "dense":
        return "a convolution after a dense layer has no width and height in NetX"
    small = (*connection.stride, *connection.padding, *connection.dilation, connection.groups)
    if max(*small, *connection.weight.shape[2:]) > INT8_MAX:
        return f"Lava's Conv holds stride, padding, dilation and groups in 8 bits, here {small}"
    return ""


def garbled_by_lava_dl(weight: NDArray[Any]) -> str:
    """Why lava-dl's reader makes other weights of these dense ones, or "".

    Without a positive weight it stretches the smallest to -256, which Lava's Dense model clips to
    -255; it divides by the largest when all are zero.
    """
    smallest = -int(weight.min())
    if weight.max() <= 0 and smallest & (smallest - 1) == 0:
        return (
            "lava-dl garbles dense weights of which none is positive and the smallest is 0 or"
            f" a negative power of two, here {-smallest}"
        )
    return ""


def needs_flatten(net: IntegerNet, node: Node) -> bool:
    """Whether NetX wants a `flatten` layer before this node: a dense one after a 3-D source."""
    connection = node.connections[0]
    if connection.kind != "dense":
        return False
    if connection.source == INPUT:
        return True
    return net.node(connection.source).connections[0].kind != "dense"


def layer_plan(net: IntegerNet, marked: bool) -> list[str | Node]:
    """The layers of the file in order: a node, or the type of a layer that is none."""
    plan: list[str | Node] = [MARKER] if marked else []
    plan.append("input")
    for node in net.edge_nodes:
        if needs_flatten(net, node):
            plan.append("flatten")
        plan.append(node)
    return plan


def plain_layer_fields(kind: str, net: IntegerNet, following: str | Node | None) -> dict[str, Any]:
    """Keys of a layer that is no node: the marker, the input, a flatten."""
    shape: Shape = net.input_shape
    if kind == "flatten" and isinstance(following, Node):
        source = net.shape_of(following.connections[0].source)
        shape = (int(np.prod(source)), 1, 1)
    return {"type": _type_field(kind), "shape": np.array(shape, np.int64)}


def node_fields(net: IntegerNet, node: Node, halved: bool = False) -> dict[str, Any]:
    """Keys of a node's layer, its first connection in the layer itself, further ones below it.

    Biases, and weights that are not `halved`, are float32 and sizes int64, as SLAYER blocks export
    them.
    """
    fields = connection_fields(net, node, 0, halved)
    flat = node.shape[1:] == (1, 1) and node.connections[0].kind == "dense"
    fields["shape"] = np.array(node.shape[:1] if flat else node.shape, np.int64)
    fields["bias"] = node.bias.astype(np.float32)
    fields |= {
        # SLAYER stores a variable-length string, which lies outside HDF5's checksums.
        "neuron/type": _type_field("CUBA"),
        "neuron/iDecay": np.int64(node.neuron.current_decay),
        "neuron/vDecay": np.int64(node.neuron.voltage_decay),
        "neuron/vThMant": np.int64(node.neuron.threshold),
        "neuron/refDelay": np.int64(1),
        "neuron/gradedSpike": np.bool_(False),
    }
    for index in range(1, len(node.connections)):
        for key, value in connection_fields(net, node, index, halved).items():
            fields[f"connection/{index}/{key}"] = value
    return fields


def connection_fields(
    net: IntegerNet, node: Node, index: int, halved: bool = False
) -> dict[str, Any]:
    """Keys of one connection, ``exponent`` only where it is not 0."""
    connection = node.connections[index]
    source = net.shape_of(connection.source)
    fields: dict[str, Any] = {"type": _type_field(LAYER_TYPES[connection.kind])}
    if connection.kind == "dense":
        fields["inFeatures"] = np.int64(np.prod(source))
        fields["outFeatures"] = np.int64(node.size)
    elif connection.kind != "identity":
        fields["inChannels"] = np.int64(source[0])
        fields["outChannels"] = np.int64(node.shape[0])
        fields["kernelSize"] = np.array(connection.weight.shape[2:], np.int64)
        for key in ("stride", "padding", "dilation"):
            fields[key] = np.array(getattr(connection, key), np.int64)
        fields["groups"] = np.int64(connection.groups)
    if connection.exponent:
        fields["exponent"] = np.int64(connection.exponent)
    weight = connection.weight
    fields["weight"] = (weight // 2).astype(np.int8) if halved else weight.astype(np.float32)
    if connection.kind == "dense" and connection.longest_delay:
        # One per synapse: of one dimension lava-dl guesses whose they are from their number.
        fields["delay"] = np.broadcast_to(connection.delay, connection.weight.shape)
    return fields


def top_level_keys(fields: dict[str, Any]) -> Iterator[str]:
    """The first parts of keys such as ``neuron/type``, each once."""
    yield from dict.fromkeys(key.split("/")[0] for key in fields)


def _type_field(name: str) -> np.ndarray[Any, np.dtype[np.bytes_]]:
    return np.array([name.encode("ascii")], dtype="S10")
