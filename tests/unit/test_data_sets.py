"""Datasets: what is loaded, how it is split, and what a user is told when files are not right."""

import gzip
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neucodex_lava.config import DataConfig, DatasetName, EncodingConfig
from neucodex_lava.data import ImageSet, load, split_off
from neucodex_lava.data.splits import stratified
from neucodex_lava.errors import ConfigError, DataError, NeucodexError

ROOT = os.environ.get("NEUCODEX_DATA", "")
needs_data = pytest.mark.skipif(not ROOT, reason="NEUCODEX_DATA names no data root")
DIGITS = DataConfig(dataset="digits")


def copy_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(ROOT) / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    return tmp_path


MNIST_TEST = ("MNIST/raw/t10k-images-idx3-ubyte.gz", "MNIST/raw/t10k-labels-idx1-ubyte.gz")
CIFAR_TEST = "cifar-10-batches-py/test_batch"


def test_digits_are_all_there_and_split_once() -> None:
    from sklearn.datasets import load_digits

    train, test = load(DIGITS, split="train"), load(DIGITS, split="test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.shape == test.shape == (1, 8, 8)
    both = np.concatenate([train.index, test.index])
    assert sorted(both.tolist()) == list(range(1797))
    raw: Any = load_digits()
    assert (train.images()[:, 0] == (raw.images[train.index] / 16).astype(np.float32)).all()
    assert (test.labels == raw.target[test.index]).all()
    # stratified: each class has its share of the test images, to within one
    expected = np.bincount(raw.target) * 360 / 1797
    assert np.abs(np.bincount(test.labels) - expected).max() < 1
    # Golden: the split must not move, or bundles would be tested on what they were trained on.
    assert test.index[:8].tolist() == [0, 2, 9, 11, 20, 21, 38, 43]


def test_the_seed_does_not_move_the_digits_test_images() -> None:
    moved = load(DataConfig(dataset="digits", timesteps=9), split="test")
    assert (moved.index == load(DIGITS, split="test").index).all()


def test_train_limit_keeps_the_first_training_images_only() -> None:
    config = DataConfig(dataset="digits", train_limit=100)
    whole, some = load(DIGITS), load(config)
    assert len(some) == 100
    assert (some.pixels == whole.pixels[:100]).all()
    assert len(load(config, split="test")) == 360
    assert len(load(DataConfig(dataset="digits", train_limit=5000))) == 1437


def test_images_are_scaled_to_one() -> None:
    test = load(DIGITS, split="test")
    images = test.images()
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    assert (images * 16 == test.pixels).all()
    assert (test.images(slice(3, 5)) == images[3:5]).all()


def test_batches_are_consecutive_and_keep_their_index() -> None:
    test = load(DIGITS, split="test")
    parts = list(test.batches(100))
    assert [len(p) for p in parts] == [100, 100, 100, 60]
    assert (np.concatenate([p.pixels for p in parts]) == test.pixels).all()
    assert (np.concatenate([p.index for p in parts]) == test.index).all()


def test_images_held_out_are_stratified_and_repeatable() -> None:
    train = load(DIGITS)
    rest, held = split_off(train, 200, seed=1)
    assert (len(rest), len(held)) == (1237, 200)
    assert sorted([*rest.index, *held.index]) == train.index.tolist()
    share = np.bincount(train.labels) * 200 / len(train)
    assert np.abs(np.bincount(held.labels) - share).max() < 1
    assert (split_off(train, 200, seed=1)[1].index == held.index).all()
    assert (split_off(train, 200, seed=2)[1].index != held.index).any()
    assert (held.labels == load(DIGITS).labels[np.isin(train.index, held.index)]).all()


@pytest.mark.parametrize(
    "config",
    [
        DataConfig("digits", holdout=200),
        DataConfig("digits", train_limit=600, holdout=200),
        DataConfig("digitsdvs", 2, EncodingConfig("events", 1), 60, size=8, holdout=20),
    ],
    ids=["digits", "limited", "events"],
)
def test_training_samples_held_out_are_never_trained_on(config: DataConfig) -> None:
    whole = load(replace(config, holdout=0))
    train, held = load(config), load(config, split="holdout")
    assert (train.split, held.split) == ("train", "holdout")
    assert len(held) == config.holdout
    assert sorted([*train.index, *held.index]) == sorted(whole.index)
    assert set(held.labels) == set(whole.labels)
    again = load(config, split="holdout")
    assert (held.inputs(config) == again.inputs(config)).all()
    places = [whole.index.tolist().index(i) for i in held.index]
    assert (held.inputs(config) == whole.inputs(config)[places]).all()
    test = load(config, split="test")
    assert (test.index == load(replace(config, holdout=0), split="test").index).all()


def test_nothing_held_out_is_nothing_to_calibrate_on() -> None:
    with pytest.raises(
        DataError, match=r"no training samples were held out \(train with --holdout"
    ):
        load(DIGITS, split="holdout")
    with pytest.raises(DataError, match="cannot hold 100 of 100 images out"):
        load(DataConfig("digits", train_limit=100, holdout=100))
    with pytest.raises(ConfigError, match="holdout -1 is negative"):
        DataConfig("digits", holdout=-1)


@pytest.mark.parametrize("count", [0, -1, 1437, 5000])
def test_a_count_that_cannot_be_held_out(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold {count} of 1437"):
        split_off(load(DIGITS), count, 0)


@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=80),
    share=st.floats(0, 1),
    seed=st.integers(-(2**70), 2**70),
)
@settings(deadline=None)
def test_stratified_takes_each_class_in_proportion(
    labels: list[int], share: float, seed: int
) -> None:
    array = np.array(labels)
    count = round(share * len(labels))
    mask = stratified(array, count, seed)
    assert mask.sum() == count
    for cls in set(labels):
        assert abs(mask[array == cls].sum() - (array == cls).sum() * count / len(labels)) < 1


