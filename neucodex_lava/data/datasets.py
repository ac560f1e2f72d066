"""Datasets by name: images and recordings, embedded or from a data root; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.caltech import caltech101
from neucodex_lava.data.event_datasets import cifar10dvs, dvs128gesture, ncaltech101, nmnist
from neucodex_lava.data.events import bin_events
from neucodex_lava.data.files import CIFAR10_CLASSES, read_cifar10, read_cifar100, read_mnist
from neucodex_lava.data.own import own
from neucodex_lava.data.roots import find_root
from neucodex_lava.data.saccades import saccade_events
from neucodex_lava.data.sets import EventSet, ImageSet, SampleSet, Split
from neucodex_lava.data.splits import held_out, mixed, split_off, stratified
from neucodex_lava.errors import DataError, MissingDependencyError

Reader = Callable[[DataConfig, Path | str | None, Split], SampleSet]
DIGITS_TEST = 360
DIGITS_SEED = 0
"""The digits' test images are the same for every run: a bundle is never tested on what another seed
of it was trained on."""
DIGITS_CAMERA = 16
"""Height and width of the camera that sees the digits, where no size is chosen."""
BY_CLASS = ("caltech101", "nmnist", "ncaltech101", "cifar10dvs", "dvs128gesture", "own")
"""Datasets whose files lie class by class: their training samples are mixed, once and for all, so that
the first ones are of all classes."""
ORDER_SEED = 0
HOLDOUT_SEED = 0
"""Of the choice of samples held out, the same for every run: a bundle is never calibrated on what its
base was trained on. It depends on the samples to choose from, too: `training.stages` refuses weights
from a run that chose among others."""
TEST_SHARES = {"caltech101": 0.2, "ncaltech101": 0.2, "cifar10dvs": 0.1}
"""Share of test samples of each class, of datasets that come undivided."""


def load(
    config: DataConfig, data_root: Path | str | None = None, split: Split = "train"
) -> SampleSet:
    """One split of the configured dataset.

    ``digits``: scikit-learn's 1,797 scanned digits (1, 8, 8), split once and for all into 1,437 and
    360, stratified; ``digitsdvs``: the same as events of a simulated camera (2, 16, 16). Both need no
    files. All others lie in the data root as docs/datasets.md says: ``mnist`` (1, 28, 28), ``cifar10``
    and ``cifar100`` (3, 32, 32), ``caltech101`` (3, 64, 64), ``nmnist`` (2, 34, 34), ``cifar10dvs`` and
    ``dvs128gesture`` (2, 128, 128), ``ncaltech101`` (2, 180, 240); ``own``, of any shape, are a user's
    own arrays (`neucodex_lava.data.own`).

    Args:
        config: its `dataset`; `train_limit` keeps only the first samples of the training split, and
            `holdout` of these, of all classes in proportion, are not in it.
        data_root: folder that holds the datasets' folders; by default the environment variable
            NEUCODEX_DATA.
        split: ``train``, ``holdout`` (what the training split leaves out) or ``test``; ``all``, of
            Caltech101, N-Caltech101 and CIFAR10-DVS, which come undivided, is both.

    Raises:
        DataError: unknown split, no data root, missing, truncated or malformed files; too few training
            samples to hold so many out, or none held out.
        MissingDependencyError: a package that reads the dataset is not installed.
    """
    if split not in get_args(Split):
        raise DataError(f"unknown split '{split}'", "choose train, holdout or test")
    if split == "all" and config.dataset not in TEST_SHARES:
        raise DataError(f"{config.dataset} has a training and a test split", "choose one of them")
    part: Split = "train" if split == "holdout" else split
    samples = READERS[config.dataset](config, data_root, part)
    if part != "all" and config.dataset in TEST_SHARES:
        share = TEST_SHARES[config.dataset]
        test = held_out(samples, share, config.split_seed)
        samples = samples.take(test if part == "test" else ~test)
    return samples if part != "train" else _train_or_holdout(samples, config, split)


def _train_or_holdout(samples: SampleSet, config: DataConfig, split: Split) -> SampleSet:
    """Of the training samples those to train on, or those held out."""
    if config.dataset in BY_CLASS:
        samples = mixed(samples, ORDER_SEED)
    if 0 < config.train_limit < len(samples):
        samples = samples.take(slice(0, config.train_limit))
    if config.holdout:
        train, held = split_off(samples, config.holdout, HOLDOUT_SEED)
        return train if split == "train" else replace(held, split="holdout")
    if split == "holdout":
        raise DataError("no training samples were held out", "train with --holdout N")
    return samples


def _digits(config: DataConfig, data_root: Path | str | None, split: Split) -> ImageSet:
    try:
        from sklearn.datasets import load_digits  # slow, and not everyone has it
    except ImportError as error:
        raise MissingDependencyError(
            "the digits come with scikit-learn, which is not installed",
            "pip install 'neucodex-lava[train]'",
        ) from error
    raw: Any = load_digits()
    pixels = np.asarray(raw.images).astype(np.uint8)[:, None]
    labels = np.asarray(raw.target).astype(np.int64)
    test = stratified(labels, DIGITS_TEST, DIGITS_SEED)
    return _image_set(
        "digits", split, pixels, labels, scale=16, flip_ok=False, classes=_TEN_DIGITS
    ).take(test if split == "test" else ~test)


def _digitsdvs(config: DataConfig, data_root: Path | str | None, split: Split) -> EventSet:
    digits = _digits(config, data_root, split)
    if split == "train" and config.train_limit:
        digits = digits.take(slice(0, config.train_limit))  # the others need not be simulated
    size = config.size or DIGITS_CAMERA
    recordings = saccade_events(digits.images()[:, 0], size, config.encoding.seed, digits.index)
    frames = [bin_events(r, (size, size), config.timesteps, config.bins) for r in recordings]
    return EventSet(
        name="digitsdvs",
        split=split,
        labels=digits.labels,
        index=np.arange(len(digits), dtype=np.int64),
        classes=_TEN_DIGITS,
        flip_ok=False,
        frames=np.stack(frames),
    )


def _mnist(config: DataConfig, data_root: Path | str | None, split: Split) -> ImageSet:
    pixels, labels = read_mnist(find_root(data_root, "mnist", "MNIST/raw"), split == "train")
    return _image_set("mnist", split, pixels, labels, 255, False, _TEN_DIGITS)


def _cifar10(config: DataConfig, data_root: Path | str | None, split: Split) -> ImageSet:
    root = find_root(data_root, "cifar10", "cifar-10-batches-py")
    pixels, labels = read_cifar10(root, split == "train")
    return _image_set("cifar10", split, pixels, labels, 255, True, CIFAR10_CLASSES)


def _cifar100(config: DataConfig, data_root: Path | str | None, split: Split) -> ImageSet:
    root = find_root(data_root, "cifar100", "cifar-100-python")
    (pixels, labels), classes = read_cifar100(root, split == "train")
    return _image_set("cifar100", split, pixels, labels, 255, True, classes)


READERS: dict[str, Reader] = {
    "digits": _digits,
    "mnist": _mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "caltech101": caltech101,
    "digitsdvs": _digitsdvs,
    "nmnist": nmnist,
    "cifar10dvs": cifar10dvs,
    "ncaltech101": ncaltech101,
    "dvs128gesture": dvs128gesture,
    "own": own,
}
_TEN_DIGITS = tuple("0123456789")


def _image_set(
    name: str,
    split: Split,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    scale: int,
    flip_ok: bool,
    classes: tuple[str, ...],
) -> ImageSet:
    index = np.arange(len(labels), dtype=np.int64)
    return ImageSet(
        name=name,
        split=split,
        pixels=pixels,
        scale=scale,
        labels=labels,
        index=index,
        classes=classes,
        flip_ok=flip_ok,
    )
