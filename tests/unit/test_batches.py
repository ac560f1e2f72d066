"""Batches are a function of seed and epoch; augmentation stays in range and keeps images alike."""

import numpy as np
import torch

from neucodex_lava.config import DataConfig
from neucodex_lava.data import load
from neucodex_lava.training.batches import (
    augmented,
    count_batches,
    cropped,
    train_batches,
)

DATA = DataConfig(timesteps=3)


def epoch(number: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    images = load(DATA, split="train").take(slice(0, 200))
    return list(train_batches(images, DATA, batch_size=64, epoch=number, seed=seed, augment=True))


def test_an_epoch_is_the_same_whenever_it_is_drawn() -> None:
    first, again, other = epoch(3), epoch(3), epoch(4)
    assert [len(y) for _, y in first] == [64, 64, 64]
    assert len(first) == count_batches(load(DATA, split="train").take(slice(0, 200)), 64)
    for (x, y), (u, v) in zip(first, again):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], epoch(3, seed=1)[0][0])
    assert first[0][0].shape == (3, 64, 1, 8, 8)


def test_photographs_are_cropped_and_mirrored() -> None:
    rng = np.random.default_rng(0)
    images = np.arange(1, 65, dtype=np.float32).reshape(1, 1, 8, 8).repeat(400, 0)
    found = cropped(images, rng)
    assert found.shape == images.shape
    plain, mirrored = 0, 0
    for image in found[:, 0]:
        inner = image[1:-1, 1:-1]
        steps = np.diff(inner, axis=1)
        assert np.abs(steps[inner[:, 1:] * inner[:, :-1] > 0]).max() == 1
        plain += steps[3, 2] == 1
        mirrored += steps[3, 2] == -1
    assert plain + mirrored == 400
    assert 150 < plain < 250


def test_drawings_are_moved_a_little_and_never_mirrored() -> None:
    images = load(DATA, split="test").images()
    found = augmented(images, np.random.default_rng(1), flip=False)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    flat, moved = images.reshape(360, -1), found.reshape(360, -1)
    alike = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(flat, moved)]
    mirror = [
        float(np.corrcoef(a, b.reshape(8, 8)[:, ::-1].ravel())[0, 1]) for a, b in zip(flat, moved)
    ]
    assert np.mean(alike) > 0.8
    assert np.mean(mirror) < np.mean(alike) - 0.3
    assert not np.array_equal(images, found)
