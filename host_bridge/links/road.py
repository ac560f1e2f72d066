"""What all connections through a proxy share: the link, its faults, the dice."""

from __future__ import annotations

import random
import time
from collections import Counter

from host_bridge.links.faults import Faults
from host_bridge.links.presets import Link


class Road:
    """Of a `FaultProxy`; used on its event loop only, but for `faults`, which any thread may set.

    Args:
        link, faults, seed: as `FaultProxy` takes them.

    Attributes:
        happened, up_bytes, down_bytes: as the proxy's.
    """

    def __init__(self, link: Link, faults: Faults, seed: int) -> None:
        self.link = link
        self.faults = faults
        self.happened: Counter[str] = Counter()
        self.up_bytes = 0
        self.down_bytes = 0
        self._random = random.Random(seed)
        self._free_at = {True: 0.0, False: 0.0}

    def arrival(self, size: int, *, up: bool) -> float:
        """When the last of so many bytes, put on the road now, arrives (of `time.monotonic`)."""
        rate = self.link.up_bps if up else self.link.down_bps
        sent = max(time.monotonic(), self._free_at[up]) + 8 * size / rate
        self._free_at[up] = sent
        late = self._random.uniform(0, self.link.jitter_s) if self.link.jitter_s else 0.0
        return sent + self.link.delay_s + late

    def happens(self, fault: str) -> bool:
        """Throw the dice for a fault that has a share, and count it."""
        share: float = getattr(self.faults, fault)
        if not share or self._random.random() >= share:
            return False
        self.happened[fault] += 1
        return True

    def bit_of(self, size: int) -> tuple[int, int]:
        """A place in so many bytes, and a byte with one bit set."""
        return self._random.randrange(size), 1 << self._random.randrange(8)

    def count(self, size: int, *, up: bool) -> None:
        """So many bytes have been handed on."""
        if up:
            self.up_bytes += size
        else:
            self.down_bytes += size
