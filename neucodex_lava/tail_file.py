"""`tail.safetensors`: the part of an IntegerNet after its cut. Needs numpy and safetensors only.

Weights are int8 and hold w / 2; biases, decays, thresholds and exponents are int32; names, shapes,
geometry and resets are JSON in the file's metadata. Tensors are named by index: ``<node>.bias`` (C,),
``<node>.neuron`` (iDecay, vDecay, threshold), ``<node>.<connection>.weight`` and ``.exponent``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from neucodex_lava.errors import FormatError, NetError
from neucodex_lava.integer_net import INPUT, INPUT_BITS_MAX, IntegerNet, Neuron, Node, Shape
from neucodex_lava.json_fields import Fields
from neucodex_lava.structure import (
    NAME_LIMIT,
    STRUCTURE_LIMIT_BYTES,
    TIMESTEPS_LIMIT,
    needs_resets,
    nodes_from_json,
    nodes_to_json,
    shape_from_json,
)

FORMAT = "neucodex-tail"
FORMAT_VERSION = 2
RESETS_SINCE = 2
"""Files without resets or initial potentials are written as version 1."""
METADATA_KEY = "neucodex"
"""One key only: safetensors writes several in no fixed order."""
FILE_LIMIT_BYTES = 1 << 31
DTYPES = {"I8": np.dtype(np.int8), "I32": np.dtype(np.int32)}


@dataclass(frozen=True, eq=False)
class Tail:
    """The nodes after a cut, and what crosses it.

    Attributes:
        nodes: in order; the first ones read from `source`.
        source: name of the node before the cut, or ``"input"``.
        code_shape: (C, H, W) of its output.
        code_bits: bits per value of it, 1 but for graded input.
        timesteps: T_max.
    """

    nodes: tuple[Node, ...]
    source: str
    code_shape: Shape
    code_bits: int
    timesteps: int

    def standalone(self) -> IntegerNet:
        """The tail as a network of its own, whose input is the code; cut at 0.

        Raises:
            NetError: when the nodes break a rule of the semantics.
        """
        nodes = tuple(
            replace(
                node,
                connections=tuple(
                    replace(c, source=INPUT) if c.source == self.source else c
                    for c in node.connections
                ),
            )
            for node in self.nodes
        )
        return IntegerNet(self.code_shape, nodes, 0, self.timesteps, self.code_bits)

    def joined(self, edge: IntegerNet) -> IntegerNet:
        """The whole network, cut between `edge` and this tail.

        Raises:
            NetError: when the two do not fit.
        """
        mine = (self.source, self.code_shape, self.timesteps)
        theirs = (edge.last.name, edge.last.shape, edge.timesteps)
        if mine != theirs:
            raise NetError(
                f"the tail continues {mine} (node, shape, timesteps), the edge ends in {theirs}"
            )
        return replace(edge, nodes=edge.nodes + self.nodes, cut=len(edge.nodes), end="")


def write_tail(net: IntegerNet, path: Path | str) -> None:
    """Write the nodes after the cut of `net`, under a temporary name that is then renamed.

    Raises:
        NetError: when there is no node after the cut.
        FormatError: when the file cannot be written.
    """
    path = Path(path)
    if net.cut == len(net.nodes):
        raise NetError("the network is cut after its last node: there is no tail to write")
    tensors: dict[str, NDArray[Any]] = {}
    for i, node in enumerate(net.tail_nodes):
        neuron = node.neuron
        tensors[f"{i}.bias"] = node.bias.astype(np.int32)
        tensors[f"{i}.neuron"] = np.array(
            [neuron.current_decay, neuron.voltage_decay, neuron.threshold], np.int32
        )
        for j, connection in enumerate(node.connections):
            half = np.asarray(connection.weight >> 1, order="C")
            tensors[f"{i}.{j}.weight"] = half.astype(np.int8)
            tensors[f"{i}.{j}.exponent"] = np.array(connection.exponent, np.int32)
    structure = {
        "format": FORMAT,
        "version": RESETS_SINCE if needs_resets(net.tail_nodes) else 1,
        "source": net.output,
        "code_shape": list(net.code_shape),
        "code_bits": net.code_bits,
        "timesteps": net.timesteps,
        "nodes": nodes_to_json(net.tail_nodes),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # safetensors' own save_file makes files that only their owner may read.
        temporary.write_bytes(save(tensors, {METADATA_KEY: json.dumps(structure, sort_keys=True)}))
        temporary.replace(path)
    except (OSError, SafetensorError) as problem:
        raise FormatError(f"{path}: cannot be written ({problem})") from problem
    finally:
        temporary.unlink(missing_ok=True)


class _Tensors:
    """The numbers of a tail file; each is taken once, so that what is left over is known."""

    def __init__(self, file: Any, where: str) -> None:
        self._file = file
        self._where = where
        self.left = set(file.keys())

    def _take(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        where = f"{self._where}: tensor '{name}'"
        if name not in self.left:
            raise FormatError(f"{where} is missing")
        self.left.discard(name)
        view = self._file.get_slice(name)
        found = (str(view.get_dtype()), tuple(view.get_shape()))
        if found != (dtype, shape):
            raise FormatError(f"{where} is {found}, expected {(dtype, shape)}")
        return np.asarray(self._file.get_tensor(name), DTYPES[dtype]).reshape(shape)

    def neuron(self, node: int) -> Neuron:
        current, voltage, threshold = (int(n) for n in self._take(f"{node}.neuron", "I32", (3,)))
        return Neuron(current, voltage, threshold)

    def bias(self, node: int, channels: int) -> NDArray[Any]:
        return self._take(f"{node}.bias", "I32", (channels,))

    def exponent(self, node: int, connection: int) -> int:
        return int(self._take(f"{node}.{connection}.exponent", "I32", ()))

    def weight(self, node: int, connection: int, shape: tuple[int, ...]) -> NDArray[Any]:
        half = self._take(f"{node}.{connection}.weight", "I8", shape)
        return half.astype(np.int16) * np.int16(2)


def read_tail(path: Path | str) -> Tail:
    """Read a file written by `write_tail`.

    Raises:
        FormatError: when it is missing, damaged, of a newer version, or no tail.
        NetError: when a node breaks a rule of the semantics.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise FormatError(f"{path}: {size} bytes, the limit is {FILE_LIMIT_BYTES}")
        with safe_open(path, framework="numpy") as file:
            return _read(file, str(path))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror or problem}") from problem
    except SafetensorError as problem:
        raise FormatError(
            f"{path}: not a safetensors file ({problem})", "export the bundle again"
        ) from problem


