"""Datasets of recordings: what Tonic reads of tiny copies, and what is said of damaged ones."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import recording_files as rec

from neucodex_lava.config import DataConfig, EncodingConfig
from neucodex_lava.data import EventSet, load
from neucodex_lava.data.events import bin_events
from neucodex_lava.errors import DataError, MissingDependencyError, NeucodexError

ROOT = os.environ.get("NEUCODEX_DATA", "")
needs_data = pytest.mark.skipif(not ROOT, reason="NEUCODEX_DATA names no data root")
SPIKES = EncodingConfig("events", bits=1)
COUNTS = EncodingConfig("events", bits=8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUCODEX_CACHE", str(tmp_path / "cache"))


def config(dataset: str, encoding: EncodingConfig = COUNTS, **options: object) -> DataConfig:
    return DataConfig(dataset=dataset, encoding=encoding, **options)  # type: ignore[arg-type]


def frames_of(events: list[rec.Event], sensor: tuple[int, int], timesteps: int) -> np.ndarray:
    record = np.array(events, [(n, "i8") for n in "xytp"])
    return bin_events(record, sensor, timesteps, "time")


def test_nmnist_is_read_as_written(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    data = config("nmnist")
    test = load(data, tmp_path, "test")
    assert isinstance(test, EventSet)
    assert (test.shape, len(test), test.flip_ok) == ((2, 34, 34), 10, False)
    assert test.classes == tuple("0123456789")
    assert test.labels.tolist() == list(range(10))
    frames = test.inputs(data)
    assert frames.shape == (10, 2, 34, 34, 4)
    for i in range(10):
        assert (frames[i] == frames_of(rec.spread(seed=i + 1), (34, 34), 4)).all()
    spikes = test.inputs(config("nmnist", SPIKES))
    assert (spikes == (frames > 0)).all()
    assert (test.inputs(data, np.array([7, 2])) == frames[[7, 2]]).all()
    some = test.take(np.array([3, 8]))
    assert (some.inputs(data) == frames[[3, 8]]).all()
    assert (np.stack(list(some.stored())) == frames[[3, 8]]).all()
    parts = list(test.batches(4))
    assert (np.concatenate([p.inputs(data) for p in parts]) == frames).all()
    with pytest.raises(DataError, match="binned to 4 timesteps, not 5"):
        test.inputs(config("nmnist", timesteps=5))


def test_training_recordings_are_mixed_so_that_the_first_are_of_all_classes(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path, 60)
    data = config("nmnist")
    train = load(data, tmp_path)
    assert sorted(train.index.tolist()) == list(range(60))
    assert (train.labels == train.index // 6).all(), "files lie class by class"
    assert len(set(train.labels[:15].tolist())) > 6
    assert train.index[:5].tolist() == [0, 54, 43, 38, 21]  # golden: a resumed run sees the same
    assert (train.index == load(data, tmp_path).index).all()
    some = load(config("nmnist", train_limit=15), tmp_path)
    assert (some.inputs(data) == train.inputs(data)[:15]).all()


def test_a_size_adds_up_the_sensors_pixels(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    large = load(config("nmnist"), tmp_path, "test").inputs(config("nmnist"))
    small = load(config("nmnist", size=17), tmp_path, "test").inputs(config("nmnist"))
    n, c, t = len(large), 2, 4
    assert (small == large.reshape(n, c, 17, 2, 17, 2, t).sum((3, 5))).all()


def test_ncaltech101_is_divided_by_seed(tmp_path: Path) -> None:
    rec.write_ncaltech101(tmp_path, ketch=10, watch=5, BACKGROUND_Google=3)
    data = config("ncaltech101", size=30)
    train, test, whole = (load(data, tmp_path, s) for s in ("train", "test", "all"))  # type: ignore[arg-type]
    assert whole.classes == ("ketch", "watch")
    assert (whole.shape, whole.flip_ok) == ((2, 30, 30), True)
    assert np.bincount(train.labels).tolist() == [8, 4]
    assert np.bincount(test.labels).tolist() == [2, 1]
    assert sorted([*train.index, *test.index]) == list(range(15))
    everything = whole.inputs(data)
    assert (test.inputs(data) == everything[test.index]).all()
    other = load(config("ncaltech101", size=30, split_seed=1), tmp_path, "test")
    assert other.index.tolist() != test.index.tolist()
    chosen = load(config("ncaltech101", size=30, classes=("watch", "ketch")), tmp_path, "all")
    assert chosen.classes == ("watch", "ketch")
    assert np.bincount(chosen.labels).tolist() == [5, 10]
    # recordings lie where Tonic puts them: moved to the corner, on a sensor of 240 by 180
    events = rec.spread(side=101, seed=1)
    left, top = min(e[0] for e in events), min(e[1] for e in events)
    moved = [(x - left, y - top, t, p) for x, y, t, p in events]
    full = load(config("ncaltech101"), tmp_path, "all").inputs(config("ncaltech101"))
    assert (full[0] == frames_of(moved, (240, 180), 4)).all()


def test_cifar10dvs_is_read_as_written(tmp_path: Path) -> None:
    rec.write_cifar10dvs(tmp_path, 10)
    data = config("cifar10dvs")
    whole = load(data, tmp_path, "all")
    assert (whole.shape, len(whole)) == ((2, 128, 128), 100)
    assert whole.classes[:2] == ("airplane", "automobile")
    assert np.bincount(whole.labels).tolist() == [10] * 10
    # the files of a class are sorted by name, so the second one, 1, is the second one
    assert (whole.inputs(data)[1] == frames_of(rec.spread(side=128, seed=1), (128, 128), 4)).all()
    train, test = load(data, tmp_path), load(data, tmp_path, "test")
    assert (np.bincount(train.labels) == 9).all()
    assert (np.bincount(test.labels) == 1).all()


def test_gestures_have_their_own_split(tmp_path: Path) -> None:
    rec.write_gestures(tmp_path)
    data = config("dvs128gesture", size=64)
    train, test = load(data, tmp_path), load(data, tmp_path, "test")
    assert (len(train.classes), train.flip_ok, train.shape) == (11, False, (2, 64, 64))
    order = np.argsort(train.index)
    assert train.labels[order].tolist() == [0, 10, 3, 0, 10, 3]  # by user, then by the files' names
    assert test.labels.tolist() == [0, 10, 3]
    events = [(x, y, t // 1000 * 1000, p) for x, y, t, p in rec.spread(side=128, seed=3)]
    whole = frames_of(events, (128, 128), 4).reshape(2, 64, 2, 64, 2, 4).sum((2, 4))
    assert (train.inputs(data)[order[2]] == whole).all()


def test_gesture_samples_are_a_test_split(tmp_path: Path) -> None:
    for k in (1, 3, 10):
        name = f"dvs128_gesture/gesture_{k:02d}.bs2"
        rec.write_40_bit(tmp_path / name, rec.spread(side=128, seed=k))
    data = config("dvs128gesture")
    test = load(data, tmp_path, "test")
    assert test.labels.tolist() == [0, 2, 9]
    assert (test.inputs(data)[1] == frames_of(rec.spread(side=128, seed=3), (128, 128), 4)).all()
    with pytest.raises(DataError, match="nothing to train on"):
        load(data, tmp_path)


def test_equal_counts_and_equal_times_differ_and_are_cached_apart(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    by_time = load(config("nmnist"), tmp_path).inputs(config("nmnist"))
    by_count = load(config("nmnist", bins="count"), tmp_path).inputs(config("nmnist"))
    assert (by_count.sum((1, 2, 3)) == 10).all()
    assert not (by_time.sum((1, 2, 3)) == 10).all()


A = "NMNIST/Train/0/00001.bin"
Damage = Callable[[Path], None]


def overwrite(name: str, raw: bytes) -> Damage:
    return lambda root: (root / name).parent.mkdir(exist_ok=True) or _write(root / name, raw)


def _write(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)


def rewrite(name: str, *events: rec.Event) -> Damage:
    return lambda root: rec.write_40_bit(root / name, events)


def remove(name: str) -> Damage:
    def apply(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("NMNIST"), "NMNIST' is missing"),
        (remove("NMNIST/Train"), "'NMNIST/Train' is missing"),
        (remove("NMNIST/Train/3"), "'NMNIST/Train/3' is missing"),
        (remove("NMNIST/Train/3/00004.bin"), "'NMNIST/Train/3' is empty"),
        (remove(A), "'NMNIST/Train/0' is empty"),
        (overwrite("NMNIST/Train/0/notes.txt", b""), "'NMNIST/Train/0/notes.txt' does not belong"),
        (overwrite("NMNIST/Train/notes.txt", b""), "'NMNIST/Train/notes.txt' does not belong"),
        (overwrite("NMNIST/Train/x/00011.bin", b"12345"), "'NMNIST/Train/x' does not belong"),
        (overwrite("NMNIST/Train/4/00012.bin", b"12345"), "number 11 of 'NMNIST/Train' is missing"),
        (overwrite("NMNIST/Train/4/00001.bin", b"12345"), "'NMNIST/Train/4/00001.bin' does not"),
        (overwrite(A, b""), f"recording '{A}' is empty"),
        (overwrite(A, b"1234"), f"recording '{A}' is truncated: 4 bytes"),
        (overwrite(A, b"\xf0" * 5), f"recording '{A}' holds no events"),  # overflow marks alone
        (rewrite(A, (0, 0, 0, 0), (34, 0, 9, 0)), f"'{A}' has 1 of 2 events out of range: x of"),
        (rewrite(A, (0, 0, 9, 0), (1, 0, 8, 0)), f"'{A}' has events out of order: event 1"),
        (rewrite(A, (0, 0, 5, 0), (1, 0, 8, 0)), f"'{A}' lasts 3 µs, too short for 4"),
    ],
)
def test_damaged_nmnist(damage: Damage, message: str, tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    damage(tmp_path)
    fails(config("nmnist"), tmp_path, message)


CALTECH = "NCALTECH101/Caltech101"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove(f"{CALTECH}/ketch"), "class 'watch' has 1 sample: it cannot be divided into 80 %"),
        (remove(f"{CALTECH}/ketch/image_0002.bin"), "class 'ketch' has 1 sample"),
        (remove(f"{CALTECH}/ketch/image_0001.bin"), "number 1 of '.*/ketch' is missing, 2 is"),
        (
            overwrite(f"{CALTECH}/ketch/image_0002.bin", b"\xf0" * 5),
            "image_0002.bin' cannot be read",
        ),
        (overwrite(f"{CALTECH}/extra.txt", b""), "extra.txt' does not belong there"),
        (overwrite(f"{CALTECH}/ketch/image.bin", b""), "image.bin' does not belong there"),
    ],
)
def test_damaged_ncaltech101(damage: Damage, message: str, tmp_path: Path) -> None:
    rec.write_ncaltech101(tmp_path, ketch=2, watch=1 if "ketch/image" not in message else 2)
    damage(tmp_path)
    fails(config("ncaltech101"), tmp_path, message)


def test_a_class_that_is_not_there(tmp_path: Path) -> None:
    rec.write_ncaltech101(tmp_path, ketch=2, watch=2)
    chosen = config("ncaltech101", classes=("ketch", "anchor"))
    fails(chosen, tmp_path, "Caltech101/anchor' is missing")


CIFAR = "CIFAR10DVS/cat/cifar10_cat_0.aedat4"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("CIFAR10DVS/cat"), "'CIFAR10DVS/cat' is missing"),
        (overwrite("CIFAR10DVS/cat.aedat4", b""), "cat.aedat4' does not belong there"),
        (overwrite("CIFAR10DVS/lion/1.aedat4", b""), "'CIFAR10DVS/lion' does not belong there"),
        (overwrite("CIFAR10DVS/cat/cat.txt", b""), "cat.txt' does not belong there"),
        (overwrite(CIFAR, b""), f"recording '{CIFAR}' is empty"),
        (overwrite(CIFAR, b"#!AER-DAT4.0\r\n"), f"'{CIFAR}' cannot be read: failed to fill whole"),
        (overwrite(CIFAR, b"garbage of some length"), f"'{CIFAR}' cannot be read: the file does not"),
        (
            lambda root: rec.write_aedat4(root / CIFAR, [(0, 0, 5, 0), (0, 0, 1, 0)]),
            f"'{CIFAR}' has events out of order",
        ),
        (
            lambda root: rec.write_aedat4(root / CIFAR, [(0, 0, 5, 0), (0, 128, 10, 0)]),
            f"'{CIFAR}' has 1 of 2 events out of range: y of event 1 is 128",
        ),
    ],
)  # fmt: skip
def test_damaged_cifar10dvs(damage: Damage, message: str, tmp_path: Path) -> None:
    rec.write_cifar10dvs(tmp_path)
    damage(tmp_path)
    fails(config("cifar10dvs"), tmp_path, message)


GESTURE = "DVSGesture/ibmGestureTrain/user01_fluorescent"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("DVSGesture"), "dvs128gesture: '.*DVSGesture' is missing"),
        (remove("DVSGesture/ibmGestureTrain"), "'DVSGesture/ibmGestureTrain' is missing"),
        (overwrite(f"{GESTURE}/11.npy", b""), "11.npy' does not belong there"),
        (overwrite("DVSGesture/ibmGestureTrain/x/1.npy", b""), "Train/x' does not belong there"),
        (overwrite(f"{GESTURE}/3.npy", b"\x93NUMPY"), "3.npy' cannot be read"),
        (
            lambda root: np.save(root / GESTURE / "3.npy", np.array([{}], object)),
            "3.npy' cannot be read: .*allow_pickle",
        ),
        (lambda root: np.save(root / GESTURE / "3.npy", np.zeros((0, 4), int)), "holds no events"),
        (
            lambda root: rec.write_npy(root / GESTURE / "3.npy", [(128, 0, 0, 0)]),
            "x of event 0 is 128",
        ),
    ],
)
def test_damaged_gestures(damage: Damage, message: str, tmp_path: Path) -> None:
    rec.write_gestures(tmp_path)
    damage(tmp_path)
    fails(config("dvs128gesture"), tmp_path, message)


def test_a_reader_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rec.write_cifar10dvs(tmp_path)
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(MissingDependencyError, match="read by the package 'aedat'") as caught:
        load(config("cifar10dvs"), tmp_path)
    assert caught.value.hint == "pip install aedat"


def test_sizes_and_splits_that_are_not(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    fails(config("nmnist", size=35), tmp_path, "size 35 is larger than the sensor, 34x34")
    with pytest.raises(DataError, match="nmnist has a training and a test split"):
        load(config("nmnist"), tmp_path, "all")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    rec.write_nmnist(tmp_path)
    with (tmp_path / A).open("wb") as file:
        file.truncate(10**12)  # sparse
    fails(config("nmnist"), tmp_path, "more than any recording")


def fails(data: DataConfig, root: Path, message: str) -> None:
    with pytest.raises(NeucodexError, match=message) as caught:
        load(data, root)
    assert "\n" not in caught.value.message
    assert not list((root / "cache").glob("*.tmp")), "nothing half made is kept"


@needs_data
@pytest.mark.data
def test_the_real_recordings_of_nmnist() -> None:
    data = config("nmnist")
    train, test = load(data), load(data, split="test")
    assert np.bincount(train.labels).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert np.bincount(test.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    spikes = test.inputs(config("nmnist", SPIKES))
    assert set(np.unique(spikes)) == {0, 1}
    assert 0.1 < spikes.mean() < 0.2


@needs_data
@pytest.mark.data
def test_the_gesture_samples_lose_no_event_but_the_left_over_ones() -> None:
    from tonic.io import read_mnist_file

    from neucodex_lava.data.events import EVENT_DTYPE

    data = config("dvs128gesture", timesteps=64)  # short bins, so that no count comes near 255
    test = load(data, split="test")
    assert test.labels.tolist() == list(range(10))
    frames = test.inputs(data)
    assert frames.max() < 255
    for k in range(10):
        raw = read_mnist_file(f"{ROOT}/dvs128_gesture/gesture_{k + 1:02d}.bs2", dtype=EVENT_DTYPE)
        start, length = raw["t"][0], (raw["t"][-1] - raw["t"][0]) // 64
        assert frames[k].sum() == (raw["t"] < start + 64 * length).sum() > 60_000


@needs_data
@pytest.mark.data
def test_the_one_recording_of_ncaltech101() -> None:
    data = config("ncaltech101")
    whole = load(data, split="all")
    assert (len(whole), whole.classes) == (1, ("Faces_easy",))
    frames = whole.inputs(data)
    assert frames.shape == (1, 2, 180, 240, 4)
    assert 67_400 < frames.sum() < 67_445
    fails_on_real = pytest.raises(DataError, match="class 'Faces_easy' has 1 sample")
    with fails_on_real:
        load(data, split="test")


@needs_data
@pytest.mark.data
def test_a_real_aedat4_file_of_another_camera_is_refused(tmp_path: Path) -> None:
    rec.write_cifar10dvs(tmp_path)
    shutil.copyfile(Path(ROOT) / "aedat4_sample/sample.aedat4", tmp_path / CIFAR)
    fails(config("cifar10dvs"), tmp_path, f"'{CIFAR}' has .* of 6,676 events out of range")
