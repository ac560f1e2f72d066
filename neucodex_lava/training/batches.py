"""Batches of one epoch: order and augmentation are a pure function of (seed, epoch), so that a run
that resumes at an epoch sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.config import DataConfig
from neucodex_lava.data import ImageSet, SampleSet, encode


def train_batches(
    images: SampleSet, data: DataConfig, *, batch_size: int, epoch: int, seed: int, augment: bool
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
        if augment and isinstance(images, ImageSet):
            pixels = augmented(images.images(rows), rng, flip=images.flip_ok)
            spikes = encode(pixels, data.encoding, data.timesteps, indices=images.index[rows])
        else:
            spikes = images.inputs(data, rows)
        yield to_time_first(spikes), torch.from_numpy(images.labels[rows])


def count_batches(images: SampleSet, batch_size: int) -> int:
    """How many batches `train_batches` gives."""
    whole, rest = divmod(len(images), batch_size)
    return max(1, whole + (rest >= batch_size / 2))


def ordered_batches(
    images: SampleSet, data: DataConfig, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order, unaugmented."""
    for part in images.batches(batch_size):
        yield to_time_first(part.inputs(data)), torch.from_numpy(part.labels)


def to_time_first(spikes: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, C, H, W, T) as float32 (T, N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes, -1, 0))).float()


def augmented(
    pixels: NDArray[np.float32], rng: np.random.Generator, *, flip: bool
) -> NDArray[np.float32]:
    """Photographs are cropped and mirrored, drawings (digits) turned, scaled and shifted a little.

    Args:
        pixels: (N, C, H, W).
        rng: source of all chance.
        flip: whether a mirrored image keeps its class, which is so for photographs.
    """
    return cropped(pixels, rng) if flip else turned(pixels, rng)


def cropped(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shifted by up to an eighth of the side (filled with 0), and every other image mirrored."""
    n, _, height, width = pixels.shape
    reach = max(1, height // 8)
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    dy, dx = rng.integers(0, 2 * reach + 1, (2, n))
    rows = dy[:, None] + np.arange(height)
    columns = dx[:, None] + np.arange(width)
    image = np.arange(n)[:, None, None]
    shifted = padded[image, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    mirror = rng.random(n) < 0.5
    shifted = np.where(mirror[:, None, None, None], shifted[..., ::-1], shifted)
    return np.ascontiguousarray(shifted)


TURN_DEGREES, SCALE, SHIFT = 10.0, 0.1, 0.075
"""How far drawings are turned, scaled, and shifted (a share of the side), at most."""


def turned(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A small random rotation, scale and shift of each image, interpolated bilinearly."""
    n = len(pixels)
    angle = np.deg2rad(rng.uniform(-TURN_DEGREES, TURN_DEGREES, n))
    scale = rng.uniform(1 - SCALE, 1 + SCALE, n)
    shift = 2 * rng.uniform(-SHIFT, SHIFT, (2, n))  # the grid is 2 wide
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    maps = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]], np.float32)
    grid = F.affine_grid(
        torch.from_numpy(maps).permute(2, 0, 1), list(pixels.shape), align_corners=False
    )
    moved = F.grid_sample(torch.from_numpy(pixels), grid, align_corners=False)
    return moved.clamp(0, 1).numpy()
