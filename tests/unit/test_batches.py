"""Batches are a function of seed and epoch; augmentation stays in range and keeps images alike."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from neucodex_lava.config import AugmentConfig, DataConfig, EncodingConfig, TrainConfig
from neucodex_lava.data import ImageSet, load
from neucodex_lava.errors import ConfigError
from neucodex_lava.training.augmentation import augmented, cropped, mixed, with_hole
from neucodex_lava.training.batches import count_batches, ordered_batches, train_batches
from neucodex_lava.training.event_augmentation import augmented_events, dropped
from neucodex_lava.training.policies import OPERATIONS, apply_policy
from neucodex_lava.training.prefetch import prefetched

DATA = DataConfig(timesteps=3)


def epoch(number: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    images = load(DATA, split="train").take(slice(0, 200))
    return list(train_batches(images, DATA, TrainConfig(batch_size=64, seed=seed), number))


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


def test_random_spikes_are_new_in_each_epoch_and_never_those_that_are_evaluated() -> None:
    random = replace(DATA, encoding=EncodingConfig("bernoulli"))
    samples = load(random, split="train").take(slice(0, 64))
    plain = TrainConfig(batch_size=64, augment=False)

    def spikes(number: int, seed: int = 0) -> torch.Tensor:
        data = replace(random, encoding=replace(random.encoding, seed=seed))
        ((x, y),) = train_batches(samples, data, plain, number)
        order = np.random.Generator(np.random.Philox(key=[0, number])).permutation(64)
        assert (y.numpy() == samples.labels[order]).all()
        return x[:, np.argsort(order)]

    ((evaluated, _),) = ordered_batches(samples, random, 64)
    drawn = [evaluated, spikes(0), spikes(1), spikes(0, seed=1)]
    assert torch.equal(spikes(0), drawn[1])
    for i, one in enumerate(drawn):
        assert not any(torch.equal(one, other) for other in drawn[:i])
        assert one.mean() == pytest.approx(samples.images().mean(), abs=0.02)


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
    drawings = load(DATA, split="test")
    images = drawings.images()
    rows = np.arange(len(images))
    found = augmented(drawings, rows, np.random.default_rng(1), AugmentConfig())
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


def photographs(n: int = 64) -> ImageSet:
    """Noise over a ramp, in colour."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 200, 16, dtype=np.uint8)
    pixels = ramp[None, None, None] + rng.integers(0, 50, (n, 3, 16, 16)).astype(np.uint8)
    return ImageSet(
        name="photographs",
        split="train",
        labels=np.arange(n) % 10,
        index=np.arange(n),
        classes=tuple("abcdefghij"),
        flip_ok=True,
        pixels=pixels,
        scale=255,
    )


def test_a_hole_is_a_square_of_zeros_and_the_rest_is_kept() -> None:
    pixels = np.full((200, 3, 16, 16), 9, np.uint8)
    found = with_hole(pixels, 6, np.random.default_rng(0))
    sizes = (found == 0).sum((1, 2, 3)) / 3
    assert sizes.max() == 36
    assert sizes.min() < 36, "it may reach over the border"
    assert set(np.unique(found)) == {0, 9}
    lost = (found[0, 0] == 0).any(1), (found[0, 0] == 0).any(0)
    assert (found[0, 0] == 0).sum() == lost[0].sum() * lost[1].sum(), "a rectangle"


def test_mixup_blends_two_images_and_their_labels_alike() -> None:
    labels = np.array([0, 1, 2, 3])
    pixels = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    blend, target = mixed(pixels, labels, 4, 0.8, np.random.default_rng(2))
    np.testing.assert_allclose(blend[:, :, 0, 0], target, atol=1e-6)
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-6)
    assert 0 < np.sort(target, axis=1)[:, -2].max() <= 0.5


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_policies_change_most_photographs_and_are_drawn_from_the_generator(policy: Any) -> None:
    pixels = photographs().pixels
    found, again = (apply_policy(pixels, policy, 9, np.random.default_rng(5)) for _ in range(2))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, again)
    changed = (found != pixels).any((1, 2, 3))
    assert changed.mean() > 0.6
    if policy == "trivialaugment":
        assert not changed.all(), "doing nothing is one of the operations"
    other = apply_policy(pixels, policy, 9, np.random.default_rng(6))
    assert (other != found).any()


