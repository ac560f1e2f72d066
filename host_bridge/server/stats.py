"""What a server counts while it runs: plain numbers, cheap enough for every message."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SECONDS: Final = (
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Counts of values by size.

    Args:
        bounds: upper ends of the buckets, rising; a last one without end is added.

    Attributes:
        counts: of each bucket, the last one included.
        total: sum of all values.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class Stats:
    """Counts since the server started; all but `queued` only grow.

    Attributes:
        sessions: opened.
        steps: timesteps run and answered.
        samples: ended by the edge.
        busy: timesteps answered by BUSY.
        refused: sessions refused or ended by ERROR, by status.
        bytes_in, bytes_out: of messages, headers included.
        queued: timesteps that wait for their turn now.
        batch_sizes: timesteps run together.
        queue_s: wait of a timestep for its turn, in seconds.
        step_s: the tail's work on a batch, in seconds.
    """

    sessions: int = 0
    steps: int = 0
    samples: int = 0
    busy: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    bytes_in: int = 0
    bytes_out: int = 0
    queued: int = 0
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(SIZES))
    queue_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    step_s: Histogram = field(default_factory=lambda: Histogram(SECONDS))
