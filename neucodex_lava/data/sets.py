"""What every dataset split is: samples with classes that give a network's input when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import DataConfig
from neucodex_lava.data.encodings import encode
from neucodex_lava.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Self

Split = Literal["train", "holdout", "test", "all"]
Rows = slice | NDArray[Any]
ALL = slice(None)


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleSet(ABC):
    """Samples of one split, images or recordings of events.

    Attributes:
        name: of the dataset.
        split: ``train``, ``holdout`` (the training samples that are not trained on) or ``test``;
            ``all`` while a dataset that comes undivided is whole.
        labels: int64 (N,), class numbers from 0.
        index: int64 (N,), place of each sample in its split, or in the dataset where that comes
            undivided; random encodings are keyed by it.
        classes: name of each class.
        flip_ok: whether a mirrored sample still belongs to its class (photographs, not digits).
    """

    name: str
    split: Split
    labels: NDArray[np.int64]
    index: NDArray[np.int64]
    classes: tuple[str, ...]
    flip_ok: bool

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a sample at one timestep."""

    @abstractmethod
    def inputs(self, data: DataConfig, rows: Rows = ALL) -> NDArray[np.uint8]:
        """The chosen samples (all of them by default) as the network sees them.

        Args:
            data: says how images are encoded, to how many bits events are clipped, and T.
            rows: which samples of this set.

        Returns:
            uint8 (N, C, H, W, T).

        Raises:
            DataError: recordings that were binned to another T.
        """

    @abstractmethod
    def stored(self) -> Iterable[NDArray[np.uint8]]:
        """Every sample as it is kept, one after the other."""

    def take(self, rows: Rows) -> Self:
        """The set of these samples only."""
        return replace(self, labels=self.labels[rows], index=self.index[rows])

    def batches(self, size: int) -> Iterator[Self]:
        """Consecutive parts of at most `size` samples, in order."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet(SampleSet):
    """Images, kept as stored (uint8) and scaled to [0, 1] when asked for.

    Attributes:
        pixels: uint8 (N, C, H, W), values 0 .. scale.
        scale: value of full brightness (255, digits 16).
    """

    pixels: NDArray[np.uint8]
    scale: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def images(self, rows: Rows = ALL) -> NDArray[np.float32]:
        """The chosen images (all of them by default) as float32 (N, C, H, W) in [0, 1]."""
        return self.pixels[rows].astype(np.float32) / np.float32(self.scale)

    def inputs(self, data: DataConfig, rows: Rows = ALL) -> NDArray[np.uint8]:
        """The chosen images, encoded: uint8 (N, C, H, W, T)."""
        return encode(self.images(rows), data.encoding, data.timesteps, indices=self.index[rows])

    def stored(self) -> Iterable[NDArray[np.uint8]]:
        """The pixels of each image, (C, H, W)."""
        return self.pixels

    def take(self, rows: Rows) -> Self:
        """The set of these images only."""
        return replace(super().take(rows), pixels=self.pixels[rows])


@dataclass(frozen=True, eq=False, kw_only=True)
class EventSet(SampleSet):
    """Recordings of events, binned to T frames of counts.

    Attributes:
        frames: uint8 (M, 2, H, W, T), counts up to 255 of the whole dataset, which may be mapped from
            a file; `index` says which of them this set holds.
    """

    frames: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(2, H, W); the channels are the polarities off and on."""
        c, h, w = self.frames.shape[1:4]
        return c, h, w

    def inputs(self, data: DataConfig, rows: Rows = ALL) -> NDArray[np.uint8]:
        """The chosen recordings, clipped to the encoding's bits: uint8 (N, 2, H, W, T)."""
        steps = self.frames.shape[-1]
        if data.timesteps != steps:
            raise DataError(
                f"{self.name}: recordings were binned to {steps} timesteps, not {data.timesteps}"
            )
        most = (1 << data.encoding.bits) - 1
        return np.minimum(self.frames[self.index[rows]], np.uint8(most))

    def stored(self) -> Iterable[NDArray[np.uint8]]:
        """The frames of each recording, (2, H, W, T)."""
        return (self.frames[i] for i in self.index)
