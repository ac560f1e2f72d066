"""Recordings of events: files that are read and checked one by one, and binned to frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from neucodex_lava.data.roots import DataRoot
from neucodex_lava.data.sets import EventSet, Split
from neucodex_lava.errors import ConfigError, MissingDependencyError

EVENT_BYTES = 5
"""Size of an event in the 40-bit format of N-MNIST."""
FILE_BYTES_MAX = 1 << 28
"""Far larger than any recording, far smaller than memory."""
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
