"""RandAugment and TrivialAugment on batches of photographs.

The operations and their ranges are those of torchvision's transforms v2 (31 strengths). Each image
draws its own operation; the images of a batch that drew the same one share its strength and sign,
so that a batch costs a dozen calls instead of one for each image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from neucodex_lava.config import PolicyName

STRENGTHS = 31
RANDAUGMENT_OPERATIONS = 2
Operation = Callable[[Tensor, float, bool, int], Tensor]
"""Images (N, C, H, W), share of the largest strength (0 to 1, with a sign), whether for TrivialAugment
(which goes further), and the images' height."""


def _affine(images: Tensor, *, shift: tuple[float, float], shear: tuple[float, float]) -> Tensor:
    """Shears in degrees about the upper left corner, as torchvision's policies do; shifts in pixels."""
    moved = [float(round(shift[0])), float(round(shift[1]))]
    return vision.affine(images, 0.0, moved, 1.0, [shear[0], shear[1]], center=[0.0, 0.0])


def _degrees(slope: float) -> float:
    return float(np.rad2deg(np.arctan(slope)))


def _reach(wide: bool, side: int) -> float:
    return 32.0 if wide else 150.0 / 331.0 * side


def _colour(wide: bool) -> float:
    return 0.99 if wide else 0.9


OPERATIONS: tuple[Operation, ...] = (
    lambda x, s, wide, side: x,
    lambda x, s, wide, side: _affine(
        x, shift=(0, 0), shear=(_degrees((0.99 if wide else 0.3) * s), 0)
    ),
    lambda x, s, wide, side: _affine(
        x, shift=(0, 0), shear=(0, _degrees((0.99 if wide else 0.3) * s))
    ),
    lambda x, s, wide, side: _affine(x, shift=(_reach(wide, side) * s, 0), shear=(0, 0)),
    lambda x, s, wide, side: _affine(x, shift=(0, _reach(wide, side) * s), shear=(0, 0)),
    lambda x, s, wide, side: vision.rotate(x, (135.0 if wide else 30.0) * s),
    lambda x, s, wide, side: vision.adjust_brightness(x, 1 + _colour(wide) * s),
    lambda x, s, wide, side: vision.adjust_saturation(x, 1 + _colour(wide) * s),
    lambda x, s, wide, side: vision.adjust_contrast(x, 1 + _colour(wide) * s),
    lambda x, s, wide, side: vision.adjust_sharpness(x, 1 + _colour(wide) * s),
    lambda x, s, wide, side: vision.posterize(x, 8 - round((6 if wide else 4) * abs(s))),
    lambda x, s, wide, side: vision.solarize(x, 255.0 * (1 - abs(s))),
    lambda x, s, wide, side: vision.autocontrast(x),
    lambda x, s, wide, side: vision.equalize(x),
)
"""Nothing, shear x and y, shift x and y, turn, brightness, saturation, contrast, sharpness, posterize,
solarize, autocontrast, equalize."""


def apply_policy(
    pixels: NDArray[np.uint8], policy: PolicyName, strength: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Photographs after one operation each (trivialaugment), or two one after the other (randaugment).

    Args:
        pixels: (N, 3, H, W), values 0 to 255.
        policy: ``trivialaugment`` (Müller and Hutter, ICCV 2021) or ``randaugment`` (Cubuk et
            al., NeurIPS 2020).
        strength: of randaugment, 0 to 30; trivialaugment draws it.
        rng: source of all chance.
    """
    wide = policy == "trivialaugment"
    images = torch.from_numpy(pixels.copy())
    for _ in range(1 if wide else RANDAUGMENT_OPERATIONS):
        drawn = rng.integers(0, len(OPERATIONS), len(pixels))
        levels = (
            rng.integers(0, STRENGTHS, len(OPERATIONS)) if wide else [strength] * len(OPERATIONS)
        )
        signs = rng.choice([-1.0, 1.0], len(OPERATIONS))
        for number, (operation, level, sign) in enumerate(zip(OPERATIONS, levels, signs)):
            rows = torch.from_numpy(np.flatnonzero(drawn == number))
            if len(rows) and number:
                share = float(sign) * int(level) / (STRENGTHS - 1)
                images[rows] = operation(images[rows], share, wide, pixels.shape[-2])
    return images.numpy()
