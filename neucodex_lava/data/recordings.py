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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.cache import cached
from neucodex_lava.data.events import (
    EVENT_DTYPE,
    POLARITIES,
    Events,
    bin_events,
    problem_of,
    too_short,
)
from neucodex_lava.data.files import CIFAR10_CLASSES
from neucodex_lava.data.roots import DataRoot, check_numbers, files_of, find_root, subfolders
from neucodex_lava.data.sets import EventSet, Split
from neucodex_lava.errors import ConfigError, DataError, MissingDependencyError

EVENT_BYTES = 5
"""Size of an event in the 40-bit format of N-MNIST."""
FILE_BYTES_MAX = 1 << 28
"""Far larger than any recording (DVS128 Gesture: 30 MB), far smaller than memory."""
DAMAGED = "copy the file again from the dataset"


@dataclass(frozen=True)
class Recordings:
    """The files of a dataset's split, and how one is read.

    Attributes:
        root: the dataset.
        files: one for each recording, sorted.
        labels: int64 (N,).
        classes: their names.
        sensor: (W, H) of the camera.
        read: the events of recording i.
        flip_ok: whether a mirrored recording keeps its class.
        split: which split the files are; ``all`` where the dataset is undivided.
    """

    root: DataRoot
    files: list[Path]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sensor: tuple[int, int]
    read: Callable[[int], Any]
    flip_ok: bool
    split: Split

    def events(self, i: int) -> Events:
        """The events of recording i: (E,) of EVENT_DTYPE.

        Raises:
            DataError: the file is empty, truncated, too large or unreadable, or its events are out of
                range or out of order; names the file.
        """
        path = self.files[i]
        shown = self.root.shown(path)
        size = path.stat().st_size
        if size == 0:
            raise self.root.error(f"recording '{shown}' is empty", DAMAGED)
        if size > FILE_BYTES_MAX:
            raise self.root.error(f"'{shown}' has {size:,} bytes, more than any recording", DAMAGED)
        if path.suffix in (".bin", ".bs2") and size % EVENT_BYTES:
            raise self.root.error(
                f"recording '{shown}' is truncated: {size:,} bytes are no whole number of events of"
                f" {EVENT_BYTES} bytes",
                DAMAGED,
            )
        try:
            raw = self.read(i)
            events = np.empty(len(raw), EVENT_DTYPE)
            for field in "xytp":
                events[field] = raw[field]
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"recordings like '{shown}' are read by the package '{error.name}', which is not"
                " installed",
                f"pip install {error.name}",
            ) from error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # damaged files: nearly anything, a panic of Rust's even
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self.root.error(
                f"recording '{shown}' cannot be read: {reason}", DAMAGED
            ) from error
        if problem := problem_of(events, self.sensor):
            raise self.root.error(f"recording '{shown}' {problem}", DAMAGED)
        return events

    def binned(self, config: DataConfig) -> EventSet:
        """All recordings as frames of T timesteps, from the cache where they are there.

        Raises:
            DataError: as `events`, or a recording too short for T, or a size larger than the sensor.
        """
        width, height = self.sensor
        if config.size > min(width, height):
            raise ConfigError(
                f"{self.root.dataset}: size {config.size} is larger than the sensor,"
                f" {width}x{height}"
            )
        size = (config.size, config.size) if config.size else (height, width)
        frames = cached(
            self.root,
            {"timesteps": config.timesteps, "bins": config.bins, "sensor": self.sensor},
            self.files,
            (POLARITIES, *size, config.timesteps),
            self._frames(config),
        )
        return EventSet(
            name=self.root.dataset,
            split=self.split,
            labels=self.labels,
            index=np.arange(len(self.labels), dtype=np.int64),
            classes=self.classes,
            flip_ok=self.flip_ok,
            frames=frames,
        )

    def _frames(self, config: DataConfig) -> Iterator[NDArray[np.uint8]]:
        for i, path in enumerate(self.files):
            events = self.events(i)
            if problem := too_short(events, config.timesteps, config.bins):
                raise self.root.error(
                    f"recording '{self.root.shown(path)}' {problem}", "take fewer timesteps"
                )
            yield bin_events(events, self.sensor, config.timesteps, config.bins, config.size)


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
        files_of(root, root.folder / name, r"image_\d{4}\.bin")
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
