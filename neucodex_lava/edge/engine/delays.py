"""Connections whose spikes arrive later: spikes or sums wait in a ring, one slot per timestep.

A spike of timestep t arrives at t + d. One that would arrive after its sample's last timestep is
dropped when it is sent, so the ring is empty whenever a sample ends, in either schedule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from neucodex_lava.edge.engine.layout import Bytes, Ints, Synapses, to_hwc
from neucodex_lava.integer_net import Connection, Shape


@njit(cache=True, nogil=True)
def hold_spikes(values: Any, delays: Any, ring: Any, now: int, left: int) -> None:
    """Write each nonzero value into the slot of the timestep in which it arrives.

    Args:
        values: uint8 (n,).
        delays: uint8 (n,), timesteps.
        ring: uint8 (slots, n).
        now: slot of this timestep.
        left: timesteps after this one in the sample; what is later is dropped.
    """
    slots = ring.shape[0]
    for i in range(values.size):
        if values[i] != 0 and delays[i] <= left:
            ring[(now + delays[i]) % slots, i] = values[i]


@njit(cache=True, nogil=True)
def hold_sums(sums: Any, delays: Any, ring: Any, now: int, left: int) -> None:
    """Move each target's sum into the slot of the timestep in which it arrives; clears `sums`.

    Args:
        sums: int32 or int64 (n,).
        delays: uint8 (n,), timesteps.
        ring: as sums, (slots, n), added to.
        now, left: as in `hold_spikes`.
    """
    slots = ring.shape[0]
    for i in range(sums.size):
        if delays[i] <= left:
            ring[(now + delays[i]) % slots, i] += sums[i]
        sums[i] = 0


class DelayLine:
    """What is on its way through one delayed connection.

    Args:
        connection: a connection with delays.
        synapses: the same, laid out.
        source: shape (C, H, W) of the values.
        acc: the target's synaptic sums, of `synapses.target_view`.
        timesteps: T of a sample.
    """

    def __init__(
        self, connection: Connection, synapses: Synapses, source: Shape, acc: Any, timesteps: int
    ) -> None:
        self._synapses = synapses
        self._acc = acc
        self._timesteps = timesteps
        self._sums = connection.delays_targets
        if self._sums:
            rows = synapses.target_rows
            self._delays = connection.delay.reshape(-1)[rows]
            self._waiting = np.zeros(acc.shape, acc.dtype)
        else:
            self._delays = to_hwc(connection.source_delays(source)).reshape(-1)
            self._waiting = np.zeros(synapses.source_view, np.uint8)
        slots = min(connection.longest_delay, timesteps - 1) + 1
        self._ring = np.zeros((slots, *self._waiting.shape), self._waiting.dtype)
        self._flat_ring = self._ring.reshape(slots, -1)

    def clear(self) -> None:
        """Forget everything that is on its way."""
        self._ring.fill(0)

    def deliver(self, values: Bytes, counts: Ints, t: int) -> None:
        """Send this timestep's spikes, and deliver what arrives in it.

        Args:
            values: spikes of `source_view`.
            counts: as `Synapses.deliver`; a spike is counted when it reaches the synapses.
            t: timestep in the sample, from 0.
        """
        now, left = t % len(self._ring), self._timesteps - 1 - t
        arriving = self._ring[now]
        if self._sums:
            self._synapses.deliver(values, self._waiting, counts)
            waiting = self._waiting.reshape(-1)
            hold_sums(waiting, self._delays, self._flat_ring, now, left)
            np.add(self._acc, arriving, out=self._acc)
        else:
            hold_spikes(values.reshape(-1), self._delays, self._flat_ring, now, left)
            self._synapses.deliver(arriving, self._acc, counts)
        arriving.fill(0)
