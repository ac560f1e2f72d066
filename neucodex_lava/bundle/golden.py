"""`golden.npz`: seeded input with every node's spikes, the running sums and the counts.

Written by the trained, quantised network in SLAYER, so that a bundle is verified anywhere without a
dataset. Spikes are packed eight to a byte. Members are read one by one against the shapes that the
network dictates, so that a damaged or hostile archive never asks for memory.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, NODE_COUNTS, Ledger, Overhead
from neucodex_lava.errors import BundleError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.json_fields import Fields

FORMAT = "neucodex-golden"
FORMAT_VERSION = 1
SAMPLES_LIMIT = 1 << 12
MEMBER_LIMIT_BYTES = 1 << 29
META_LIMIT_BYTES = 1 << 20
OVERHEADS = ("relay", "outside_window")


@dataclass(frozen=True, eq=False)
class Golden:
    """What every backend must give, spike for spike and count for count.

    Attributes:
        inputs: uint8 (N, C, H, W, T); below 2^b for graded input of b bits.
        spikes: of each node, uint8 0 or 1, (N, C, H, W, T).
        sums: the readout's running sums, int64 (N, classes, T).
        ledger: gated counts.
        potentials: digest of each node's potential after each timestep, uint32 (N, T): a weight too
            small a change of which to move a spike still moves a potential.
        integers: fingerprint of each node (`Node.fingerprint`) in the model that wrote the record.
        readout_gain: the readout's gain there; logits are S_t / (gain * t).
        exit_sums: running sums of each exit head, int64 (N, K, T).
        exit_gains: the gain of each exit head.
    """

    inputs: NDArray[np.uint8]
    spikes: Mapping[str, NDArray[np.uint8]]
    sums: NDArray[np.int64]
    ledger: Ledger
    potentials: Mapping[str, NDArray[np.uint32]]
    integers: Mapping[str, str]
    readout_gain: float
    exit_sums: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    exit_gains: Mapping[str, float] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Golden):
            return NotImplemented
        return (
            np.array_equal(self.inputs, other.inputs)
            and self.spikes.keys() == other.spikes.keys()
            and all(np.array_equal(self.spikes[n], other.spikes[n]) for n in self.spikes)
            and np.array_equal(self.sums, other.sums)
            and self.potentials.keys() == other.potentials.keys()
            and all(np.array_equal(v, other.potentials[n]) for n, v in self.potentials.items())
            and self.exit_sums.keys() == other.exit_sums.keys()
            and all(np.array_equal(v, other.exit_sums[n]) for n, v in self.exit_sums.items())
            and (dict(self.integers), self.readout_gain, dict(self.exit_gains))
            == (dict(other.integers), other.readout_gain, dict(other.exit_gains))
            and (self.ledger.nodes, self.ledger.connections)
            == (other.ledger.nodes, other.ledger.connections)
            and self.ledger.differences(other.ledger) == 0
            and all(getattr(self.ledger, o) == getattr(other.ledger, o) for o in OVERHEADS)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def samples(self) -> int:
        """N."""
        return int(self.inputs.shape[0])

    def check_against(self, net: IntegerNet) -> None:
        """Raise BundleError unless this record is one of `net`, naming what does not fit."""
        n, t = self.samples, net.timesteps
        if not 1 <= n <= SAMPLES_LIMIT:
            raise BundleError(f"golden: {n} samples, outside [1, {SAMPLES_LIMIT}]")
        expected: list[tuple[str, NDArray[Any], Any, tuple[int, ...]]] = [
            ("inputs", self.inputs, np.uint8, (n, *net.input_shape, t)),
            ("sums", self.sums, np.int64, (n, net.nodes[-1].size, t)),
        ]
        for node in net.nodes:
            if node.name not in self.spikes:
                raise BundleError(f"golden: no spikes of node '{node.name}'")
            spikes = self.spikes[node.name]
            expected.append((f"spikes of '{node.name}'", spikes, np.uint8, (n, *node.shape, t)))
            if node.name not in self.potentials or node.name not in self.integers:
                raise BundleError(f"golden: no potentials or integers of node '{node.name}'")
            digests = self.potentials[node.name]
            expected.append((f"potentials of '{node.name}'", digests, np.uint32, (n, t)))
        heads = {head.name: head for head in net.exit_heads}
        for what, found in (("sums", self.exit_sums), ("gains", self.exit_gains)):
            if found.keys() != heads.keys():
                raise BundleError(
                    f"golden: {what} of exit heads {sorted(found)}, the network has {sorted(heads)}"
                )
        for name, head in heads.items():
            sums = self.exit_sums[name]
            expected.append((f"sums of '{name}'", sums, np.int64, (n, head.size, t)))
        for gain in (self.readout_gain, *self.exit_gains.values()):
            if not 0 < gain < float("inf"):
                raise BundleError(f"golden: readout gain {gain} is no positive number")
        if len(self.spikes) != len(net.nodes):
            raise BundleError(f"golden: spikes of {len(self.spikes)} nodes, not {len(net.nodes)}")
        for name, array, dtype, shape in expected:
            if array.dtype != dtype or array.shape != shape:
                raise BundleError(
                    f"golden: {name} are {array.dtype} {array.shape}, expected"
                    f" {np.dtype(dtype)} {shape}"
                )
            largest = (1 << net.input_bits) - 1 if name == "inputs" else 1
            if array.dtype == np.uint8 and array.max() > largest:
                raise BundleError(f"golden: {name} hold {array.max()}, the limit is {largest}")
        for name, shape in _ledger_shapes(net, n).items():
            found = getattr(self.ledger, name).shape
            if found != shape:
                raise BundleError(f"golden: count '{name}' has shape {found}, expected {shape}")
        if (self.ledger.nodes, self.ledger.connections) != _ledger_names(net):
            raise BundleError("golden: the ledger is one of other nodes or connections")


def _ledger_names(net: IntegerNet) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    names = tuple(node.name for node in net.nodes)
    return names, tuple((node.name, c.source) for node, c in net.connections())


def _ledger_shapes(net: IntegerNet, samples: int) -> dict[str, tuple[int, ...]]:
    nodes, links = _ledger_names(net)
    return {
        name: (samples, len(nodes if name in NODE_COUNTS else links), net.timesteps)
        for name in ALL_COUNTS
    }


def write_golden(golden: Golden, net: IntegerNet, path: Path) -> None:
    """Write a record of `net`; the same record gives the same bytes.

    Raises:
        BundleError: when the record is not one of `net`, or the file cannot be written.
    """
    golden.check_against(net)
    overhead = {name: asdict(getattr(golden.ledger, name)) for name in OVERHEADS}
    meta = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "samples": golden.samples,
        "integers": [golden.integers[node.name] for node in net.nodes],
        "readout_gain": golden.readout_gain,
        **({"exit_gains": dict(golden.exit_gains)} if golden.exit_gains else {}),
        **overhead,
    }
    text = json.dumps(meta, sort_keys=True).encode("ascii")
    arrays: dict[str, Any] = {
        "meta": np.frombuffer(text, np.uint8),
        "inputs": np.packbits(golden.inputs) if net.input_bits == 1 else golden.inputs,
        "sums": golden.sums,
    }
    arrays |= {f"spikes_{i}": np.packbits(golden.spikes[n.name]) for i, n in enumerate(net.nodes)}
    arrays |= {f"potentials_{i}": golden.potentials[n.name] for i, n in enumerate(net.nodes)}
    places = {node.name: i for i, node in enumerate(net.nodes)}
    arrays |= {f"exit_sums_{places[name]}": sums for name, sums in golden.exit_sums.items()}
    arrays |= {name: getattr(golden.ledger, name) for name in ALL_COUNTS}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        temporary.replace(path)
    except OSError as problem:
        raise BundleError(f"{path}: cannot be written ({problem})") from problem
    finally:
        temporary.unlink(missing_ok=True)


def read_golden(path: Path, net: IntegerNet) -> Golden:
    """Read a record of `net`.

    Raises:
        BundleError: when the file is missing, damaged, or not a record of `net`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            golden = _read(archive, net, str(path))
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}") from problem
    except (
        zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError,
        RuntimeError, SyntaxError, TypeError,
    ) as problem:  # fmt: skip
        text = " ".join(str(problem).split())[:160]
        raise BundleError(
            f"{path}: damaged, or no golden record ({text})", "export the bundle again"
        ) from problem
    golden.check_against(net)
    return golden


