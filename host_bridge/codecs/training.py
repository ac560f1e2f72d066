"""Coding tables from the codes of training samples: counts, and a dictionary for zstd."""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

from host_bridge.codecs.ans import histogram, histogram_given
from host_bridge.codecs.code import Code, Shape, check_shape
from host_bridge.codecs.table import pack
from host_bridge.codecs.tables import TOTAL, Counts, Tables
from host_bridge.codecs.zstd import Zstd, plain_zstd

DICTIONARY_BYTES: Final = 4096
_FRAMES_BYTES: Final = 4 << 20
"""Most packed frames kept to train the dictionary on."""
_LEAST_FRAMES: Final = 16
_LEAST_FRAME_BYTES: Final = 16


class TableTraining:
    """Counts codes as they come; their tables then.

    Args:
        shape: (C, H, W) of the codes.
        bits: bits a value.
        dictionary: whether to train one. It holds snippets of the codes: where these are a network's
            input, of somebody's data.

    Raises:
        ProtocolError: a shape that no session may carry.
    """

    def __init__(self, shape: Shape, bits: int = 1, *, dictionary: bool = True) -> None:
        check_shape(shape, bits)
        self.shape, self.bits, self._wanted = shape, bits, dictionary
        self._counts = np.zeros((shape[0], 1 << bits), np.int64)
        self._given = np.zeros((shape[0], 2, 2), np.int64)
        self._frames: list[bytes] = []
        self._frame_bytes = 0

    def add(self, codes: Code) -> None:
        """Count one sample: uint8 (T, C, H, W)."""
        for code in codes:
            self._counts += histogram(code, self.bits)
            if self._wanted and self._frame_bytes < _FRAMES_BYTES:
                frame = pack(code, self.bits)
                self._frames.append(frame)
                self._frame_bytes += len(frame)
        if self.bits == 1:
            for before, now in itertools.pairwise(codes):
                self._given += histogram_given(now, before)

    def tables(self) -> Tables:
        """The tables of what was counted; the same for the same codes."""
        given = quantised(self._given) if self.bits == 1 and self._given.any() else None
        return Tables(quantised(self._counts), given, self._dictionary())

    def _dictionary(self) -> bytes:
        """Empty unless one trained on the first half of the frames makes the others smaller."""
        half = len(self._frames) // 2
        own, others = self._frames[:half], self._frames[half:]
        if len(own) < _LEAST_FRAMES or len(own[0]) < _LEAST_FRAME_BYTES:
            return b""
        samples: list[Any] = list(own)
        try:
            trained = zstandard.train_dictionary(DICTIONARY_BYTES, samples, k=64, d=8).as_bytes()
        except zstandard.ZstdError:
            return b""  # Too little, or nothing that repeats.
        plain, helped = (
            sum(len(zstd.compress(frame)) for frame in others)
            for zstd in (plain_zstd(), Zstd(trained))
        )
        return trained if helped < plain else b""


def quantised(counts: npt.NDArray[np.int64]) -> Counts:
    """Rows of counts as rows that sum to 2^16 with every value possible, in integers.

    Half an occurrence is added to each value (R. Krichevsky and V. Trofimov, "The performance of
    universal encoding", IEEE Trans. Inf. Theory 27, 1981). What rounding leaves goes to the most
    frequent value.

    Args:
        counts: (..., V) occurrences, below 2^40.
    """
    values = counts.shape[-1]
    halves = 2 * counts + 1
    scaled = halves * (TOTAL - values) // halves.sum(axis=-1, keepdims=True) + 1
    most = np.expand_dims(scaled.argmax(axis=-1), -1)
    left = TOTAL - scaled.sum(axis=-1, keepdims=True)
    np.put_along_axis(scaled, most, np.take_along_axis(scaled, most, -1) + left, -1)
    return scaled.astype(np.uint16)
