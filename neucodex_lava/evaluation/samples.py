"""Encoded test samples of a bundle: its dataset, its encoding, its T_max."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle
from neucodex_lava.config import DataConfig, EncodingConfig, from_dict
from neucodex_lava.data import ImageSet, encode, load
from neucodex_lava.errors import BundleError, ConfigError

Rows = slice | NDArray[np.intp]


class Samples(Protocol):
    """What a network is to see, made as it is needed: a whole test split need not fit in memory."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    @property
    def timesteps(self) -> int:
        """T of each."""
        ...

    def take(self, rows: Rows = slice(None)) -> NDArray[np.uint8]:
        """Some of them, uint8 (N, C, H, W, T)."""
        ...

    def identity(self) -> dict[str, Any]:
        """JSON values that say which samples these are, to the last bit."""
        ...


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images of a dataset, encoded when taken.

    Attributes:
        images: the images.
        encoding: how they become spikes.
        timesteps: T of each.
    """

    images: ImageSet
    encoding: EncodingConfig
    timesteps: int

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Rows = slice(None)) -> NDArray[np.uint8]:
        """Some of them, uint8 (N, C, H, W, T)."""
        part = self.images.take(rows)
        return encode(part.images(), self.encoding, self.timesteps, indices=part.index)

    def identity(self) -> dict[str, Any]:
        """Dataset, encoding, and a sha256 of the images."""
        return {
            "dataset": self.images.name,
            "encoding": asdict(self.encoding),
            "samples": len(self),
            "timesteps": self.timesteps,
            "sha256": _sha256(self.images.pixels, self.images.index),
        }


@dataclass(frozen=True, eq=False)
class GivenSamples:
    """Samples that are there already.

    Attributes:
        inputs: uint8 (N, C, H, W, T).
    """

    inputs: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def timesteps(self) -> int:
        """T of each."""
        return int(self.inputs.shape[-1])

    def take(self, rows: Rows = slice(None)) -> NDArray[np.uint8]:
        """Some of them, uint8 (N, C, H, W, T)."""
        return np.asarray(self.inputs[rows])

    def identity(self) -> dict[str, Any]:
        """Shape and sha256."""
        return {"shape": list(self.inputs.shape), "sha256": _sha256(self.inputs)}


def _sha256(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        for row in array:  # an array mapped from a file is never in memory as a whole
            digest.update(np.ascontiguousarray(row).tobytes())
    return digest.hexdigest()


def open_samples(
    bundle: Bundle,
    count: int = 0,
    *,
    data_root: Path | None = None,
    dataset: str | None = None,
) -> EncodedImages:
    """Test images as the bundle's network sees them; their classes are ``images.labels``.

    Args:
        bundle: says dataset, encoding and T_max.
        count: how many, spread evenly over the test split; 0 for all.
        data_root: where datasets other than the embedded one lie.
        dataset: another dataset of the same shape and classes instead of the bundle's own.

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
    return EncodedImages(images, config.encoding, bundle.manifest.t_max)


def load_samples(
    bundle: Bundle,
    count: int = 0,
    *,
    data_root: Path | None = None,
    dataset: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The samples of `open_samples` at once, uint8 (N, C, H, W, T), and their classes, int64 (N,)."""
    spikes, labels, _ = load_indexed_samples(bundle, count, data_root=data_root, dataset=dataset)
    return spikes, labels


def load_indexed_samples(
    bundle: Bundle,
    count: int = 0,
    *,
    data_root: Path | None = None,
    dataset: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The same, and the index of each in the test split, int64 (N,)."""
    samples = open_samples(bundle, count, data_root=data_root, dataset=dataset)
    return samples.take(), samples.images.labels, samples.images.index
