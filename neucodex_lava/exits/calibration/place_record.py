"""What calibration samples did at each timestep, kept in a bundle as text.

One byte per sample and timestep, samples first, in base64: bits 0 to 2 the bin of the local
confidence, 3 to 5 the cloud's, 6 whether the local answer is right, 7 whether the cloud's is. It holds
no inputs and no classes, and with it any tables can be tried on the very samples, for any link.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require

BINS_LIMIT = 8
CELLS_LIMIT = 1 << 18
"""Samples times timesteps; of more samples every second is kept, or every third, and so on."""


@dataclass(frozen=True, eq=False)
class Record:
    """Calibration samples; each array is (N, T).

    Attributes:
        local_bins, cloud_bins: int64, below `BINS_LIMIT`.
        local_right, cloud_right: whether the answers are right.
    """

    local_bins: NDArray[np.int64]
    cloud_bins: NDArray[np.int64]
    local_right: NDArray[np.bool_]
    cloud_right: NDArray[np.bool_]

    def to_text(self) -> str:
        """As a bundle keeps it."""
        cells = self.local_bins | self.cloud_bins << 3
        cells |= self.local_right.astype(np.int64) << 6 | self.cloud_right.astype(np.int64) << 7
        step = -(-cells.size // CELLS_LIMIT)
        return base64.b64encode(cells[::step].astype(np.uint8).tobytes()).decode("ascii")

    @classmethod
    def from_text(cls, text: str, t_max: int) -> Record:
        """Read `to_text`.

        Raises:
            ConfigError: damaged, or for another T_max.
        """
        try:
            cells = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        except (ValueError, binascii.Error):
            cells = np.zeros(0, np.uint8)
        require(
            len(cells) > 0 and len(cells) % t_max == 0,
            f"place model: its record is not one of samples with {t_max} timesteps",
        )
        cells = cells.reshape(-1, t_max).astype(np.int64)
        return cls(cells & 7, cells >> 3 & 7, (cells >> 6 & 1) > 0, cells >> 7 > 0)
