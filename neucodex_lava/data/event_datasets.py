"""Datasets of events, read by Tonic: N-MNIST, N-Caltech101, CIFAR10-DVS, DVS128 Gesture.

Tonic reads the files and knows their layout. It takes only a whole dataset for one that is there and
would download it otherwise; here copies of a part are used as they are, nothing is downloaded, and
what a folder and a recording hold is checked.

N-MNIST, N-Caltech101: Orchard et al., "Converting static image datasets to spiking neuromorphic
datasets using saccades", Frontiers in Neuroscience 9:437, 2015. CIFAR10-DVS: Li et al., "CIFAR10-DVS:
an event-stream dataset for object classification", Frontiers in Neuroscience 11:309, 2017. DVS128
Gesture: Amir et al., "A low power, fully event-based gesture recognition system", CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neucodex_lava.config import DataConfig
from neucodex_lava.data.events import EVENT_DTYPE
from neucodex_lava.data.files import CIFAR10_CLASSES
from neucodex_lava.data.recordings import Recordings
from neucodex_lava.data.roots import DataRoot, check_numbers, files_of, find_root, subfolders
from neucodex_lava.data.sets import EventSet, Split
from neucodex_lava.errors import DataError


def nmnist(config: DataConfig, data_root: Path | str | None, split: Split) -> EventSet:
    """N-MNIST, (2, 34, 34), its own training and test recordings."""
    part = {"train": "Train", "test": "Test"}[split]
    root = find_root(data_root, "nmnist", "NMNIST")
    folder = root.folder / part
    _exactly(root, folder, subfolders(root, folder), tuple("0123456789"))
    files = [f for digit in "0123456789" for f in files_of(root, folder / digit, r"\d{5}\.bin")]
    check_numbers(root, files, root.shown(folder))
    listed = _tonic("NMNIST", root, train=split == "train")
    return _recordings(root, listed, tuple("0123456789"), (34, 34), False, split).binned(config)


def ncaltech101(config: DataConfig, data_root: Path | str | None, split: Split) -> EventSet:
    """N-Caltech101, (2, 180, 240), undivided; recordings smaller than that lie at the top left."""
    root = find_root(data_root, "ncaltech101", "NCALTECH101/Caltech101")
    found = [n for n in subfolders(root, root.folder) if n != "BACKGROUND_Google"]
    classes = config.classes or tuple(found)
    for name in classes:
        files = files_of(root, root.folder / name, r"image_\d{4}\.bin")
        check_numbers(root, files, root.shown(root.folder / name))
    listed = _tonic("NCALTECH101", root)
    return _recordings(root, listed, classes, (240, 180), True, split).binned(config)


def cifar10dvs(config: DataConfig, data_root: Path | str | None, split: Split) -> EventSet:
    """CIFAR10-DVS, (2, 128, 128), undivided."""
    root = find_root(data_root, "cifar10dvs", "CIFAR10DVS")
    for name in CIFAR10_CLASSES:
        files_of(root, root.folder / name, r".+\.aedat4")
    # Beside the ten folders lie the archives they came from, but no recording.
    for entry in sorted(root.folder.iterdir()):
        if entry.suffix == ".aedat4" or (entry.is_dir() and entry.name not in CIFAR10_CLASSES):
            raise root.error(f"'{root.shown(entry)}' does not belong there", "remove it")
    listed = _tonic("CIFAR10DVS", root)
    return _recordings(root, listed, CIFAR10_CLASSES, (128, 128), True, split).binned(config)


GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter-clockwise", "left arm clockwise", "left arm counter-clockwise", "arm roll",
    "air drums", "air guitar", "other gestures",
)  # fmt: skip


def dvs128gesture(config: DataConfig, data_root: Path | str | None, split: Split) -> EventSet:
    """DVS128 Gesture, (2, 128, 128), its own training and test recordings (Tonic's, cut by gesture).

    Without a folder ``DVSGesture``, the samples ``dvs128_gesture/gesture_01.bs2`` ... are a test
    split: the first 1.45 s of ten gestures in N-MNIST's format, where file k is of class k.
    """
    try:
        root = find_root(data_root, "dvs128gesture", "DVSGesture")
    except DataError as missing:
        try:
            samples = find_root(data_root, "dvs128gesture", "dvs128_gesture")
        except DataError:
            raise missing from None
        return _gesture_samples(samples, split).binned(config)
    folder = root.folder / {"train": "ibmGestureTrain", "test": "ibmGestureTest"}[split]
    for name in subfolders(root, folder):
        if not re.fullmatch(r"user\d+_\w+", name):
            raise root.error(f"'{root.shown(folder / name)}' does not belong there", "remove it")
        files_of(root, folder / name, r"(\d|10)\.npy")
    listed = _tonic("DVSGesture", root, train=split == "train")
    return _recordings(root, listed, GESTURES, (128, 128), False, split).binned(config)


def _gesture_samples(root: DataRoot, split: Split) -> Recordings:
    from tonic.io import read_mnist_file

    if split == "train":
        raise root.error(
            "the gesture samples are a test split, there is nothing to train on",
            "for the whole dataset pass --data-root DIR, where DIR/DVSGesture holds it",
        )
    files = files_of(root, root.folder, r"gesture_(0[1-9]|10)\.bs2")
    labels = np.array([int(f.stem[-2:]) - 1 for f in files], np.int64)

    def read(i: int) -> Any:
        return read_mnist_file(str(files[i]), dtype=EVENT_DTYPE)

    return Recordings(root, files, labels, GESTURES, (128, 128), read, False, split)


def _tonic(name: str, root: DataRoot, **arguments: Any) -> Any:
    """Tonic's dataset, of whatever part of it is there."""
    import numpy.lib.recfunctions  # Tonic's DVSGesture uses it without importing it
    import tonic.datasets

    assert numpy.lib.recfunctions
    base: Any = getattr(tonic.datasets, name)
    # Tonic finds the folder by the class's name, so the subclass has the same one.
    lenient = type(name, (base,), {"_check_exists": lambda self: True})
    return lenient(str(root.root), **arguments)


def _recordings(
    root: DataRoot,
    listed: Any,
    classes: tuple[str, ...],
    sensor: tuple[int, int],
    flip_ok: bool,
    split: Split,
) -> Recordings:
    """Tonic's recordings of these classes, sorted by file: Tonic has most in the order of the disk.

    Its targets are class numbers, or names.
    """
    numbers = {name: i for i, name in enumerate(classes)} | {i: i for i in range(len(classes))}
    kept = [i for i, target in enumerate(listed.targets) if target in numbers]
    kept.sort(key=lambda i: listed.data[i])
    if not kept:
        raise root.error(f"'{root.shown(root.folder)}' holds no recordings")
    labels = np.array([numbers[listed.targets[i]] for i in kept], np.int64)
    files = [Path(listed.data[i]) for i in kept]

    def read(i: int) -> Any:
        return listed[kept[i]][0]

    return Recordings(root, files, labels, classes, sensor, read, flip_ok, split)


def _exactly(root: DataRoot, folder: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    for name in sorted({*found, *expected}):
        if name not in found:
            raise root.error(f"'{root.shown(folder / name)}' is missing")
        if name not in expected:
            raise root.error(f"'{root.shown(folder / name)}' does not belong there", "remove it")