def _read(file: Any, where: str) -> Tail:
    metadata: dict[str, str] = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise FormatError(f"{where}: a safetensors file, but no tail of neucodex-lava")
    fields = Fields.parse(metadata[METADATA_KEY].encode(), where, STRUCTURE_LIMIT_BYTES)
    if fields.text("format") != FORMAT:
        raise fields.fail(f"'format' is not '{FORMAT}'")
    version = fields.integer("version", 1, 1 << 30)
    if version > FORMAT_VERSION:
        raise fields.fail(
            f"format version {version}, this program reads up to {FORMAT_VERSION}",
            "update neucodex-lava",
        )
    fields.only("format", "version", "source", "code_shape", "code_bits", "timesteps", "nodes")
    tensors = _Tensors(file, where)
    tail = Tail(
        nodes_from_json(fields, tensors),
        fields.text("source", NAME_LIMIT),
        shape_from_json(fields, "code_shape"),
        fields.integer("code_bits", 1, INPUT_BITS_MAX),
        fields.integer("timesteps", 1, TIMESTEPS_LIMIT),
    )
    if tensors.left:
        raise FormatError(f"{where}: unexpected tensor '{min(tensors.left)[:80]}'")
    # A net of its own checks sources, shapes and limits, whatever it is joined to later.
    tail.standalone()
    return tail
