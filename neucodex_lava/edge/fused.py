"""Drive the `EdgeHead` process from outside Lava: frames in, codes and counts out.

Frames and results travel through Lava ports with an external pipe (the way Lava's own Injector and
Extractor are built), counts through memory shared by fork. The network runs without end and waits
for frames, so a timestep costs one round trip and no new run command.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.processes.fused import EdgeHead, PyEdgeHeadModel
from neucodex_lava.edge.runtime.shared import shared_zeros
from neucodex_lava.edge.runtime.supervisor import SupervisedRun
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import STATE_SHIFT

MAX_SLOTS = 32
"""Frames that may be on their way at once."""
MAILBOX_BYTES = 64 << 20
"""What a mailbox may take: where nodes are recorded, fewer frames are on their way at once."""
ENDLESS = 2**40
"""More steps than anyone will run, and exact in the float64 that Lava sends it as."""


@dataclass(frozen=True)
class StepData:
    """What one Lava step gave.

    Attributes:
        code: spikes of the output, uint8 (C, H, W).
        sums: running sums of a readout, int64 (K,), else None.
        links: counts per connection, (links, 4).
        nodes: counts per node, (nodes, 2).
        spikes: of recorded nodes, uint8 (C, H, W) each.
        currents: u of watched nodes, int32 (C, H, W) each.
        potentials: v after reset of recorded and watched nodes, int32 (C, H, W) each.
        exit_sums: running sums of the exit heads, int64 (K,) each.
    """

    code: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    links: NDArray[np.int64]
    nodes: NDArray[np.int64]
    spikes: dict[str, NDArray[np.uint8]]
    currents: dict[str, NDArray[np.int32]]
    potentials: dict[str, NDArray[np.int32]]
    exit_sums: dict[str, NDArray[np.int64]]


class FusedRun:
    """A running `EdgeHead`, as a context manager.

    Args:
        wiring: the edge part and its schedule.
        record: keep every node's spikes and potentials.
        watch: names of nodes whose currents and potentials are kept.
        threads: that share the work of large layers.

    Raises:
        SimulationError: Lava could not start.
    """

    def __init__(
        self,
        wiring: Wiring,
        *,
        record: bool = False,
        watch: Collection[str] = (),
        threads: int = 1,
    ) -> None:
        engine = FusedEngine(wiring, threads=threads)
        kept = {
            "spikes": (np.uint8, engine.names if record else []),
            "currents": (np.int32, [n for n in engine.names if n in watch]),
            "potentials": (np.int32, [n for n in engine.names if record or n in watch]),
            "exits": (np.int32, wiring.exit_heads),
        }
        per_slot = sum(
            np.dtype(kind).itemsize * engine.spikes(name).size
            for kind, names in kept.values()
            for name in names
        )
        self._slots = max(2, min(MAX_SLOTS, MAILBOX_BYTES // max(per_slot, 1)))
        links, nodes = engine.zero_counts(self._slots)
        self._mailbox: dict[str, Any] = {
            "start": shared_zeros((self._slots,), np.uint8),
            "links": shared_zeros(links.shape, np.int64),
            "nodes": shared_zeros(nodes.shape, np.int64),
        }
        for what, (kind, names) in kept.items():
            self._mailbox[what] = {
                name: shared_zeros((self._slots, *engine.spikes(name).shape), kind)
                for name in names
            }
        head = EdgeHead(
            engine=engine,
            input_shape=wiring.net.input_shape[::-1],
            output_shape=wiring.shape_of(wiring.output)[::-1],
            timesteps=wiring.timesteps,
            mailbox=self._mailbox,
        )
        self.readout = wiring.net.ends_in_readout
        head.s_in.flag_external_pipe(buffer_size=self._slots)
        head.s_out.flag_external_pipe(buffer_size=self._slots)
        if self.readout:
            head.v_out.flag_external_pipe(buffer_size=self._slots)
        self._run = SupervisedRun(head, {head: PyEdgeHeadModel})
        self._in = self._run.external(head.s_in)
        self._out = self._run.external(head.s_out)
        self._potential = self._run.external(head.v_out) if self.readout else None
        self._run.start(ENDLESS)
        self.sent = 0
        self.received = 0

    def __enter__(self) -> FusedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        self._run.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the Lava processes."""
        return self._run.pids

    @property
    def room(self) -> int:
        """Frames that can be sent before a result must be received."""
        return self._slots - (self.sent - self.received)

    def send(self, frame: NDArray[np.uint8], *, start: bool) -> None:
        """Send the frame of one Lava step, uint8 (C, H, W)."""
        self._mailbox["start"][self.sent % self._slots] = start
        self._run.await_ready(self._in)
        self._in.send(frame.transpose(2, 1, 0))
        self.sent += 1

    def receive(self) -> StepData:
        """Wait for the result of the earliest step that is still out.

        Raises:
            SimulationError: a Lava process failed or died.
            OverflowInRunError: a synaptic sum left the 24-bit range.
        """
        slot = self.received % self._slots
        self._run.await_ready(self._out)
        code = self._out.recv().transpose(2, 1, 0)
        sums = None
        if self._potential is not None:
            self._run.await_ready(self._potential)
            potential = self._potential.recv().transpose(2, 1, 0).reshape(-1).astype(np.int64)
            sums = potential >> STATE_SHIFT
        self.received += 1
        return StepData(
            np.ascontiguousarray(code),
            sums,
            self._mailbox["links"][slot].copy(),
            self._mailbox["nodes"][slot].copy(),
            self._take("spikes", slot),
            self._take("currents", slot),
            self._take("potentials", slot),
            {
                name: v.reshape(-1).astype(np.int64) >> STATE_SHIFT
                for name, v in self._take("exits", slot).items()
            },
        )

    def _take(self, what: str, slot: int) -> dict[str, NDArray[Any]]:
        rings = self._mailbox[what]
        return {name: ring[slot].transpose(2, 0, 1).copy() for name, ring in rings.items()}
