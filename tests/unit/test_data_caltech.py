"""Caltech101: which images are read, how they are scaled and divided, and damaged copies."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neucodex_lava.config import DataConfig
from neucodex_lava.data import ImageSet, load
from neucodex_lava.data.caltech import TEN_CLASSES
from neucodex_lava.errors import DataError

ROOT = os.environ.get("NEUCODEX_DATA", "")
FOLDER = "caltech101/101_ObjectCategories"
CHOSEN = DataConfig("caltech101", classes=("watch", "ketch"), size=16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUCODEX_CACHE", str(tmp_path / "cache"))


def write_caltech(root: Path, classes: tuple[str, ...] = CHOSEN.classes, count: int = 5) -> None:
    """Images of one grey level each, 10 * class + number, the first of each class without colours."""
    for c, name in enumerate((*classes, "BACKGROUND_Google", "anchor")):
        folder = root / FOLDER / name
        folder.mkdir(parents=True)
        for i in range(1, count + 1):
            mode, level = ("L", 10 * c + i) if i == 1 else ("RGB", (10 * c + i, 0, 100))
            Image.new(mode, (30 + i, 20), level).save(folder / f"image_{i:04d}.jpg", quality=100)


def test_images_are_those_of_the_chosen_classes_in_order(tmp_path: Path) -> None:
    write_caltech(tmp_path)
    whole = load(CHOSEN, tmp_path, "all")
    assert isinstance(whole, ImageSet)
    assert (whole.shape, whole.classes, whole.flip_ok) == ((3, 16, 16), CHOSEN.classes, True)
    assert whole.labels.tolist() == [0] * 5 + [1] * 5
    assert whole.scale == 255
    red, green = (whole.pixels[:, i].mean((1, 2)) for i in range(2))
    expected = [10 * c + i for c in (0, 1) for i in range(1, 6)]
    assert np.abs(red - expected).max() < 2, "the classes' own order, each from its first image on"
    assert (np.abs(green[[0, 5]] - red[[0, 5]]) < 1).all(), "grey images become RGB"
    assert (green[[1, 6]] < 3).all()
    train, test = load(CHOSEN, tmp_path), load(CHOSEN, tmp_path, "test")
    assert np.bincount(train.labels).tolist() == [4, 4]
    assert np.bincount(test.labels).tolist() == [1, 1]
    assert sorted([*train.index, *test.index]) == list(range(10))
    for part in (train, test):
        assert (part.pixels == whole.pixels[part.index]).all()  # type: ignore[attr-defined]
        assert (part.labels == whole.labels[part.index]).all()
    assert train.labels.tolist() != sorted(train.labels.tolist()), "mixed, not class by class"
    assert test.inputs(CHOSEN).shape == (2, 3, 16, 16, 4)


def test_the_whole_image_is_scaled(tmp_path: Path) -> None:
    write_caltech(tmp_path)
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :15], wide[:, 45:] = 250, 120
    Image.fromarray(wide).save(tmp_path / FOLDER / "watch/image_0001.jpg", quality=100)
    picture = load(CHOSEN, tmp_path, "all").pixels[0, 0]  # type: ignore[attr-defined]
    assert np.abs(picture[:, :3] - 250.0).max() < 8
    assert np.abs(picture[:, -3:] - 120.0).max() < 8
    assert picture[:, 6:10].max() < 8


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), "101_ObjectCategories' is missing"),
        (lambda f: shutil.rmtree(f / "watch"), f"'{FOLDER}/watch' is missing"),
        (lambda f: shutil.rmtree(f / "BACKGROUND_Google"), "BACKGROUND_Google' is missing"),
        (lambda f: (f / "readme.txt").touch(), "readme.txt' does not belong there"),
        (lambda f: (f / "watch/.DS_Store").touch(), "watch/.DS_Store' does not belong there"),
        (lambda f: (f / "watch/image_1.jpg").touch(), "watch/image_1.jpg' does not belong there"),
        (lambda f: (f / "watch/image_0003.jpg").unlink(), "number 3 of '.*watch' is missing, 4 is"),
        (lambda f: [p.unlink() for p in (f / "watch").iterdir()], "watch' is empty"),
        (
            lambda f: [(f / f"watch/image_000{i}.jpg").unlink() for i in (2, 3, 4, 5)],
            "class 'watch' has 1 sample: it cannot be divided into 80 % training and 20 % test",
        ),
        (lambda f: (f / "watch/image_0002.jpg").write_bytes(b""), "image_0002.jpg' cannot be read"),
        (lambda f: (f / "watch/image_0002.jpg").write_bytes(b"GIF89a"), "0002.jpg' cannot be read"),
        (
            lambda f: (f / "watch/image_0002.jpg").write_bytes(
                (f / "watch/image_0003.jpg").read_bytes()[:-60]
            ),
            "image_0002.jpg' cannot be read: .*[Tt]runcated",
        ),
    ],
)
def test_damaged_copies(damage: Damage, message: str, tmp_path: Path) -> None:
    write_caltech(tmp_path)
    damage(tmp_path / FOLDER)
    with pytest.raises(DataError, match=message) as caught:
        load(CHOSEN, tmp_path)
    assert "\n" not in caught.value.message


def test_a_damaged_class_that_is_not_used_does_no_harm(tmp_path: Path) -> None:
    write_caltech(tmp_path)
    (tmp_path / FOLDER / "anchor/image_0002.jpg").unlink()
    assert len(load(CHOSEN, tmp_path, "all")) == 10


@pytest.mark.skipif(not ROOT, reason="NEUCODEX_DATA names no data root")
@pytest.mark.data
def test_the_real_images(tmp_path: Path) -> None:
    data = DataConfig("caltech101", size=24)
    train, test = load(data), load(data, split="test")
    assert train.classes == TEN_CLASSES
    both = np.bincount(train.labels) + np.bincount(test.labels)
    assert both.tolist() == [200, 200, 200, 200, 128, 123, 107, 100, 114, 200]
    assert (len(train), len(test)) == (1257, 315)
    # Golden: the split must not move, or bundles would be tested on what they were trained on.
    assert test.index[:8].tolist() == GOLDEN
    car = train.images(np.flatnonzero(train.labels == 5))  # type: ignore[attr-defined]
    assert np.abs(car[:, 0] - car[:, 1]).max() == 0, "all of car_side is grey"


GOLDEN = [0, 1, 2, 9, 11, 17, 20, 21]
