"""Caltech101, read through torchvision: photographs of chosen classes, scaled to squares.

L. Fei-Fei, R. Fergus, P. Perona, "Learning generative visual models from few training examples: an
incremental Bayesian approach tested on 101 object categories", CVPR Workshop on Generative-Model
Based Vision, 2004.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.cache import cached
from neucodex_lava.data.roots import check_numbers, files_of, find_root, subfolders
from neucodex_lava.data.sets import ImageSet, Split

TEN_CLASSES = (
    "Faces_easy", "Leopards", "Motorbikes", "airplanes", "bonsai", "car_side", "chandelier",
    "hawksbill", "ketch", "watch",
)  # fmt: skip
"""The ten largest classes, faces counted once: used where none are chosen."""
DEFAULT_SIZE = 64
BACKGROUND = "BACKGROUND_Google"


def caltech101(config: DataConfig, data_root: Path | str | None, split: Split) -> ImageSet:
    """Caltech101, (3, size, size), undivided.

    Images, grey ones too, become RGB and are scaled to size x size as a whole, whatever their
    proportions, so that nothing of an object is cut off (bilinear, antialiased).

    Args:
        config: its `classes` (by default ten) and `size` (by default 64).
        data_root: holds ``caltech101/101_ObjectCategories``.
        split: recorded.

    Raises:
        DataError: files that are missing, truncated or do not belong there.
    """
    from torchvision.datasets import Caltech101
    from torchvision.transforms import Compose, InterpolationMode, Resize

    root = find_root(data_root, "caltech101", "caltech101/101_ObjectCategories")
    if BACKGROUND not in subfolders(root, root.folder):
        raise root.error(
            f"'{root.shown(root.folder / BACKGROUND)}' is missing, torchvision wants it"
        )
    classes = config.classes or TEN_CLASSES
    size = config.size or DEFAULT_SIZE
    files: list[Path] = []
    for name in classes:
        of_class = files_of(root, root.folder / name, r"image_\d{4}\.jpg")
        check_numbers(root, of_class, root.shown(root.folder / name))
        files += of_class
    scale = Compose(
        [lambda image: image.convert("RGB"), Resize((size, size), InterpolationMode.BILINEAR)]
    )
    listed: Any = Caltech101(str(root.root), target_type="category", transform=scale)
    places = {
        name: np.flatnonzero(np.equal(listed.y, i)) for i, name in enumerate(listed.categories)
    }
    rows = np.concatenate([places[name] for name in classes])

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for row, file in zip(rows, files):
            try:
                image, _ = listed[int(row)]
            except Exception as error:  # a damaged file can make the decoder raise nearly anything
                reason = " ".join(str(error).split())
                raise root.error(
                    f"image '{root.shown(file)}' cannot be read: {reason}",
                    "copy the file again from the dataset",
                ) from error
            yield np.moveaxis(np.asarray(image), -1, 0)

    images = cached(root, {"scaled": "whole, bilinear"}, files, (3, size, size), pixels())
    return ImageSet(
        name="caltech101",
        split=split,
        labels=np.repeat(np.arange(len(classes)), [len(places[name]) for name in classes]),
        index=np.arange(len(files), dtype=np.int64),
        classes=classes,
        flip_ok=True,
        pixels=images,
        scale=255,
    )
