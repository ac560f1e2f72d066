"""A user's own samples: two files of arrays, images or frames of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.roots import DataRoot, find_root
from neucodex_lava.data.sets import EventSet, ImageSet, SampleSet, Split

FOLDER = "own"
CLASSES_LIMIT = 1 << 16


def own(config: DataConfig, data_root: Path | str | None, split: Split) -> SampleSet:
    """``own/train.npz`` or ``own/test.npz`` of the data root, as `numpy.savez` writes them.

    Each holds ``samples``, uint8, images (N, C, H, W) from 0 to 255 or, for the encoding ``events``,
    frames (N, C, H, W, T) of counts; and ``labels``, integers (N,) from 0. There are as many classes
    as the largest label of both says.

    Raises:
        DataError: a file that is missing, damaged, or holds other arrays, or samples of another shape
            than the other one's.
    """
    root = find_root(data_root, "own", FOLDER)
    samples, labels = _read(root, split, 5 if config.events else 4)
    other: Split = "test" if split == "train" else "train"
    more, others = _read(root, other, 5 if config.events else 4)
    if more.shape[1:] != samples.shape[1:]:
        raise root.error(
            f"the samples of {split}.npz are {samples.shape[1:]}, of {other}.npz {more.shape[1:]}",
            "both must be of one shape",
        )
    classes = tuple(str(i) for i in range(int(max(labels.max(), others.max())) + 1))
    common: Any = {
        "name": "own",
        "split": split,
        "labels": labels,
        "index": np.arange(len(labels), dtype=np.int64),
        "classes": classes,
        "flip_ok": False,
    }
    if config.events:
        return EventSet(frames=samples, **common)
    return ImageSet(pixels=samples, scale=255, **common)


def _read(root: DataRoot, split: Split, rank: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = root.folder / f"{split}.npz"
    shown = root.shown(path)
    if not path.is_file():
        raise root.error(f"'{shown}' is missing", "write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            samples, labels = file["samples"], file["labels"]
    except Exception as error:  # zipfile, zlib and numpy each have errors of their own
        raise root.error(
            f"'{shown}' holds no arrays 'samples' and 'labels': {str(error)[:80]}",
            "write it with numpy.savez(path, samples=..., labels=...)",
        ) from error
    kinds = {4: "images (N, C, H, W)", 5: "frames (N, C, H, W, T), for the encoding events"}
    if samples.ndim != rank or samples.dtype != np.uint8 or 0 in samples.shape:
        raise root.error(
            f"'samples' in '{shown}' are {samples.dtype} {samples.shape}, not uint8 {kinds[rank]}",
            "images take the encodings deterministic, bernoulli and direct, frames take events",
        )
    fits = labels.shape == samples.shape[:1] and np.issubdtype(labels.dtype, np.integer)
    if not fits or labels.min() < 0 or labels.max() >= CLASSES_LIMIT:
        raise root.error(
            f"'labels' in '{shown}' are {labels.dtype} {labels.shape}, not an integer from 0 for each"
            f" of {len(samples)} samples",
            "number the classes from 0",
        )
    return samples, labels.astype(np.int64)