@needs_data
@pytest.mark.data
def test_mnist_is_what_torchvision_reads(tmp_path: Path) -> None:
    from torchvision.datasets import MNIST

    images = load(DataConfig(dataset="mnist"), copy_of(tmp_path, *MNIST_TEST), "test")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / "MNIST/raw" / name).touch()  # torchvision asks for all four
    for name in MNIST_TEST:
        unpacked = tmp_path / name.removesuffix(".gz")
        unpacked.write_bytes(gzip.decompress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    theirs = MNIST(str(tmp_path), train=False)
    assert (images.pixels[:, 0] == theirs.data.numpy()).all()
    assert (images.labels == theirs.targets.numpy()).all()
    unpacked = load(DataConfig(dataset="mnist"), tmp_path, "test")
    assert (unpacked.pixels == images.pixels).all()
    assert (images.scale, images.shape, images.flip_ok) == (255, (1, 28, 28), False)


@needs_data
@pytest.mark.data
def test_cifar10_is_what_torchvision_reads(tmp_path: Path) -> None:
    from torchvision.datasets import CIFAR10

    class Unchecked(CIFAR10):
        train_list = []  # noqa: RUF012
        test_list = [("test_batch", "")]  # noqa: RUF012

        def _check_integrity(self) -> bool:
            return True

        def _load_meta(self) -> None:
            self.classes = []

    root = copy_of(tmp_path, CIFAR_TEST)
    images = load(DataConfig(dataset="cifar10"), root, "test")
    # torchvision asks for text keys, which the official batches have and ours have not
    record = pickle.loads((root / CIFAR_TEST).read_bytes(), encoding="bytes")
    (root / CIFAR_TEST).write_bytes(
        pickle.dumps({(k if isinstance(k, str) else k.decode()): v for k, v in record.items()}, 2)
    )
    theirs = Unchecked(str(root), train=False)
    assert (images.pixels == theirs.data.transpose(0, 3, 1, 2)).all()
    assert images.labels.tolist() == theirs.targets
    assert (load(DataConfig(dataset="cifar10"), root, "test").pixels == images.pixels).all()
    assert (images.scale, images.shape, images.flip_ok) == (255, (3, 32, 32), True)
    assert images.classes[images.labels[0]] == "cat"


@needs_data
@pytest.mark.data
def test_training_splits_from_the_environment() -> None:
    cifar = load(DataConfig(dataset="cifar10", train_limit=20))
    assert cifar.pixels.shape == (20, 3, 32, 32)
    assert cifar.labels[:5].tolist() == [6, 9, 9, 4, 1]  # the published order
    mnist = load(DataConfig(dataset="mnist"))
    assert len(mnist) == 60_000
    assert mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]


def fails(dataset: DatasetName, root: Path | None, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load(DataConfig(dataset=dataset), root, "test")
    error = caught.value
    assert "\n" not in str(error)
    assert dataset in error.message or "data root" in error.message
    assert "--data-root" in error.hint
    assert "NEUCODEX_DATA" in error.hint
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize(
    ("dataset", "folder"), [("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py")]
)
def test_data_roots_that_are_not(
    dataset: DatasetName, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)
    fails(dataset, None, "needs a data root", folder)
    fails(dataset, tmp_path / "nowhere", "nowhere' is not a folder")
    fails(dataset, tmp_path, f"{folder}' is missing")
    monkeypatch.setenv("NEUCODEX_DATA", str(tmp_path))
    fails(dataset, None, f"{folder}' is missing")
    (tmp_path / folder).mkdir(parents=True)
    fails(dataset, None, "is missing")


def test_unknown_names() -> None:
    with pytest.raises(NeucodexError, match="unknown dataset 'imagenet'"):
        DataConfig(dataset="imagenet")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="unknown split 'dev'"):
        load(DIGITS, split="dev")  # type: ignore[arg-type]


def idx(values: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes() + values.tobytes()
    )


