"""Batches of one epoch: order and augmentation are a pure function of (seed, epoch), so that a run
that resumes at an epoch sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neucodex_lava.config import DataConfig
from neucodex_lava.data import ImageSet, encode


def train_batches(
    images: ImageSet, data: DataConfig, *, batch_size: int, epoch: int, seed: int, augment: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches: input (T, N, C, H, W) float32 and labels (N,).

    The last batch is dropped when smaller than half a batch.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch]))
    order = rng.permutation(len(images))
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        if len(rows) < batch_size / 2 and first > 0:
            return
        pixels = images.images(rows)
        if augment:
            pixels = augmented(pixels, rng, flip=images.flip_ok)
        spikes = encode(pixels, data.encoding, data.timesteps, indices=images.index[rows])
        yield to_time_first(spikes), torch.from_numpy(images.labels[rows])


def count_batches(images: ImageSet, batch_size: int) -> int:
    """How many batches `train_batches` gives."""
    whole, rest = divmod(len(images), batch_size)
    return max(1, whole + (rest >= batch_size / 2))


def ordered_batches(
    images: ImageSet, data: DataConfig, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, unaugmented."""
    for part in images.batches(batch_size):
        spikes = encode(part.images(), data.encoding, data.timesteps, indices=part.index)
        yield to_time_first(spikes), torch.from_numpy(part.labels)


def to_time_first(spikes: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, C, H, W, T) as float32 (T, N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes, -1, 0))).float()


def augmented(
    pixels: NDArray[np.float32], rng: np.random.Generator, *, flip: bool
) -> NDArray[np.float32]:
    """Each image shifted by up to an eighth of its side (filled with 0), and mirrored if allowed.

    Args:
        pixels: (N, C, H, W).
        rng: source of the shifts.
        flip: mirror every other image, by chance.
    """
    n, _, height, width = pixels.shape
    reach = max(1, height // 8)
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    dy, dx = rng.integers(0, 2 * reach + 1, (2, n))
    rows = dy[:, None] + np.arange(height)
    columns = dx[:, None] + np.arange(width)
    image = np.arange(n)[:, None, None]
    shifted = padded[image, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    if flip:
        mirror = rng.random(n) < 0.5
        shifted = np.where(mirror[:, None, None, None], shifted[..., ::-1], shifted)
    return np.ascontiguousarray(shifted)
