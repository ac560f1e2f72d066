"""Dividing samples: stratified, by a seed, the same in every version of numpy."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.data.sets import SampleSet
from neucodex_lava.errors import DataError

Samples = TypeVar("Samples", bound=SampleSet)


def split_off(samples: Samples, count: int, seed: int) -> tuple[Samples, Samples]:
    """(the rest, `count` samples held out): stratified, in their own order, the same for a seed.

    Exit thresholds are calibrated on samples held out of the training split, never on test samples.

    Args:
        samples: the set to divide.
        count: how many to hold out, from 1 to all but one.
        seed: any integer.

    Raises:
        DataError: a count out of range.
    """
    if not 1 <= count < len(samples):
        raise DataError(f"cannot hold {count} of {len(samples)} images out")
    held = stratified(samples.labels, count, seed)
    return samples.take(~held), samples.take(held)


def mixed(samples: Samples, seed: int) -> Samples:
    """The same samples in an order drawn by a seed: the first ones are of all classes."""
    return samples.take(_drawn(len(samples), seed))


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.bool_]:
    """Mask (N,) of `count` samples whose classes are in proportion, by largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    share = sizes * count / len(labels)
    quota = np.floor(share).astype(np.int64)
    left = count - int(quota.sum())
    quota[np.argsort(quota - share, kind="stable")[:left]] += 1
    return _chosen(labels, classes, quota, seed)


def held_out(samples: SampleSet, share: float, seed: int) -> NDArray[np.bool_]:
    """Mask (N,) of test samples: of each class `share`, rounded, at least one and not all.

    Args:
        samples: a whole dataset.
        share: 0..1.
        seed: any integer.

    Raises:
        DataError: a class with less than two samples.
    """
    labels, names = samples.labels, samples.classes
    sizes = np.bincount(labels, minlength=len(names))
    for name, size in zip(names, sizes):
        if size < 2:
            raise DataError(
                f"{samples.name}: class '{name}' has {size} {'sample' if size == 1 else 'samples'}:"
                f" it cannot be divided into {100 * (1 - share):.0f} % training and"
                f" {100 * share:.0f} % test samples",
                "add samples, or leave the class out with --classes",
            )
    quota = np.clip(np.rint(sizes * share).astype(np.int64), 1, sizes - 1)
    return _chosen(labels, np.arange(len(names)), quota, seed)


def _chosen(
    labels: NDArray[np.int64], classes: NDArray[np.int64], quota: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Mask of the first samples of each class, in an order drawn by the seed."""
    order = _drawn(len(labels), seed)
    chosen = np.zeros(len(labels), np.bool_)
    for cls, n in zip(classes, quota):
        chosen[order[labels[order] == cls][:n]] = True
    return chosen


def _drawn(count: int, seed: int) -> NDArray[np.intp]:
    """A random order, from Philox's raw words: the same in every version of numpy."""
    return np.argsort(np.random.Philox(key=seed % 2**64).random_raw(count), kind="stable")
