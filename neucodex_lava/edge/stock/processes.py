"""Nodes and connections as stock Lava processes: which process, with which arguments, in which axes.

Nothing is built here but neurons; synapses are described, so that those who build them may take a
counting one in place of the stock one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from lava.proc.lif.process import LIF, LIFReset
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray
from scipy.sparse import diags

from neucodex_lava.edge.processes.preset import PresetLIF
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import STATE_SHIFT, Connection, Node, Shape

INT8_MAX = 127
"""Stock `Conv` keeps stride, padding, dilation, kernel size and groups in int8, unchecked."""
RELAY_WEIGHT = 2
FUSED_HINT = "simulate it with the backend fused"

SynapseClass = Literal["Conv", "Dense", "DelayDense", "Sparse"]


@dataclass(frozen=True)
class StockSynapse:
    """A stock synapse process, described.

    Attributes:
        process: which one.
        arguments: its arguments.
        source, target: shapes (C, H, W) of what it connects.
        late: for a `DelayDense` whose spikes wait, how long each does, in the order of its input;
            None where nothing waits or sums do.
    """

    process: SynapseClass
    arguments: dict[str, Any]
    source: Shape
    target: Shape
    late: NDArray[np.int64] | None = None

    @property
    def flat(self) -> bool:
        """Whether its ports have one axis; only `Conv` has three."""
        return self.process != "Conv"

    def connect(self, synapse: Any, sender: Any, neurons: Any) -> None:
        """Connect such a process from one port of Lava's W, H, C to another."""
        if self.flat:
            sender = sender.reshape(new_shape=(int(np.prod(self.source)),))
        sender.connect(synapse.s_in)
        self.sums(synapse).connect(neurons)

    def sums(self, synapse: Any) -> Any:
        """The port, W, H, C, of such a process's sums; Lava wants it connected."""
        return synapse.a_out.reshape(new_shape=whc(self.target)) if self.flat else synapse.a_out


def whc(shape: Shape) -> tuple[int, int, int]:
    """(C, H, W) as Lava's (W, H, C)."""
    return shape[2], shape[1], shape[0]


def flat_order(shape: Shape) -> NDArray[np.intp]:
    """For each neuron in flattened W H C order, its index in flattened C H W order."""
    return np.arange(int(np.prod(shape))).reshape(shape).transpose(2, 1, 0).reshape(-1)


def check_neuron(node: Node) -> None:
    """Raise ConfigError unless stock Lava has such a neuron."""
    if node.neuron.current_decay < 1:
        raise ConfigError(
            f"node '{node.name}': stock Lava's current always decays, iDecay 0 is not possible",
            FUSED_HINT,
        )


def check_stock_neuron(node: Node) -> None:
    """Raise ConfigError where only a process of ours has such a neuron, which no chip runs."""
    check_neuron(node)
    if reason := node.neuron.why_not_stock:
        raise ConfigError(
            f"node '{node.name}': {reason}; a chip needs a neuron in"
            " microcode for it, stock ones reset to a potential of 0",
            "convert or train a network that resets to zero, or simulate it with the backend fused or"
            " reference",
        )


def stock_neuron(
    node: Node, *, interval: int, offset: int, beyond: NDArray[np.int64] | None = None
) -> Any:
    """A node as `LIFReset`, cleared every `interval` Lava steps, first in step `offset` (from 0).

    Where stock Lava has no such neuron it is a `PresetLIF`, and `beyond` goes to that.
    """
    neuron, shape = node.neuron, whc(node.shape)
    arguments: dict[str, Any] = {
        "shape": shape,
        "du": neuron.current_decay - 1,
        "dv": neuron.voltage_decay,
        "bias_mant": np.broadcast_to(node.bias, shape).copy(),
        "bias_exp": STATE_SHIFT,
        "vth": neuron.threshold,
        "reset_interval": interval,
        # Lava's first step is number 1.
        "reset_offset": offset + 1,
        "name": node.name,
    }
    if neuron.is_stock:
        return LIFReset(**arguments)
    subtract = neuron.reset == "subtract"
    return PresetLIF(initial=neuron.initial, subtract=subtract, beyond=beyond, **arguments)


def relay_neuron(shape: Shape, name: str) -> Any:
    """Neurons that repeat their input one step later and keep no state."""
    return LIF(shape=whc(shape), vth=0, du=4095, dv=4095, name=name)


