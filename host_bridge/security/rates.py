"""How often a peer may do something: token buckets, one for each peer, in bounded memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from neucodex_lava.errors import ConfigError

MAX_PEERS: Final = 10_000
"""How many peers are told apart, by default; the one heard of longest ago is forgotten first."""


@dataclass(frozen=True)
class Rate:
    """So many a second on average, and so many at once.

    Args:
        per_s: a second; infinite for no limit.
        burst: at once, after a while of silence.

    Raises:
        ConfigError: one of them below what lets anything pass.
    """

    per_s: float = math.inf
    burst: int = 1

    def __post_init__(self) -> None:
        if not self.per_s > 0:
            raise ConfigError(f"a rate of {self.per_s} a second lets nothing pass")
        if self.burst < 1:
            raise ConfigError(f"a burst of {self.burst} lets nothing pass")


class Bucket:
    """What one peer has left of a rate; full at first.

    Args:
        rate: what it fills with.
    """

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._at = -math.inf

    def take(self, now: float) -> float:
        """Take one.

        Args:
            now: seconds of a clock that never goes back, such as `time.monotonic`.

        Returns:
            0 when there was one; else the seconds until there is, and nothing was taken.
        """
        rate = self._rate
        if math.isinf(rate.per_s):
            return 0.0
        self._left = min(rate.burst, self._left + max(0.0, now - self._at) * rate.per_s)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / rate.per_s


class PeerRates:
    """A bucket for each peer.

    Args:
        rate: of each of them.
        max_peers: how many are told apart; a forgotten one begins anew with a full bucket, so that
            memory is bounded whoever comes.
    """

    def __init__(self, rate: Rate, max_peers: int = MAX_PEERS) -> None:
        self._rate = rate
        self._max_peers = max_peers
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, peer: str, now: float) -> float:
        """Take one of this peer's; as `Bucket.take`."""
        bucket = self._buckets.pop(peer, None) or Bucket(self._rate)
        self._buckets[peer] = bucket
        if len(self._buckets) > self._max_peers:
            self._buckets.popitem(last=False)
        return bucket.take(now)
