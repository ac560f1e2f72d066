"""Encoded test samples of a bundle: its dataset, its encoding, its T_max."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle
from neucodex_lava.config import DataConfig, from_dict
from neucodex_lava.data import SampleSet, load
from neucodex_lava.data.sets import Split
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.evaluation.halves import CalibrationHalf

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
class EncodedSamples:
    """Samples of a dataset, encoded or binned when taken.

    Attributes:
        samples: images or recordings.
        data: how they become spikes, and T of each.
        left_out: samples of the split that exit policies were calibrated on, which are not among these.
    """

    samples: SampleSet
    data: DataConfig
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def timesteps(self) -> int:
        """T of each."""
        return self.data.timesteps

    def take(self, rows: Rows = slice(None)) -> NDArray[np.uint8]:
        """Some of them, uint8 (N, C, H, W, T)."""
        return self.samples.inputs(self.data, rows)

    def identity(self) -> dict[str, Any]:
        """Dataset, encoding, and a sha256 of the samples."""
        return {
            "dataset": self.samples.name,
            "encoding": asdict(self.data.encoding),
            "samples": len(self),
            "timesteps": self.timesteps,
            "sha256": _sha256(self.samples.stored(), self.samples.index),
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


def _sha256(*arrays: Iterable[NDArray[Any]]) -> str:
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
    leave_out: Collection[CalibrationHalf] = (),
    split: Split = "test",
) -> EncodedSamples:
    """Samples as the bundle's network sees them; their classes are ``samples.labels``.

    Args:
        bundle: says dataset, encoding and T_max.
        count: how many, spread evenly over the split; 0 for all.
        data_root: where datasets other than the embedded one lie.
        dataset: another dataset of the same shape and classes instead of the bundle's own.
        leave_out: what exit policies were calibrated on.
        split: ``test``, or ``holdout``.

    Raises:
        ConfigError: a negative count, or a half of another test split.
        DataError: the dataset is missing or damaged.
        BundleError: the dataset's samples or classes do not fit the bundle.
    """
    raw = dict(bundle.manifest.data)
    if dataset is not None:
        raw["dataset"] = dataset
    config = replace(from_dict(DataConfig, raw), timesteps=bundle.manifest.t_max)
    found = load(config, data_root, split)
    if found.shape != bundle.net.input_shape or len(found.classes) != bundle.manifest.classes:
        raise BundleError(
            f"dataset '{config.dataset}' has samples {found.shape} of {len(found.classes)} classes,"
            f" bundle '{bundle.path}' takes {bundle.net.input_shape} of {bundle.manifest.classes}",
            "choose the dataset the bundle was trained on",
        )
    left_out = 0
    halves = [half for half in leave_out if half.dataset == config.dataset]
    if halves:
        calibrated = np.any([half.mask(found.labels) for half in halves], axis=0)
        left_out = int(calibrated.sum())
        found = found.take(~calibrated)
    return EncodedSamples(evenly(found, count), config, left_out)


def evenly(samples: SampleSet, count: int) -> SampleSet:
    """So many samples spread evenly over a set; 0 for all.

    Raises:
        ConfigError: a negative count.
    """
    if count < 0:
        raise ConfigError(f"{count} samples asked for", "use 0 for all of them")
    if not 0 < count < len(samples):
        return samples
    return samples.take(np.unique(np.linspace(0, len(samples) - 1, count).astype(int)))


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
    leave_out: Collection[CalibrationHalf] = (),
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The same, and the index of each in the test split, int64 (N,)."""
    found = open_samples(bundle, count, data_root=data_root, dataset=dataset, leave_out=leave_out)
    return found.take(), found.samples.labels, found.samples.index