def relay_synapse(shape: Shape) -> StockSynapse:
    """What a relay neuron listens with."""
    return _one_to_one(shape, RELAY_WEIGHT, 0)


def stock_synapse(
    connection: Connection, source: Shape, node: Node, *, bits: int = 0, longest_wait: int = 0
) -> StockSynapse:
    """The stock process for a connection into `node`.

    Args:
        connection: the connection.
        source: shape (C, H, W) of its source.
        node: its target.
        bits: of graded input, 0 for spikes.
        longest_wait: of a dense connection whose delays are the process's own; longer ones are
            cut to it. With 0, whoever sends sees to the delays.

    Raises:
        ConfigError: a connection that no stock process can express.
    """
    if connection.kind == "conv_transpose":
        raise ConfigError(
            f"node '{node.name}': stock Lava has no transposed convolution",
            f"cut the network before the decoder, or {FUSED_HINT}",
        )
    if connection.kind == "identity":
        return _one_to_one(source, int(connection.weight), connection.exponent, bits)
    if connection.kind == "dense":
        return _dense(connection, source, node.shape, bits, longest_wait)
    return StockSynapse("Conv", _conv(connection, source, node, bits), source, node.shape)


def _one_to_one(shape: Shape, weight: int, exponent: int, bits: int = 0) -> StockSynapse:
    """One synapse per neuron. (A depthwise `Conv` is silent from 128 channels on: groups are int8.)"""
    size = int(np.prod(shape))
    arguments: dict[str, Any] = {
        "weights": diags(np.full(size, weight, np.int32), format="csr", dtype=np.int32),
        "weight_exp": exponent,
        "sign_mode": SignMode.MIXED,
        "num_message_bits": bits,
    }
    return StockSynapse("Sparse", arguments, shape, shape)


def _dense(
    connection: Connection, source: Shape, target: Shape, bits: int, longest_wait: int
) -> StockSynapse:
    rows, columns = flat_order(target), flat_order(source)
    arguments: dict[str, Any] = {
        "weights": connection.weight[np.ix_(rows, columns)].astype(np.int32),
        "weight_exp": connection.exponent,
        # Not left to Lava, which clips -256 to -255 where no weight is positive.
        "sign_mode": SignMode.MIXED,
        "num_message_bits": bits,
    }
    if not longest_wait:
        return StockSynapse("Dense", arguments, source, target)
    late: NDArray[np.int64] | None = None
    if connection.delays_targets:
        each = np.minimum(connection.delay, longest_wait).astype(np.int64)[rows]
    else:
        delays = np.minimum(connection.source_delays(source), longest_wait)
        late = delays.reshape(-1).astype(np.int64)[columns]
        each = late[None]
    arguments["delays"] = np.broadcast_to(each, (rows.size, columns.size)).copy()
    return StockSynapse("DelayDense", arguments, source, target, late)


def _conv(connection: Connection, source: Shape, node: Node, bits: int) -> dict[str, Any]:
    weight, groups = _merged(connection.effective_weight().astype(np.int32), connection.groups)
    geometry = {
        "stride": connection.stride[::-1],
        "padding": connection.padding[::-1],
        "dilation": connection.dilation[::-1],
    }
    for name, pair in (*geometry.items(), ("kernel size", weight.shape[:1:-1])):
        if max(pair) > INT8_MAX:
            raise ConfigError(
                f"node '{node.name}': stock Lava's Conv holds its {name} in 8 bits,"
                f" {max(pair)} is above {INT8_MAX}",
                FUSED_HINT,
            )
    return {
        # Lava convolves where torch correlates, and takes (out, x, y, in).
        "weight": weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).copy(),
        **geometry,
        "groups": groups,
        "input_shape": whc(source),
        "num_message_bits": bits,
    }


def _merged(weight: NDArray[np.int32], groups: int) -> tuple[NDArray[np.int32], int]:
    """The same convolution in at most 127 groups, with zeros between groups that were merged."""
    if groups <= INT8_MAX:
        return weight, groups
    fewer = max(g for g in range(1, INT8_MAX + 1) if groups % g == 0)
    out, per_group, *taps = weight.shape
    together = groups // fewer
    place = np.arange(out) // (out // groups) % together
    wide = np.zeros((out, together, per_group, *taps), np.int32)
    wide[np.arange(out), place] = weight
    return wide.reshape(out, together * per_group, *taps), fewer
