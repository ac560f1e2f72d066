"""The running sample, as the edge keeps it: all that a server needs to take it up again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field

import numpy as np
import numpy.typing as npt

from host_bridge.codecs import Code


@dataclass(frozen=True)
class StepReply:
    """What one timestep brought back and cost.

    Args:
        sums: running sums S_t, int64, shape (classes,).
        roundtrip_s: from before the code was packed to after the sums were read, in seconds.
        cloud_s: the server's own part of it (reading the code and the tail's step), in seconds.
        payload_bits: the coded spikes alone, in whole bytes, as bits.
        wire_bytes: both messages together, *modelled* from their sizes by `messages.wire_bytes`:
            with our headers and gRPC's and HTTP/2's framing, without TCP/IP and pings; what a broken
            link made us send again is not in it (`EdgeClient.counts` has it).
        timestep: t, from 1.
    """

    sums: npt.NDArray[np.int64]
    roundtrip_s: float
    cloud_s: float
    payload_bits: int
    wire_bytes: int
    timestep: int = 0


@dataclass(frozen=True)
class Written:
    """One timestep's code as it is sent, the first time and again.

    Args:
        codec: the codec's id.
        payload: the coded spikes.
        began: `time.perf_counter()` before they were coded.
    """

    codec: int
    payload: bytes
    began: float = field(default_factory=time.perf_counter)


@dataclass
class SampleLog:
    """Z_1..Z_t and what the cloud made of them.

    Args:
        number: of the sample within the session.
        codes: written so far, Z_1 first.
        replies: known so far, of timestep 1 first.
        read: how many of them the caller has taken.
        previous: the code of the latest timestep, for codecs that are conditioned on it.
        failed: the cloud failed at it, twice at the same timestep; the session goes on.
    """

    number: int
    codes: list[Written] = field(default_factory=list)
    replies: list[StepReply] = field(default_factory=list)
    read: int = 0
    previous: Code | None = None
    failed: bool = False

    def where(self) -> str:
        """Names the timestep that is awaited, for an error's text."""
        return f"sample {self.number}, timestep {len(self.replies) + 1}"


@dataclass
class LinkCounts:
    """What a session sent in all and met on the way; without a fault all but the first three are 0.

    Args:
        codes: CODEs sent, with those sent again.
        payload_bits: the coded spikes of these, in whole bytes, as bits.
        wire_bytes: of all messages of samples both ways, modelled as in `StepReply`.
        replayed: of these, sent again to a server that had lost the session.
        reconnects: times the session was taken up again.
        busy: CODEs that a server did not take.
        ignored: answers that were duplicates or came too late.
    """

    codes: int = 0
    payload_bits: int = 0
    wire_bytes: int = 0
    replayed: int = 0
    reconnects: int = 0
    busy: int = 0
    ignored: int = 0

    @classmethod
    def sum(cls, counts: Iterable[LinkCounts]) -> LinkCounts:
        """Of several sessions together."""
        return cls(*(sum(column) for column in zip(*map(astuple, counts))))
