"""Chance in training recordings: mirrored, shifted, and with events missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.training.augmentation import cropped


def augmented_events(
    frames: NDArray[np.uint8], rng: np.random.Generator, *, mirror: bool, drop: float
) -> NDArray[np.uint8]:
    """Recordings shifted by up to an eighth of the side, mirrored or not, and thinned.

    Args:
        frames: counts of events, (N, 2, H, W, T).
        rng: source of all chance.
        mirror: whether a mirrored recording keeps its class.
        drop: the largest share of a recording that may go missing.
    """
    n, polarities, height, width, steps = frames.shape
    flat = frames.transpose(0, 1, 4, 2, 3).reshape(n, polarities * steps, height, width)
    moved = cropped(flat, rng, mirror=mirror)
    moved = moved.reshape(n, polarities, steps, height, width).transpose(0, 1, 3, 4, 2)
    return dropped(moved, rng, drop) if drop else moved


def dropped(frames: NDArray[np.uint8], rng: np.random.Generator, drop: float) -> NDArray[np.uint8]:
    """EventDrop (Gu et al., IJCAI 2021): each recording stays whole, or loses single events, a span of
    time, or a rectangle, each with a probability of a quarter.

    Args:
        frames: counts of events, (N, 2, H, W, T).
        rng: source of all chance.
        drop: the largest share of events, of timesteps or of the area that is lost.
    """
    n, _, height, width, steps = frames.shape
    way, share = rng.integers(0, 4, n), rng.uniform(0, drop, n)
    thinned = rng.binomial(frames, 1 - share[:, None, None, None, None]).astype(np.uint8)
    length = np.rint(share * steps)
    first = np.floor(rng.random(n) * (steps - length + 1))
    span = _between(first, length, steps)[:, None, None, None, :]
    side = np.sqrt(share)
    top, left = (np.floor(rng.random(n) * size * (1 - side)) for size in (height, width))
    rows = _between(top, np.rint(side * height), height)[:, None, :, None, None]
    columns = _between(left, np.rint(side * width), width)[:, None, None, :, None]
    which = way[:, None, None, None, None]
    lost = ((which == 2) & span) | ((which == 3) & rows & columns)
    return np.where(lost, np.uint8(0), np.where(which == 1, thinned, frames))


def _between(
    first: NDArray[np.float64], length: NDArray[np.float64], size: int
) -> NDArray[np.bool_]:
    """(N, size): the places from `first` on, `length` of them."""
    place = np.arange(size)[None] - first[:, None]
    return (place >= 0) & (place < length[:, None])