def test_each_operation_is_torchvisions_own() -> None:
    from torchvision.transforms import v2

    images = torch.from_numpy(photographs(8).pixels)
    theirs = v2.TrivialAugmentWide()
    names = (
        "Identity ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness"
    )
    names += " Posterize Solarize AutoContrast Equalize"
    for operation, name in zip(OPERATIONS, names.split(), strict=True):
        magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
        values = magnitudes(31, 16, 16)
        for level, sign in ((17, 1.0), (30, -1.0)):
            magnitude = float(values[level]) if values is not None else 0.0
            expected = theirs._apply_image_or_video_transform(
                images, name, magnitude * (sign if signed else 1), v2.InterpolationMode.NEAREST, {}
            )
            found = operation(images, sign * level / 30, True, 16)
            # They cut a shift of 19.2 pixels to 19, we round it: the same for these strengths. Their
            # strengths are float32, which may round a colour to its neighbour.
            assert (found.int() - expected.int()).abs().max() <= 1, (name, level)


def test_the_batches_of_photographs_with_everything_on_are_a_function_of_seed_and_epoch() -> None:
    options = AugmentConfig("trivialaugment", cutout=4, mixup=0.3)
    train = TrainConfig(batch_size=16, augmentation=options)
    data = DataConfig("cifar10", timesteps=2)
    first, again = (list(train_batches(photographs(), data, train, 1)) for _ in range(2))
    assert len(first) == 4
    for (x, y), (u, v) in zip(first, again):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    x, y = first[0]
    assert x.shape == (2, 16, 3, 16, 16)
    assert y.shape == (16, 10)
    assert torch.allclose(y.sum(1), torch.ones(16))


def events(n: int = 400) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 4, (n, 2, 16, 16, 5)).astype(np.uint8)


def test_events_are_dropped_singly_in_time_or_in_an_area_and_none_appear() -> None:
    frames = events()
    found = dropped(frames, np.random.default_rng(2), 0.5)
    assert (found <= frames).all()
    kept = found.sum((1, 2, 3, 4)) / frames.sum((1, 2, 3, 4))
    assert 0.15 < (kept == 1).mean() < 0.4, "a quarter stays whole"
    assert kept.min() > 0.3
    assert 0.7 < kept.mean() < 0.95
    whole_steps = (found.sum((1, 2, 3)) == 0).any(1)
    assert 0.1 < whole_steps.mean() < 0.3, "of a quarter a span of time is missing"


def test_recordings_are_shifted_as_wholes_and_mirrored_only_where_that_keeps_the_class() -> None:
    frames = np.zeros((300, 2, 16, 16, 3), np.uint8)
    frames[:, 0, 8, 6:10] = 1, 2, 3
    frames[:, 1, 8, 6:10] = 5
    plain = augmented_events(frames, np.random.default_rng(0), mirror=False, drop=0)
    assert plain.shape == frames.shape
    rows = plain[:, 0].sum((2, 3)).argmax(1)
    assert set(rows) == {6, 7, 8, 9, 10}
    np.testing.assert_array_equal(plain.sum((1, 2, 3)), frames.sum((1, 2, 3)))
    # Columns of an off-centre mark tell a mirror image from a shift.
    marked = np.zeros((300, 2, 16, 16, 3), np.uint8)
    marked[:, 0, 8, 2] = 1
    left = augmented_events(marked, np.random.default_rng(0), mirror=False, drop=0)
    both = augmented_events(marked, np.random.default_rng(0), mirror=True, drop=0)
    assert left.sum((0, 1, 2, 4))[8:].sum() == 0
    assert 0.3 < both.sum((0, 1, 2, 4))[8:].sum() / marked.sum() < 0.7


def test_prefetching_keeps_the_order_bounds_what_lies_ready_and_passes_failures_on() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in count():
            made.append(i)
            if i == 7:
                raise ValueError("the seventh")
            yield i

    found: list[int] = []

    def take_all() -> None:
        for i in prefetched(items(), ahead=2):
            found.append(i)
            assert len(made) <= i + 4

    with pytest.raises(ValueError, match="the seventh"):
        take_all()
    assert found == list(range(7))
    assert list(prefetched(iter([1, 2]))) == [1, 2]


def test_no_augmentation_and_some_do_not_go_together() -> None:
    for some in (AugmentConfig("randaugment"), AugmentConfig(cutout=2), AugmentConfig(mixup=0.1)):
        with pytest.raises(ConfigError, match="a policy, cutout or mixup is asked for"):
            TrainConfig(augment=False, augmentation=some)
