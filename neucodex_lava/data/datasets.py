"""Image datasets: the embedded digits, MNIST and CIFAR-10 from a data root; nothing is downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.files import CIFAR10_CLASSES, DataRoot, read_cifar10, read_mnist
from neucodex_lava.data.sets import ImageSet, SampleSet, Split
from neucodex_lava.errors import DataError, MissingDependencyError

Samples = TypeVar("Samples", bound=SampleSet)
ROOT_VARIABLE = "NEUCODEX_DATA"
DIGITS_TEST = 360
DIGITS_SEED = 0
"""The digits' test images are the same for every run: a bundle is never tested on what another seed
of it was trained on."""


def load(
    config: DataConfig, data_root: Path | str | None = None, split: Split = "train"
) -> SampleSet:
    """One split of the configured dataset.

    ``digits``: scikit-learn's 1,797 scanned digits (1, 8, 8), split once and for all into 1,437 and
    360, stratified; needs no files. ``mnist`` (1, 28, 28) and ``cifar10`` (3, 32, 32): their own
    60,000 and 10,000, or 50,000 and 10,000, read from the layout that torchvision uses.

    Args:
        config: its `dataset`; `train_limit` keeps only the first images of the training split.
        data_root: folder that holds ``MNIST/raw`` and ``cifar-10-batches-py``; by default the
            environment variable NEUCODEX_DATA.
        split: ``train`` or ``test``.

    Raises:
        DataError: unknown dataset or split, no data root, missing, truncated or malformed files.
        MissingDependencyError: ``digits`` without scikit-learn.
    """
    if split not in get_args(Split):
        raise DataError(f"unknown split '{split}'", "choose train or test")
    loaders: dict[str, Callable[[Path | str | None, Split], ImageSet]] = {
        "digits": _digits,
        "mnist": _mnist,
        "cifar10": _cifar10,
    }
    if config.dataset not in loaders:
        raise DataError(
            f"unknown dataset '{config.dataset}'", f"choose one of {', '.join(loaders)}"
        )
    images = loaders[config.dataset](data_root, split)
    if split == "train" and 0 < config.train_limit < len(images):
        images = images.take(slice(0, config.train_limit))
    return images


def split_off(images: Samples, count: int, seed: int) -> tuple[Samples, Samples]:
    """(the rest, `count` images held out): stratified, in their own order, the same for a seed.

    Exit thresholds are calibrated on images held out of the training split, never on test images.

    Args:
        images: the set to divide.
        count: how many to hold out, from 1 to all but one.
        seed: any integer.

    Raises:
        DataError: a count out of range.
    """
    if not 1 <= count < len(images):
        raise DataError(f"cannot hold {count} of {len(images)} images out")
    held = stratified(images.labels, count, seed)
    return images.take(~held), images.take(held)


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """Mask (N,) of `count` samples whose classes are in proportion, by largest remainder.

    The order within a class comes from Philox's raw words, so that it is the same in every version
    of numpy.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    share = sizes * count / len(labels)
    quota = np.floor(share).astype(np.int64)
    left = count - int(quota.sum())
    quota[np.argsort(quota - share, kind="stable")[:left]] += 1
    order = np.argsort(np.random.Philox(key=seed % 2**64).random_raw(len(labels)), kind="stable")
    chosen = np.zeros(len(labels), np.bool_)
    for cls, n in zip(classes, quota):
        chosen[order[labels[order] == cls][:n]] = True
    return chosen


def find_root(data_root: Path | str | None, dataset: str, folder: str) -> DataRoot:
    """The data root given, or else the one NEUCODEX_DATA names.

    Raises:
        DataError: neither is there, or it is no folder, or it lacks the dataset's folder.
    """
    given = data_root if data_root is not None else os.environ.get(ROOT_VARIABLE)
    hint = f"pass --data-root DIR or set {ROOT_VARIABLE}=DIR, where DIR/{folder} holds the dataset"
    if not given:
        raise DataError(f"{dataset} needs a data root", hint)
    root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"data root '{root}' is not a folder", hint)
    if not (root / folder).is_dir():
        raise DataError(f"{dataset}: '{root / folder}' is missing", hint)
    return DataRoot(dataset, root / folder, hint)


def _digits(data_root: Path | str | None, split: Split) -> ImageSet:
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


def _mnist(data_root: Path | str | None, split: Split) -> ImageSet:
    pixels, labels = read_mnist(find_root(data_root, "mnist", "MNIST/raw"), split == "train")
    return _image_set("mnist", split, pixels, labels, 255, False, _TEN_DIGITS)


def _cifar10(data_root: Path | str | None, split: Split) -> ImageSet:
    root = find_root(data_root, "cifar10", "cifar-10-batches-py")
    pixels, labels = read_cifar10(root, split == "train")
    return _image_set("cifar10", split, pixels, labels, 255, True, CIFAR10_CLASSES)


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
