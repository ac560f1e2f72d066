"""Batches of one epoch: order, augmentation and random spikes are a pure function of (seed, epoch), so
that a run that resumes sees exactly what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neucodex_lava.config import DataConfig, TrainConfig
from neucodex_lava.data import ImageSet, SampleSet, encode
from neucodex_lava.training.augmentation import augmented, mixed
from neucodex_lava.training.distributed import World
from neucodex_lava.training.event_augmentation import augmented_events

ALONE = World()
Batch = tuple[Tensor, Tensor]
"""Input (T, N, C, H, W) float32; labels int64 (N,), or probabilities of the classes float32 (N, K)."""


def train_batches(
    samples: SampleSet, data: DataConfig, train: TrainConfig, epoch: int, world: World = ALONE
) -> Iterator[Batch]:
    """Shuffled and augmented batches; the last one is dropped when smaller than half a batch.

    Args:
        samples: what is trained on.
        data: how they become inputs.
        train: batch size, augmentation, seed.
        epoch: from 0.
        world: the processes that share each batch; each gets every so manieth sample of it, as many as
            the others, and augments them by chance of its own.
    """
    generator = np.random.Philox(key=[train.seed % 2**64, epoch])
    rng = np.random.Generator(generator)
    order = rng.permutation(len(samples))
    if world.size > 1:
        rng = np.random.Generator(generator.jumped(1 + world.rank))
    size, seen = train.batch_size, _with_spikes_of(data, epoch)
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        if len(rows) < max(size / 2, world.size) and first > 0:
            return
        shared = len(rows) // world.size * world.size
        yield _batch(samples, rows[world.rank : shared : world.size], seen, train, rng)


def _with_spikes_of(data: DataConfig, epoch: int) -> DataConfig:
    """The data with random spikes that are new in each epoch, and never those that are evaluated."""
    words = np.random.SeedSequence([data.encoding.seed % 2**64, 1 + epoch]).generate_state(
        1, np.uint64
    )
    return replace(data, encoding=replace(data.encoding, seed=int(words[0])))


def _batch(
    samples: SampleSet,
    rows: NDArray[np.int64],
    data: DataConfig,
    train: TrainConfig,
    rng: np.random.Generator,
) -> Batch:
    options = train.augmentation
    labels = samples.labels[rows]
    if isinstance(samples, ImageSet):
        pixels = augmented(samples, rows, rng, options) if train.augment else samples.images(rows)
        targets = labels
        if options.mixup:
            pixels, targets = mixed(pixels, labels, len(samples.classes), options.mixup, rng)
        spikes = encode(pixels, data.encoding, data.timesteps, indices=samples.index[rows])
        return to_time_first(spikes), torch.from_numpy(targets)
    frames = samples.inputs(data, rows)
    if train.augment:
        frames = augmented_events(frames, rng, mirror=samples.flip_ok, drop=options.event_drop)
    return to_time_first(frames), torch.from_numpy(labels)


def count_batches(samples: SampleSet, batch_size: int) -> int:
    """How many batches `train_batches` gives."""
    whole, rest = divmod(len(samples), batch_size)
    return max(1, whole + (rest >= batch_size / 2))


def ordered_batches(samples: SampleSet, data: DataConfig, batch_size: int) -> Iterator[Batch]:
    """All samples in order, unaugmented."""
    for part in samples.batches(batch_size):
        yield to_time_first(part.inputs(data)), torch.from_numpy(part.labels)


def to_time_first(spikes: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, C, H, W, T) as float32 (T, N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes, -1, 0))).float()
