"""Chance in training images: a pure function of the pixels and of a random generator.

Whole batches at a time: a few array operations, no loop over images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from neucodex_lava.config import AugmentConfig
from neucodex_lava.data import ImageSet
from neucodex_lava.training.policies import apply_policy

TURN_DEGREES, SCALE, SHIFT = 10.0, 0.1, 0.075
"""How far drawings are turned, scaled, and shifted (a share of the side), at most."""


def augmented(
    images: ImageSet,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
    options: AugmentConfig,
) -> NDArray[np.float32]:
    """Chosen images: photographs shifted, mirrored, recoloured and cut, drawings moved a little.

    Args:
        images: photographs (`flip_ok`) or drawings.
        rows: which of them.
        rng: source of all chance.
        options: what is done to photographs beyond shift and mirror.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    if not images.flip_ok:
        return turned(images.images(rows), rng)
    pixels = cropped(images.pixels[rows], rng)
    if options.policy != "none":
        pixels = apply_policy(pixels, options.policy, options.strength, rng)
    if options.cutout:
        pixels = with_hole(pixels, options.cutout, rng)
    return pixels.astype(np.float32) / np.float32(images.scale)


def cropped(pixels: NDArray[Any], rng: np.random.Generator, *, mirror: bool = True) -> NDArray[Any]:
    """Shifted by up to an eighth of the side (filled with 0), and every other image mirrored.

    Args:
        pixels: (N, C, H, W).
        rng: source of all chance.
        mirror: False: shifted only.
    """
    n, _, height, width = pixels.shape
    reach = max(1, height // 8)
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    dy, dx = rng.integers(0, 2 * reach + 1, (2, n))
    rows = dy[:, None] + np.arange(height)
    columns = dx[:, None] + np.arange(width)
    if mirror:
        columns = np.where(rng.random(n)[:, None] < 0.5, columns[:, ::-1], columns)
    image = np.arange(n)[:, None, None]
    shifted = padded[image, :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    return np.ascontiguousarray(shifted)


def with_hole(pixels: NDArray[Any], side: int, rng: np.random.Generator) -> NDArray[Any]:
    """Cutout (DeVries and Taylor, arXiv 1708.04552): a square of 0 around a random pixel of each image.

    Args:
        pixels: (N, C, H, W).
        side: of the square, which may reach over the border.
        rng: source of all chance.
    """
    n, _, height, width = pixels.shape
    top = rng.integers(0, height, n) - side // 2
    left = rng.integers(0, width, n) - side // 2
    y, x = np.arange(height) - top[:, None], np.arange(width) - left[:, None]
    inside_y, inside_x = (y >= 0) & (y < side), (x >= 0) & (x < side)
    hole = inside_y[:, None, :, None] & inside_x[:, None, None, :]
    return np.where(hole, pixels.dtype.type(0), pixels)


def turned(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A small random rotation, scale and shift of each image (N, C, H, W), interpolated bilinearly."""
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


def mixed(
    pixels: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    alpha: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mixup (Zhang et al., ICLR 2018): each image and label is blended with another's of the batch.

    Args:
        pixels: (N, C, H, W).
        labels: (N,).
        classes: K.
        alpha: of the Beta distribution that gives the batch's share.
        rng: source of all chance.

    Returns:
        Blended images (N, C, H, W), and the probability of each class (N, K).
    """
    share = np.float32(rng.beta(alpha, alpha))
    other = rng.permutation(len(pixels))
    target = np.eye(classes, dtype=np.float32)[labels]
    blend = share * pixels + (1 - share) * pixels[other]
    return np.clip(blend, 0, 1), share * target + (1 - share) * target[other]