MNIST_IMAGES = idx(np.zeros((10_000, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (MNIST_IMAGES[:-1], None, "truncated"),
        (MNIST_IMAGES + b"\0", None, "too long"),
        (b"", None, "not the IDX file"),
        (idx(np.zeros((10_000, 28, 27), np.uint8)), None, "not the IDX file"),
        (MNIST_IMAGES, None, "is missing"),
        (MNIST_IMAGES, np.zeros(10_000), "class 0 has 10000 images, expected 980"),
        (MNIST_IMAGES, np.full(10_000, 11), r"outside \[0, 9\]"),
    ],
    ids=["short", "long", "empty", "shape", "no labels", "counts", "range"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_mnist_files(
    images: bytes, labels: np.ndarray | None, message: str, packed: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)

    def write(name: str, raw: bytes) -> None:
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(raw, 1) if packed else raw)

    write("t10k-images-idx3-ubyte", images)
    if labels is not None:
        write("t10k-labels-idx1-ubyte", idx(labels.astype(np.uint8)))
    with pytest.raises(DataError, match=message):
        load(DataConfig(dataset="mnist"), tmp_path, "test")


@pytest.mark.parametrize(
    "raw", [b"\x1f\x8b", b"hello", gzip.compress(MNIST_IMAGES, 1)[:-20]], ids=len
)
def test_damaged_gzip(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz").write_bytes(raw)
    fails("mnist", tmp_path, "cannot be read")


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    bomb = MNIST_IMAGES[:16] + bytes(100_000_000)
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bomb, 1))
    fails("mnist", tmp_path, "too long: 7,840,016 bytes expected")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def batch(**changes: Any) -> bytes:
    record = {
        "data": np.zeros((10_000, 3072), np.uint8),
        "labels": (list(range(10)) * 1000),
        "filenames": [],
    } | changes
    return pickle.dumps(record, protocol=2)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (lambda: b"", "truncated"),
        (lambda: batch()[:1000], "truncated"),
        (lambda: b"\x80\x04garbage", "truncated"),
        (lambda: pickle.dumps([1, 2]), "no CIFAR-10 batch"),
        (lambda: pickle.dumps({"data": 1}), "no CIFAR-10 batch"),
        (lambda: pickle.dumps(Evil()), "it asks for 'posix.mkdir'"),
        (lambda: batch(filenames=[Evil()]), "it asks for 'posix.mkdir'"),
        (lambda: pickle.dumps(eval, protocol=2), "it asks for '__builtin__.eval'"),
        (lambda: b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zliztR.", "codec 'zliz'"),
        (
            lambda: b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I9\ntX\1\0\0\0btR.",
            "not empty",
        ),
        (lambda: batch(data=np.zeros((9_999, 3072), np.uint8)), r"holds uint8 \(9999, 3072\)"),
        (lambda: batch(data=np.zeros((10_000, 3072), np.int8)), "holds int8"),
        (lambda: batch(labels=[0] * 9_999), r"has labels int64 \(9999,\)"),
        (lambda: batch(labels=[0.5] * 10_000), "has labels float64"),
        (lambda: batch(labels=[0] * 10_000), "class 0 has 10000 images, expected 1000"),
        (lambda: batch(labels=[-1] * 10_000), r"outside \[0, 9\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_and_hostile_cifar10_files(
    raw: Callable[[], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / CIFAR_TEST
    path.parent.mkdir()
    path.write_bytes(raw())
    with pytest.raises(DataError, match=message) as caught:
        load(DataConfig(dataset="cifar10"), tmp_path, "test")
    assert "--data-root" in caught.value.hint
    assert not (tmp_path / "pwned").exists()


def test_a_good_cifar10_batch_of_any_protocol_is_read(tmp_path: Path) -> None:
    path = tmp_path / CIFAR_TEST
    path.parent.mkdir()
    data = np.arange(10_000 * 3072, dtype=np.uint32).astype(np.uint8).reshape(10_000, 3072)
    for keys in (str, str.encode):
        for protocol in (2, 3, 4):
            record = {keys("data"): data, keys("labels"): list(range(10)) * 1000}
            path.write_bytes(pickle.dumps(record, protocol))
            images: ImageSet = load(DataConfig(dataset="cifar10"), tmp_path, "test")
            assert (images.pixels.reshape(10_000, 3072) == data).all()
            assert images.labels.tolist() == list(range(10)) * 1000


def test_cifar100_is_read_with_the_names_of_its_classes(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    data = np.arange(10_000 * 3072, dtype=np.uint32).astype(np.uint8).reshape(10_000, 3072)
    labels = list(range(100)) * 100
    record = {b"data": data, b"fine_labels": labels, b"coarse_labels": [0] * 10_000}
    (folder / "test").write_bytes(pickle.dumps(record, 2))
    names = [f"class {i}".encode() for i in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, 2))
    images: ImageSet = load(DataConfig(dataset="cifar100"), tmp_path, "test")
    assert (images.pixels.reshape(10_000, 3072) == data).all()
    assert images.labels.tolist() == labels
    assert (images.classes[99], len(images.classes)) == ("class 99", 100)
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names[:20]}, 2))
    fails("cifar100", tmp_path, "names 20 classes, expected 100")
    (folder / "test").write_bytes(pickle.dumps({b"data": data, b"labels": labels}, 2))
    fails("cifar100", tmp_path, "truncated or no CIFAR-100 batch: 'fine_labels'")


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / CIFAR_TEST
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(10**12)  # sparse
    fails("cifar10", tmp_path, "larger than any CIFAR-10 batch")
