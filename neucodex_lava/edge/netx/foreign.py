"""NetX files that lava-dl wrote: an input, then convolutions and dense layers in a chain.

Each layer becomes a node that gives the spikes of lava-dl's own ``netx.hdf5.Network``. What an
IntegerNet cannot hold, or what lava-dl itself reads in another sense than it was written (delays of
convolutions, weight exponents, refractory delays), is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from neucodex_lava.edge.netx.foreign_layer import conv_or_dense, features, input_block, shape_of
from neucodex_lava.edge.netx.hdf5 import CheckedGroup
from neucodex_lava.errors import FormatError
from neucodex_lava.integer_net import (
    INPUT,
    INPUT_BITS_MAX,
    ConnectionKind,
    IntegerNet,
    Node,
    Shape,
)
from neucodex_lava.structure import NODES_LIMIT, TIMESTEPS_LIMIT
from neucodex_lava.watched import watched

REFUSED_LAYERS = {
    "dense_rec": "recurrent layers are not supported: an IntegerNet is feed-forward",
    "dense_comp": "complex layers are not supported",
    "pool": "pooling is not supported, nor by lava-dl's own reader",
    "unpool": "unpooling is not supported, nor by lava-dl's own reader",
    "convT": "transposed convolutions are not supported, nor by lava-dl's own reader",
    "average": "averages are not supported, nor by lava-dl's own reader",
    "concat": "concatenations are not supported, nor by lava-dl's own reader",
}


@dataclass(frozen=True)
class ForeignArguments:
    """What a file of lava-dl does not say; see `read_netx`."""

    timesteps: int | None = None
    input_shape: Shape | None = None
    input_bits: int | None = None
    skip_layers: int = 0
    num_layers: int | None = None


def read_foreign(layers: CheckedGroup, count: int, told: ForeignArguments) -> IntegerNet:
    """An IntegerNet from the layers of a file that lava-dl wrote; see `read_netx`."""
    if told.timesteps is None:
        raise FormatError(
            f"{layers.where}: a file of lava-dl does not say how many timesteps it runs",
            "pass timesteps (--timesteps T)",
        )
    if not 1 <= told.timesteps <= TIMESTEPS_LIMIT:
        raise FormatError(f"timesteps {told.timesteps} is outside [1, {TIMESTEPS_LIMIT}]")
    if told.num_layers is not None:
        count = min(count, told.num_layers)
    if count > NODES_LIMIT:
        raise FormatError(f"{layers.where}: {count} layers, the limit is {NODES_LIMIT}")
    first, nodes = _walk(layers, count, told)
    if first is None or not nodes:
        raise FormatError(f"{layers.where}: no conv or dense layer")
    graded = nodes[0].connections[0].kind == "identity"
    bits = told.input_bits or (INPUT_BITS_MAX if graded else 1)
    within = tuple(watched(node, bits, told.timesteps) for node in nodes)
    return IntegerNet(first, within, len(nodes), told.timesteps, bits)


def _walk(
    layers: CheckedGroup, count: int, told: ForeignArguments
) -> tuple[Shape | None, list[Node]]:
    """The input's shape and the nodes, in the order in which lava-dl connects them."""
    shape, first = told.input_shape, None
    nodes: list[Node] = []
    flattened = False
    for i in range(count):
        layer = layers.inside(str(i))
        kind = layer.word("type")
        skipped = i < told.skip_layers
        if kind == "flatten":
            flattened = True
        elif kind == "input":
            if i > 0:
                raise FormatError(f"{layer.where}: an input layer must be the first")
            shape = _declared(layer, shape)
            if layer.has("neuron") and not skipped:
                assert shape is not None
                first = shape
                nodes.append(input_block(layer, f"input{i}", shape))
        elif kind in ("conv", "dense"):
            if kind == "conv" and flattened:
                raise FormatError(f"{layer.where}: a convolution after a flatten has no H and W")
            if skipped:
                shape = shape_of(layer, kind)
            else:
                shape = shape or _guess_input(layer, kind)
                if kind == "dense" and not flattened and shape[1:] != (1, 1):
                    raise FormatError(f"{layer.where}: a dense layer after {shape} needs a flatten")
                first = first or shape
                source = nodes[-1].name if nodes else INPUT
                name, known = f"{kind}{i}", cast("ConnectionKind", kind)
                nodes.append(conv_or_dense(layer, name, known, source, shape))
                shape = nodes[-1].shape
            flattened = False
        else:
            reason = REFUSED_LAYERS.get(kind, f"layers of type '{kind[:40]}' are not supported")
            raise FormatError(
                f"{layer.where}: {reason}",
                f"conv, dense, flatten and input are; or pass num_layers (--num-layers {i}) to end"
                " before it",
            )
    return first, nodes


def _declared(layer: CheckedGroup, told: Shape | None) -> Shape | None:
    """The shape an input layer says, which may be nothing where it has no neurons."""
    if not layer.has("shape") and not layer.has("neuron"):
        return told
    shape = shape_of(layer, "input")
    if told not in (None, shape):
        raise FormatError(f"{layer.where}: the file's input is {shape}, not {told}")
    return shape


def _guess_input(layer: CheckedGroup, kind: str) -> Shape:
    """The input's shape where no layer says it: only a dense layer gives it away."""
    if kind == "dense":
        return features(layer), 1, 1
    raise FormatError(
        f"{layer.where}: the file does not say the shape of its input",
        "pass input_shape (--input-shape C H W)",
    )
