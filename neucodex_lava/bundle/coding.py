"""`coding.safetensors`: the coding tables of a bundle's cuts. Needs numpy and safetensors only.

Tensors are named by cut: ``<cut>.counts`` uint16 (C, 2^bits), and where there are any ``<cut>.given``
uint16 (C, 2, 2) and ``<cut>.dictionary`` uint8 (bytes,); see `host_bridge.codecs.tables`. Metadata has
one key, ``neucodex``, a JSON text: ``format``, ``version``, and ``trained`` (on what).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from host_bridge.codecs import Tables
from host_bridge.codecs.tables import DICTIONARY_LIMIT
from neucodex_lava.bundle.folder import Bundle, check_file, read_manifest
from neucodex_lava.bundle.manifest import CODING_FILE, Manifest
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.json_fields import Fields
from neucodex_lava.tail_file import METADATA_KEY

FORMAT, FORMAT_VERSION = "neucodex-coding", 1
FILE_LIMIT_BYTES = 1 << 26
METADATA_LIMIT_BYTES = 1 << 16
HINT = "train them again: neucodex calibrate BUNDLE --kind coding"
_CHANNELS_LIMIT = 0xFFFF


def cuts_of(manifest: Manifest) -> list[int]:
    """The cuts a bundle may be used at, and so has tables for: its own, or of a base all of them."""
    if manifest.kind == "split":
        return [manifest.cut]
    return sorted({0, *manifest.split_points.values()})


def coding_bytes(tables: Mapping[int, Tables], trained: Mapping[str, Any]) -> bytes:
    """The file's bytes: the same for the same tables.

    Args:
        tables: by cut.
        trained: on what, plain JSON values.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for cut, one in tables.items():
        tensors[f"{cut}.counts"] = one.counts
        if one.given is not None:
            tensors[f"{cut}.given"] = one.given
        if one.dictionary:
            tensors[f"{cut}.dictionary"] = np.frombuffer(one.dictionary, np.uint8)
    about = {"format": FORMAT, "version": FORMAT_VERSION, "trained": dict(trained)}
    return save(tensors, {METADATA_KEY: json.dumps(about, sort_keys=True)})


def load_coding(bundle: Bundle | Path | str, cut: int | str | None = None) -> Tables | None:
    """The coding tables of a bundle at one of its cuts; None where it has none.

    A folder with ``manifest.json`` and ``coding.safetensors`` alone will do, as on a cloud machine.

    Args:
        bundle: read before, or its folder.
        cut: of a base a number of nodes, or a split point such as ``SP3``; by default a split
            bundle's own.

    Raises:
        BundleError: the file is missing, changed, damaged or of a newer version, or the base bundle
            was given no cut, or one that it does not have.
    """
    if isinstance(bundle, Bundle):
        folder, manifest = bundle.path, bundle.manifest
    else:
        folder = Path(bundle)
        manifest, _ = read_manifest(folder)
    if CODING_FILE not in manifest.files:
        return None
    place = _cut(manifest, cut, folder)
    check_file(folder, manifest, CODING_FILE)
    path = folder / CODING_FILE
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise BundleError(f"{path}: {size} bytes, the limit is {FILE_LIMIT_BYTES}")
        with safe_open(path, framework="numpy") as file:
            return _read(file, place, str(path))
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}") from problem
    except SafetensorError as problem:
        raise BundleError(f"{path}: not a safetensors file ({problem})", HINT) from problem


def _cut(manifest: Manifest, cut: int | str | None, folder: Path) -> int:
    if isinstance(cut, int):
        return cut
    if manifest.kind == "split" and cut in (None, manifest.split):
        return manifest.cut
    if cut not in manifest.split_points:
        known = ", ".join([str(manifest.split or ""), *manifest.split_points]).strip(", ")
        raise BundleError(
            f"'{folder}' has no cut {cut!r:.40} to have coding tables for", f"known: {known}"
        )
    return manifest.split_points[cut]


def _read(file: Any, cut: int, where: str) -> Tables | None:
    metadata: dict[str, str] = file.metadata() or {}
    if METADATA_KEY not in metadata:
        raise BundleError(f"{where}: a safetensors file, but no coding tables of neucodex-lava")
    fields = Fields.parse(metadata[METADATA_KEY].encode(), where, METADATA_LIMIT_BYTES, BundleError)
    if fields.text("format") != FORMAT:
        raise fields.fail(f"'format' is not '{FORMAT}'")
    version = fields.integer("version", 1, 1 << 30)
    if version > FORMAT_VERSION:
        raise fields.fail(
            f"format version {version}, this program reads up to {FORMAT_VERSION}",
            "update neucodex-lava",
        )
    fields.only("format", "version", "trained").mapping("trained")
    if f"{cut}.counts" not in file.keys():  # noqa: SIM118 - no mapping
        return None
    counts = _tensor(file, f"{cut}.counts", "U16", 2, where)
    given = _tensor(file, f"{cut}.given", "U16", 3, where)
    dictionary = _tensor(file, f"{cut}.dictionary", "U8", 1, where)
    assert counts is not None
    try:
        return Tables(counts, given, b"" if dictionary is None else dictionary.tobytes())
    except ConfigError as problem:
        raise BundleError(f"{where}: {problem.message}", HINT) from problem


def _tensor(file: Any, name: str, dtype: str, rank: int, where: str) -> NDArray[Any] | None:
    """A tensor, read only once its type and size are known; None where there is none."""
    if name not in file.keys():  # noqa: SIM118 - no mapping
        return None
    view = file.get_slice(name)
    shape: tuple[int, ...] = tuple(view.get_shape())
    limits = {1: (DICTIONARY_LIMIT,), 2: (_CHANNELS_LIMIT, 256), 3: (_CHANNELS_LIMIT, 2, 2)}
    fits = len(shape) == rank and all(n <= most for n, most in zip(shape, limits[rank]))
    if view.get_dtype() != dtype or not fits:
        raise BundleError(
            f"{where}: tensor '{name}' is {view.get_dtype()} {list(shape)[:4]}, no coding table",
            HINT,
        )
    return np.array(file.get_tensor(name))
