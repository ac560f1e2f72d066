"""Encodings: pure functions from images in [0, 1] to what the network sees at each timestep.

All take images (N, C, H, W) and give uint8 (N, C, H, W, T). ``deterministic`` and ``bernoulli`` are
rate codes of 0 and 1; ``direct`` repeats unsigned b-bit integers, so that the first layer counts MACs.
None depends on the batch an image comes in, nor on T: the first t timesteps are those of any longer
run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import EncodingConfig
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.integer_net import SUM_MAX

Images = NDArray[np.floating[Any]]
Spikes = NDArray[np.uint8]

PHASE = np.float32(0.5)
"""Phase of the deterministic code. With one half, the number of spikes after *every* timestep t is
t * x rounded to the nearest integer: no other phase makes early timesteps as informative."""

DIRECT_BITS = range(2, 9)
"""Bits that direct coding may use."""


def encode(
    images: Images,
    config: EncodingConfig,
    timesteps: int,
    first_index: int = 0,
    indices: NDArray[np.integer[Any]] | None = None,
) -> Spikes:
    """Images as the configured encoding shows them to the network.

    Args:
        images: (N, C, H, W), floating point, in [0, 1].
        config: which encoding; its seed is used by ``bernoulli`` alone, its bits by ``direct`` alone.
        timesteps: T, at least 1.
        first_index: index in the dataset of the first image; the others follow it.
        indices: (N,) index of each image instead, for batches that are not contiguous.

    Returns:
        uint8 (N, C, H, W, T).

    Raises:
        DataError: images of another shape or type, or outside [0, 1].
        ConfigError: timesteps below 1.
    """
    if config.name == "direct":
        return direct(images, timesteps, config.bits)
    if config.name == "bernoulli":
        if indices is None:
            indices = np.arange(first_index, first_index + len(images))
        return bernoulli(images, timesteps, config.seed, indices)
    return deterministic(images, timesteps)


def deterministic(images: Images, timesteps: int) -> Spikes:
    """Equally spaced spikes: one at t wherever ``floor(t * x + 1/2)`` grows.

    After t timesteps a pixel x has sent round(t * x) spikes (halves round up).

    Args:
        images: (N, C, H, W), in [0, 1].
        timesteps: T, at least 1.

    Returns:
        uint8 (N, C, H, W, T) of 0 and 1.

    Raises:
        DataError, ConfigError: as `encode`.
    """
    x = _checked(images, timesteps)
    t = np.arange(timesteps + 1, dtype=np.float32)
    sent = np.floor(x[..., None] * t + PHASE).astype(np.uint16)
    return np.diff(sent, axis=-1).astype(np.uint8)


def bernoulli(
    images: Images, timesteps: int, seed: int, indices: NDArray[np.integer[Any]]
) -> Spikes:
    """Independent random spikes: at each timestep one with probability x.

    Image i of a dataset always gives the same spikes for a seed, whatever else is in the batch: the
    random numbers come from the counter-based generator Philox (Salmon et al., "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011) keyed by (seed, i). Its raw words are used, which numpy
    keeps the same from version to version.

    Args:
        images: (N, C, H, W), in [0, 1].
        timesteps: T, at least 1.
        seed: any integer.
        indices: (N,) index of each image in its dataset, at least 0.

    Returns:
        uint8 (N, C, H, W, T) of 0 and 1.

    Raises:
        DataError: as `encode`, or not one index per image.
        ConfigError: as `encode`.
    """
    x = _checked(images, timesteps)
    indices = np.asarray(indices)
    if indices.shape != (len(x),) or (indices < 0).any():
        raise DataError(f"{len(x)} images need as many indices from 0, found {indices.shape}")
    size = int(np.prod(x.shape[1:]))
    words = -(-size // 2)  # each 64-bit word of the generator serves two pixels
    spikes = np.empty((*x.shape, timesteps), np.uint8)
    limit = x.astype(np.float64) * 2.0**32
    for n, index in enumerate(indices):
        key = np.array([seed % 2**64, int(index)], np.uint64)
        raw = np.random.Philox(key=key).random_raw(timesteps * words)
        numbers = raw.astype("<u8").view("<u4").reshape(timesteps, 2 * words)[:, :size]
        fired = numbers < limit[n].reshape(1, -1)
        spikes[n] = np.moveaxis(fired.reshape(timesteps, *x.shape[1:]), 0, -1)
    return spikes


def direct(images: Images, timesteps: int, bits: int) -> Spikes:
    """The pixel as an unsigned integer, round(x * (2^bits - 1)), at every timestep.

    Args:
        images: (N, C, H, W), in [0, 1].
        timesteps: T, at least 1.
        bits: b, 2..8.

    Returns:
        uint8 (N, C, H, W, T) of 0 .. 2^bits - 1.

    Raises:
        DataError: as `encode`.
        ConfigError: as `encode`, or bits outside [2, 8].
    """
    if bits not in DIRECT_BITS:
        raise ConfigError(f"direct coding with {bits} bits is outside [2, 8]")
    x = _checked(images, timesteps)
    values = np.floor(x * np.float32((1 << bits) - 1) + np.float32(0.5)).astype(np.uint8)
    return np.repeat(values[..., None], timesteps, axis=-1)


def direct_bits(weight_sum: int, bias: int = 0, growth: float = 1.0) -> int:
    """The most bits of direct coding for which the first layer can neither wrap nor clip.

    The largest b in 2..8 with ``(weight_sum * (2^b - 1) + bias) * growth <= SUM_MAX``: weight_sum
    is reached when every input that has a weight of one sign is at its largest.

    Args:
        weight_sum: worst-case one-sided sum of absolute weights over a neuron's synapses, that is
            the larger of the two numbers that `integer_net.worst_case_sums` gives for 1-bit input.
        bias: largest absolute bias of the layer.
        growth: how far the membrane potential can grow beyond one timestep's sum; 4096 / vDecay,
            which is 2 for the paper's LIF.

    Returns:
        Bits, 2..8.

    Raises:
        ConfigError: even 2 bits could overflow.
    """
    fitting = [b for b in DIRECT_BITS if (weight_sum * (2**b - 1) + bias) * growth <= SUM_MAX]
    if not fitting:
        most = (3 * weight_sum + bias) * growth
        raise ConfigError(
            f"direct coding: with 2 bits the first layer's potential can reach {most:.0f},"
            f" the limit is {SUM_MAX}",
            "use a smaller gain for the first layer, or a rate encoding",
        )
    return fitting[-1]


def _checked(images: Images, timesteps: int) -> NDArray[np.float32]:
    if timesteps < 1:
        raise ConfigError(f"T_max is {timesteps}, it must be at least 1")
    if images.ndim != 4 or not np.issubdtype(images.dtype, np.floating):
        raise DataError(
            f"images to encode are {images.dtype} {images.shape}, expected floats (N, C, H, W)"
        )
    # Written so that NaN fails too.
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"pixels from {images.min():g} to {images.max():g} are outside [0, 1]",
            "divide images by their largest possible value before encoding them",
        )
    return images.astype(np.float32, copy=False)
