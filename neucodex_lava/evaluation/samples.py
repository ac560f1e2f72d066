"""Encoded test samples of a bundle: its dataset, its encoding, its T_max."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle
from neucodex_lava.config import DataConfig, from_dict
from neucodex_lava.data import encode, load
from neucodex_lava.errors import BundleError, ConfigError


def load_samples(
    bundle: Bundle,
    count: int = 0,
    *,
    data_root: Path | None = None,
    dataset: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Test images as the bundle's network sees them, and their classes: see `load_indexed_samples`."""
    spikes, labels, _ = load_indexed_samples(bundle, count, data_root=data_root, dataset=dataset)
    return spikes, labels


def load_indexed_samples(
    bundle: Bundle,
    count: int = 0,
    *,
    data_root: Path | None = None,
    dataset: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Test images as the bundle's network sees them, their classes, and their places.

    Args:
        bundle: says dataset, encoding and T_max.
        count: how many, spread evenly over the test split; 0 for all.
        data_root: where datasets other than the embedded one lie.
        dataset: another dataset of the same shape and classes instead of the bundle's own.

    Returns:
        uint8 (N, C, H, W, T), int64 (N,), and the index of each in the test split, int64 (N,).

    Raises:
        ConfigError: a negative count.
        DataError: the dataset is missing or damaged.
        BundleError: the dataset's images or classes do not fit the bundle.
    """
    if count < 0:
        raise ConfigError(f"{count} samples asked for", "use 0 for the whole test split")
    raw = dict(bundle.manifest.data)
    if dataset is not None:
        raw["dataset"] = dataset
    config = from_dict(DataConfig, raw)
    images = load(config, data_root, "test")
    if images.shape != bundle.net.input_shape or len(images.classes) != bundle.manifest.classes:
        raise BundleError(
            f"dataset '{config.dataset}' has images {images.shape} of {len(images.classes)} classes,"
            f" bundle '{bundle.path}' takes {bundle.net.input_shape} of {bundle.manifest.classes}",
            "choose the dataset the bundle was trained on",
        )
    if 0 < count < len(images):
        rows = np.linspace(0, len(images) - 1, count).astype(int)
        images = images.take(np.unique(rows))
    spikes = encode(images.images(), config.encoding, bundle.manifest.t_max, indices=images.index)
    return spikes, images.labels, images.index
