"""Training never sees the test set; batch norm is calibrated on training images alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from neucodex_lava.config import BottleneckConfig, DataConfig, ResNetConfig, TrainConfig
from neucodex_lava.data import ImageSet, load
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training import stages
from neucodex_lava.training.assessment import calibrate_batch_norm
from neucodex_lava.training.batches import ordered_batches
from neucodex_lava.training.loop import fit
from neucodex_lava.training.runs import Run, load_model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(1, 1))
DATA = DataConfig(timesteps=2, train_limit=128)
TRAIN = TrainConfig(epochs=1, qat_epochs=1, batch_size=64, threads=1)


def weights_of(model: SplitModel) -> dict[str, np.ndarray]:
    """Every parameter and running statistic, and the gains."""
    found = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    return found | {f"gain of {name}": np.array(gain) for name, gain in model.gains.items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name


def scrambled(images: ImageSet) -> ImageSet:
    """As many images of noise with wrong labels."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, images.scale + 1, images.pixels.shape).astype(np.uint8)
    return replace(images, pixels=pixels, labels=(images.labels + 5) % 10)


def load_with_scrambled_test_set(
    config: DataConfig, root: Path | None = None, split: Literal["train", "test"] = "train"
) -> ImageSet:
    images = load(config, root, split)
    return scrambled(images) if split == "test" else images


def test_both_stages_give_the_same_weights_whatever_the_test_set_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, np.ndarray]] = []
    logged: list[list[float]] = []
    for name in ("real", "scrambled"):
        if name == "scrambled":
            monkeypatch.setattr(stages, "load", load_with_scrambled_test_set)
        folder = tmp_path / name
        stages.train_base(folder / "base", TINY, DATA, TRAIN)
        bottleneck = BottleneckConfig(1, 2, 2)
        stages.finetune(folder / "sp1", folder / "base", bottleneck, TRAIN)
        runs, models = zip(*(load_model(folder / part) for part in ("base", "sp1")))
        found.append(
            {f"{i} {k}": v for i, m in enumerate(models) for k, v in weights_of(m).items()}
        )
        logged.append([h.test_accuracy for run in runs for h in run.history])
    assert_same(*found)
    assert logged[0] != logged[1], "the log does look at the test set"


class WatchedSet(ImageSet):
    """A test set that fails the test when its images are read while the model trains."""

    model: SplitModel
    reads = 0

    def images(self, rows: Any = slice(None)) -> np.ndarray:
        assert not WatchedSet.model.training, "test images were read while training"
        WatchedSet.reads += 1
        return super().images(rows)


def test_test_images_are_read_only_to_log_an_epoch(tmp_path: Path) -> None:
    train_set, test_set = load(DATA), load(DATA, split="test")
    run = Run(TINY, DATA, TRAIN, 10, train_set.shape)
    torch.manual_seed(0)
    WatchedSet.model, WatchedSet.reads = run.build(), 0
    fit(run, tmp_path / "run", WatchedSet.model, train_set, WatchedSet(**vars(test_set)))
    assert WatchedSet.reads >= run.total_epochs, "looked at after each epoch"


def test_batch_norm_is_calibrated_on_the_plain_mean_of_training_images() -> None:
    train_set = load(DATA)
    run = Run(TINY, DATA, TRAIN, 10, train_set.shape)
    torch.manual_seed(0)
    model = run.build()
    first = model.block_list()[0].links()[0]
    assert first.bn is not None
    calibrate_batch_norm(model, run, train_set)
    batches = list(ordered_batches(train_set, DATA, TRAIN.batch_size))
    assert sum(len(labels) for _, labels in batches) == len(train_set)
    with torch.no_grad():
        sums = [first.apply(x, first.synapse.weight).flatten(0, 1) for x, _ in batches]
    means = torch.stack([x.mean((0, 2, 3)) for x in sums])
    assert torch.allclose(first.bn.running_mean, means.mean(0), atol=1e-6)
    other = run.build()
    other.load_state_dict(model.state_dict())
    calibrate_batch_norm(other, run, scrambled(train_set))
    assert not torch.allclose(other.block_list()[0].links()[0].bn.running_mean, means.mean(0))
