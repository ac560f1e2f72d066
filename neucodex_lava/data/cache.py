"""Samples made once from many files, kept as one array on disk.

The cache is a file ``<dataset>-<sha256 of what it is made from>.npy``: of the configuration, and of
the name, size and time of change of every file. Whatever is changed leads to another name, so nothing
in the cache is ever out of date; deleting it costs no more than the time to make it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.data.roots import DataRoot
from neucodex_lava.errors import DataError
from neucodex_lava.files import replacing

CACHE_VARIABLE = "NEUCODEX_CACHE"
CACHE_FOLDER = ".neucodex-cache"
CACHE_VERSION = 1
"""Part of every name; counts the changes of what is stored."""


def cached(
    root: DataRoot,
    made_from: Mapping[str, Any],
    files: Sequence[Path],
    shape: tuple[int, ...],
    samples: Iterator[NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """The array of all samples, mapped from its file, which is written first if it is not there.

    Args:
        root: the dataset.
        made_from: JSON values that, with the files, say what the samples are.
        files: what the samples are read from.
        shape: (C, H, W) or (C, H, W, T) of a sample.
        samples: one for each file, in order; read only where there is no cache.

    Returns:
        uint8 (N, ...), not to be written to.

    Raises:
        DataError: a sample is not right, or the cache cannot be written.
    """
    told = json.dumps([CACHE_VERSION, dict(made_from), shape]) + "".join(
        f"\n{root.shown(file)} {stat.st_size} {stat.st_mtime_ns}"
        for file, stat in ((file, file.stat()) for file in files)
    )
    digest = hashlib.sha256(told.encode()).hexdigest()
    path = cache_folder(root.root) / f"{root.dataset}-{digest[:32]}.npy"
    whole = (len(files), *shape)
    found = _mapped(path, whole)
    if found is not None:
        return found
    # Several processes may make the same file at once, each under a name of its own.
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(own) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": whole}
            np.lib.format.write_array_header_1_0(file, header)
            for sample in samples:
                file.write(np.ascontiguousarray(sample, np.uint8).reshape(shape).data)
        own.replace(path)
    except OSError as error:
        raise DataError(
            f"{root.dataset}: the cache '{path}' cannot be written: {error.strerror or error}",
            f"make room, or set {CACHE_VARIABLE}=DIR to keep it elsewhere",
        ) from error
    made = _mapped(path, whole)
    if made is None:
        raise DataError(f"{root.dataset}: the cache '{path}' changed while it was read")
    return made


def cache_folder(root: Path) -> Path:
    """Where caches lie: NEUCODEX_CACHE, else in the data root, else in the user's cache folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    if os.access(root, os.W_OK):
        return root / CACHE_FOLDER
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "neucodex-lava"


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The array in a file, or None if it is missing, damaged or of another shape."""
    try:
        found = np.load(path, mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None
