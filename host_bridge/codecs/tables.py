"""Coding tables: how likely each value of each channel is, in integers, and a dictionary for zstd.

    P(channel c has value v)                  = counts[c, v] / 2^16
    P(channel c spikes | it did so before)    = given[c, 1, 1] / 2^16, and so on

The counts are what is kept and compared. Handed to the coder as count / 2^16, every step of its own
quantisation (floor(cumulated * (2^24 - values)) + index, in float64) is exact, so that the coded
bytes are the same on every machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from host_bridge.codecs._constriction import Categorical
from host_bridge.codecs.code import MAX_BITS, Shape
from host_bridge.codecs.zstd import Zstd
from neucodex_lava.errors import ConfigError

TOTAL: Final = 1 << 16
"""What the counts of one channel sum to."""
DICTIONARY_LIMIT: Final = 1 << 16
"""Most bytes of a dictionary."""

NO_TABLES_HINT: Final = "neucodex calibrate BUNDLE trains them; without them use auto or packed"

Counts = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Tables:
    """The coding tables of one cut.

    Args:
        counts: uint16 (C, 2^bits), each at least 1, each row summing to 2^16.
        given: of binary codes, the same for each value of the timestep before: uint16 (C, 2, 2),
            [channel, before, now]; None where there is none.
        dictionary: for zstd; empty for none.

    Raises:
        ConfigError: tables of another shape or sum.
    """

    counts: Counts
    given: Counts | None = None
    dictionary: bytes = b""

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] not in [
            1 << bits for bits in range(1, MAX_BITS + 1)
        ]:
            raise ConfigError(
                f"coding tables of shape {self.counts.shape}, expected (C, 2^bits), 1 to 8 bits"
            )
        _check("counts", self.counts)
        if self.given is not None:
            if self.bits != 1 or self.given.shape != (self.channels, 2, 2):
                raise ConfigError(
                    f"conditional coding tables of shape {self.given.shape} for {self.channels}"
                    f" channels of {self.bits} bit"
                )
            _check("given", self.given)
        if len(self.dictionary) > DICTIONARY_LIMIT:
            raise ConfigError(
                f"a dictionary of {len(self.dictionary)} bytes, the limit is {DICTIONARY_LIMIT}"
            )

    def __reduce__(self) -> tuple[object, ...]:
        # What is made of the tables on the way (models, compressors) is made anew elsewhere.
        return Tables, (self.counts, self.given, self.dictionary)

    @property
    def channels(self) -> int:
        """C of the codes."""
        return self.counts.shape[0]

    @property
    def bits(self) -> int:
        """Bits a value."""
        return self.counts.shape[1].bit_length() - 1

    def check_fit(self, shape: Shape, bits: int) -> None:
        """Raise `ConfigError` unless these are tables for such codes."""
        if (self.channels, self.bits) != (shape[0], bits):
            raise ConfigError(
                f"coding tables of {self.channels} channels at {self.bits} bit, the code has"
                f" {shape[0]} at {bits}",
                "give both sides the same bundle",
            )

    @cached_property
    def sha256(self) -> str:
        """What edge and cloud compare, 64 hex digits."""
        digest = hashlib.sha256(b"neucodex-coding-1")
        for part in (self.counts, self.given):
            raw = b"" if part is None else part.astype(">u2").tobytes()
            digest.update(len(raw).to_bytes(8, "big") + raw)
        digest.update(self.bits.to_bytes(1, "big") + self.dictionary)
        return digest.hexdigest()

    @cached_property
    def cost_bits(self) -> npt.NDArray[np.float64]:
        """-log2 P of each value, (C, 2^bits)."""
        return -np.log2(self.counts / TOTAL)

    @cached_property
    def cost_bits_given(self) -> npt.NDArray[np.float64]:
        """-log2 P of each value after each value, (C, 2, 2)."""
        assert self.given is not None
        return -np.log2(self.given / TOTAL)

    @cached_property
    def models(self) -> list[Any]:
        """The coder's model of each channel."""
        return [_model(row) for row in self.counts]

    @cached_property
    def models_given(self) -> list[Any]:
        """The coder's models: of each channel after a 0, then of each after a 1."""
        assert self.given is not None
        return [_model(row) for before in (0, 1) for row in self.given[:, before]]

    @cached_property
    def zstd(self) -> Zstd:
        """With this dictionary."""
        return Zstd(self.dictionary)


def _check(name: str, counts: Counts) -> None:
    if counts.dtype != np.uint16 or not counts.size:
        raise ConfigError(f"coding tables: '{name}' is {counts.dtype}, expected uint16")
    if not counts.all() or (counts.sum(axis=-1, dtype=np.int64) != TOTAL).any():
        raise ConfigError(
            f"coding tables: a row of '{name}' does not sum to {TOTAL} with every value possible"
        )


def _model(row: npt.NDArray[np.uint16]) -> Any:
    return Categorical(row.astype(np.float64) / TOTAL, perfect=False)
