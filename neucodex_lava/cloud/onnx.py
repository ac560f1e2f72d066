"""The tail as an ONNX model: one timestep, its state going in and coming out, exact like the executor.

The operations and their order are those of `executor`: integers in float32, rounded after each
convolution, double where a decay needs more than 24 bits. A step of N samples, each at its own::

    code (N, C, H, W) uint8, start (N, 1) bool, states -> sums (N, K) int32, exact (N, 1) bool, states

Every state is zeros before a sample's first timestep; ``start`` makes it so, whatever was passed in.
``exact`` is false where the executor would have failed the run: a sum left the 24-bit range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper

from neucodex_lava.cloud.onnx_graph import Graph, State
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import (
    DECAY_ONE,
    STATE_SHIFT,
    Connection,
    IntegerNet,
    Node,
    worst_case_sums,
)

SIZE_LIMIT_BYTES: Final = (1 << 31) - (1 << 20)
"""A protobuf holds 2 GiB, weights as float32 and the graph."""
_EXACT: Final = 1 << 24
_UNIT: Final = float(1 << STATE_SHIFT)
_STATE_MAX: Final = float(1 << 23)


@dataclass(frozen=True)
class OnnxTail:
    """A tail in ONNX.

    Attributes:
        model: the ONNX model.
        states: what goes from one timestep to the next.
        code_shape: (C, H, W).
        classes: K.
    """

    model: Any
    states: tuple[State, ...]
    code_shape: tuple[int, int, int]
    classes: int


def onnx_tail(net: IntegerNet, model: str, gain: float) -> OnnxTail:
    """The nodes after the net's cut as an ONNX model.

    Args:
        net: cut where the code leaves the edge; or the tail alone, cut at 0.
        model: what edge and cloud agree on, kept in the metadata beside the gain.
        gain: the readout's; y(t) = S_t / (gain * t).

    Raises:
        NetError: nothing lies after the cut, the net ends in no readout, a convolution's sums could
            leave what float32 adds exactly, or the model is too large for one file.
    """
    if not net.tail_nodes or not net.ends_in_readout:
        raise NetError(
            "the network has no tail that ends in a readout: nothing to export",
            "export a split bundle, or choose a split point with --split",
        )
    heads = {head.name for head in net.exit_heads}
    nodes = [node for node in net.tail_nodes if node.name not in heads]
    size = 4 * sum(c.weight.size for node in nodes for c in node.connections)
    if size > SIZE_LIMIT_BYTES:
        raise NetError(
            f"the tail's weights take {size} bytes, an ONNX file holds {SIZE_LIMIT_BYTES}"
        )
    return _Builder(net, nodes).build(model, gain)


class _Builder:
    """Writes the graph node by node; the names of values are its variables."""

    def __init__(self, net: IntegerNet, nodes: list[Node]) -> None:
        self._net, self._nodes = net, nodes
        self._graph = Graph("start")
        self._broken: list[str] = []

    def build(self, model: str, gain: float) -> OnnxTail:
        g = self._graph
        net = self._net
        values = {net.output: g.op("Cast", "code", to=TensorProto.FLOAT)}
        sums = ""
        for i, node in enumerate(self._nodes):
            values[node.name], sums = self._node(i, node, values)
        g.op("Cast", g.op("Flatten", sums, axis=1), to=TensorProto.INT32, out="sums")
        # Something that is true for each sample, for the others to be joined to.
        exact = g.op("Or", "start", g.op("Not", "start"))
        for broken in self._broken:
            exact = g.op("And", exact, g.op("Not", broken))
        g.op("Identity", exact, out="exact")
        about = {
            "model": model,
            "gain": gain,
            "t_max": net.timesteps,
            "code_bits": net.code_bits,
            "states": {s.name: s.out for s in g.states},
        }
        made = g.model(
            {"code": (TensorProto.UINT8, net.code_shape), "start": (TensorProto.BOOL, (1,))},
            {"sums": (TensorProto.INT32, (net.last.size,)), "exact": (TensorProto.BOOL, (1,))},
            about,
        )
        return OnnxTail(made, tuple(g.states), net.code_shape, net.last.size)

    def _node(self, i: int, node: Node, values: dict[str, str]) -> tuple[str, str]:
        """A node's spikes, and its potential before they are taken away, in weight units."""
        g = self._graph
        total = ""
        for j, connection in enumerate(node.connections):
            part = self._connection(f"s{i}_{j}", node, connection, values[connection.source])
            total = g.op("Add", total, part) if total else part
        neuron, bounded = node.neuron, node.sum_bound is not None
        x = g.op("Mul", total, g.number(_UNIT))
        if neuron.current_decay != DECAY_ONE:
            u = State(f"s{i}_u", node.shape)
            x = self._decayed(x, g.before(u), neuron.current_decay)
            g.after(u, x)
        if neuron.current_decay != DECAY_ONE or bounded:
            self._check_range(x, _STATE_MAX)
        x = g.op("Add", x, g.constant(node.bias[:, None, None].astype(np.float32) * _UNIT))
        v = State(f"s{i}_v", node.shape) if neuron.voltage_decay != DECAY_ONE else None
        if v is not None:
            # Kept as its distance from where it starts, so that every state starts at zero.
            initial = g.number(neuron.initial * _UNIT)
            before = g.before(v)
            before = g.op("Add", before, initial) if neuron.initial else before
            x = self._decayed(x, before, neuron.voltage_decay)
        threshold = neuron.threshold * _UNIT
        if bounded and neuron.is_readout:
            self._check_range(x, threshold + 1)
        elif bounded and neuron.reset == "subtract":
            self._check_range(x, _STATE_MAX - 0.5)
        x = g.op("Clip", x, g.number(1 - _STATE_MAX), g.number(_STATE_MAX - 1))
        fired = g.op("Greater", x, g.number(threshold))
        spikes = g.op("Cast", fired, to=TensorProto.FLOAT)
        taken = x if neuron.reset == "zero" else g.number(threshold)
        left = g.op("Sub", x, g.op("Mul", spikes, taken))
        if v is not None:
            shifted = g.op("Sub", left, g.number(neuron.initial * _UNIT))
            g.after(v, shifted if neuron.initial else left)
        return spikes, g.op("Mul", left, g.number(1 / _UNIT))

    def _connection(self, name: str, node: Node, connection: Connection, x: str) -> str:
        """Synaptic sums (N, C, H, W) as they reach the node's neurons."""
        if connection.delays_targets:
            sums = self._weighted(node, connection, x)
            return self._delayed(name, node.shape, connection, sums)
        shape = self._net.shape_of(connection.source)
        return self._weighted(node, connection, self._delayed(name, shape, connection, x))

    def _delayed(self, name: str, shape: tuple[int, ...], connection: Connection, x: str) -> str:
        g = self._graph
        longest = connection.longest_delay
        if not longest:
            return x
        flight = State(name, (longest, *shape))
        now = g.op("Unsqueeze", x, g.integers(1))
        past = g.op("Concat", g.before(flight), now, axis=1)
        one, last = g.integers(1), g.integers(longest + 1)
        g.after(flight, g.op("Slice", past, one, last, g.integers(1)))
        late = ""
        for delay in np.unique(connection.delay):
            index = g.constant(np.array(longest - int(delay), np.int64))
            moved = g.op("Gather", past, index, axis=1)
            if connection.delay.ndim:
                where = (connection.delay == delay).reshape(shape).astype(np.float32)
                moved = g.op("Mul", moved, g.constant(where))
            late = g.op("Add", late, moved) if late else moved
        return late

    def _weighted(self, node: Node, connection: Connection, x: str) -> str:
        g = self._graph
        weight = connection.effective_weight()
        if connection.kind == "identity":
            return g.op("Mul", x, g.number(float(weight)))
        small = max(worst_case_sums(replace(node, connections=(connection,)), self._net.input_bits))
        if connection.kind == "dense":
            kind = np.float32 if small < _EXACT else np.float64
            tensor = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
            rows = g.op("Cast", g.op("Flatten", x, axis=1), to=tensor)
            out = g.op("MatMul", rows, g.constant(weight.T.astype(kind)))
            out = g.op("Round", g.op("Cast", out, to=TensorProto.FLOAT))
            return g.op("Reshape", out, g.integers(-1, *node.shape))
        if small >= _EXACT:
            raise NetError(
                f"node '{node.name}': sums of its {connection.kind} from '{connection.source}' could"
                f" reach {small}, ONNX's float32 convolution is exact below {_EXACT}",
                "serve this bundle with neucodex serve, which takes float64 there",
            )
        more: dict[str, Any] = {}
        if connection.kind == "conv_transpose":
            more["output_padding"] = connection.output_padding
        out = g.op(
            "Conv" if connection.kind == "conv" else "ConvTranspose",
            x,
            g.constant(weight.astype(np.float32)),
            strides=connection.stride,
            pads=connection.padding * 2,
            dilations=connection.dilation,
            group=connection.groups,
            **more,
        )
        # Fast convolution algorithms may be off by less than a half.
        return g.op("Round", out)

    def _decayed(self, x: str, state: str, by: int) -> str:
        """``x + (state * (4096 - by) >> 12)``, towards zero, which is what a cast does."""
        g = self._graph
        keep = DECAY_ONE - by
        if keep == 0:
            return x
        if keep == DECAY_ONE:
            return g.op("Add", x, state)
        kept = keep / DECAY_ONE
        if keep & (keep - 1) == 0:
            left = g.op("Mul", state, g.number(kept))
        else:
            wide = g.op("Cast", state, to=TensorProto.DOUBLE)
            left = g.op("Mul", wide, g.constant(np.array(kept, np.float64)))
        left = g.op("Cast", left, to=TensorProto.INT32)
        return g.op("Add", x, g.op("Cast", left, to=TensorProto.FLOAT))

    def _check_range(self, x: str, limit: float) -> None:
        """Note where a sample's largest value is above the limit or its smallest at or below -limit."""
        g = self._graph
        flat = g.op("Flatten", x, axis=1)
        high = g.op("ReduceMax", flat, axes=[1])
        low = g.op("ReduceMin", flat, axes=[1])
        self._broken.append(g.op("Greater", high, g.number(limit)))
        self._broken.append(g.op("LessOrEqual", low, g.number(-limit)))