def _read(archive: zipfile.ZipFile, net: IntegerNet, where: str) -> Golden:
    text = _member(archive, "meta", np.uint8, None, where).tobytes()
    meta = Fields.parse(text, where, META_LIMIT_BYTES, BundleError)
    meta.only("format", "version", "samples", "integers", "readout_gain", "exit_gains", *OVERHEADS)
    if meta.text("format") != FORMAT:
        raise meta.fail(f"'format' is not '{FORMAT}'")
    version = meta.integer("version", 1, 1 << 30)
    if version > FORMAT_VERSION:
        raise meta.fail(
            f"format version {version}, this program reads up to {FORMAT_VERSION}",
            "update neucodex-lava",
        )
    n, t = meta.integer("samples", 1, SAMPLES_LIMIT), net.timesteps

    def bits(name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        count = int(np.prod(shape, dtype=np.int64))
        packed = _member(archive, name, np.uint8, ((count + 7) // 8,), where)
        return np.unpackbits(packed, count=count).reshape(shape)

    shape = (n, *net.input_shape, t)
    if net.input_bits == 1:
        inputs = bits("inputs", shape)
    else:
        inputs = _member(archive, "inputs", np.uint8, shape, where)
    spikes = {
        node.name: bits(f"spikes_{i}", (n, *node.shape, t)) for i, node in enumerate(net.nodes)
    }
    sums = _member(archive, "sums", np.int64, (n, net.nodes[-1].size, t), where)
    counts: dict[str, Any] = {
        name: _member(archive, name, np.int64, shape, where)
        for name, shape in _ledger_shapes(net, n).items()
    }
    if any((array < 0).any() for array in counts.values()):
        raise BundleError(f"{where}: a count is negative")
    relay, outside = (_overhead(meta.inside(name)) for name in OVERHEADS)
    ledger = Ledger(*_ledger_names(net), **counts, relay=relay, outside_window=outside)
    potentials = {
        node.name: _member(archive, f"potentials_{i}", np.uint32, (n, t), where)
        for i, node in enumerate(net.nodes)
    }
    heads = {node.name for node in net.exit_heads}
    exit_sums = {
        node.name: _member(archive, f"exit_sums_{i}", np.int64, (n, node.size, t), where)
        for i, node in enumerate(net.nodes)
        if node.name in heads
    }
    gains = meta.inside("exit_gains") if heads else None
    integers = meta.texts("integers", len(net.nodes))
    return Golden(
        inputs,
        spikes,
        sums,
        ledger,
        potentials,
        {node.name: text for node, text in zip(net.nodes, integers)},
        meta.number("readout_gain"),
        exit_sums,
        {name: gains.number(name) for name in gains.values} if gains else {},
    )


def digest_potentials(potentials: NDArray[np.int32]) -> NDArray[np.uint32]:
    """CRC-32 of a node's potentials at each sample and timestep.

    Args:
        potentials: (N, C, H, W, T), in state units, after reset.

    Returns:
        uint32 (N, T), of the little-endian int32 values in C H W order.
    """
    rows = np.moveaxis(potentials, -1, 1).astype("<i4", order="C")
    digests = [[zlib.crc32(step.tobytes()) for step in sample] for sample in rows]
    return np.array(digests, np.uint32).reshape(rows.shape[:2])


def _overhead(fields: Fields) -> Overhead:
    names = tuple(Overhead.__dataclass_fields__)
    fields.only(*names)
    return Overhead(**{name: fields.integer(name, 0, (1 << 63) - 1) for name in names})


def _member(
    archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...] | None, where: str
) -> NDArray[Any]:
    """One array of the archive, of this shape; None: one dimension of at most META_LIMIT_BYTES."""
    expected = META_LIMIT_BYTES
    if shape is not None:
        expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if expected > MEMBER_LIMIT_BYTES:
        raise BundleError(f"{where}: '{name}' of {expected} bytes, limit {MEMBER_LIMIT_BYTES}")
    with archive.open(f"{name}.npy") as file:
        major, _ = np.lib.format.read_magic(file)
        if major != 1:
            raise BundleError(f"{where}: '{name}' is an npy file of version {major}, not 1")
        found, fortran, kind = np.lib.format.read_array_header_1_0(file)
        fits = found == shape if shape is not None else len(found) == 1
        if kind != dtype or not fits or fortran:
            raise BundleError(
                f"{where}: '{name}' is {kind} {found}, expected {np.dtype(dtype)} {shape or '(n,)'}"
            )
        size = int(np.prod(found, dtype=np.int64)) * np.dtype(dtype).itemsize
        if size > expected:
            raise BundleError(f"{where}: '{name}' of {size} bytes, limit {expected}")
        content = file.read(size)
        if len(content) != size or file.read(1):
            raise BundleError(f"{where}: '{name}' is not as long as it says")
    return np.frombuffer(content, dtype).reshape(found).copy()
