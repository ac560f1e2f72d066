"""Drive the `EdgeHead` process from outside Lava: frames in, codes and counts out.

Frames and results travel through Lava ports with an external pipe (the way Lava's own Injector and
Extractor are built), counts through memory shared by fork. The network runs without end and waits
for frames, so a timestep costs one round trip and no new run command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.engine import FusedEngine
from neucodex_lava.edge.processes.fused import EdgeHead, PyEdgeHeadModel
from neucodex_lava.edge.shared import shared_zeros
from neucodex_lava.edge.supervisor import SupervisedRun
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import STATE_SHIFT

SLOTS = 32
"""Frames that may be on their way at once."""
ENDLESS = 2**40
"""More steps than anyone will run, and exact in the float64 that Lava sends it as."""


@dataclass(frozen=True)
class StepData:
    """What one Lava step gave.

    Attributes:
        code: spikes of the last node, uint8 (C, H, W).
        sums: running sums of a readout, int64 (K,), else None.
        links: counts per connection, (links, 4).
        nodes: counts per node, (nodes, 2).
        spikes: of recorded nodes, uint8 (C, H, W) each.
    """

    code: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    links: NDArray[np.int64]
    nodes: NDArray[np.int64]
    spikes: dict[str, NDArray[np.uint8]]


class FusedRun:
    """A running `EdgeHead`, as a context manager.

    Args:
        wiring: the edge part and its schedule.
        record: keep every node's spikes.

    Raises:
        SimulationError: Lava could not start.
    """

    def __init__(self, wiring: Wiring, *, record: bool = False) -> None:
        engine = FusedEngine(wiring)
        links, nodes = engine.zero_counts(SLOTS)
        spikes = {
            name: shared_zeros((SLOTS, *engine.spikes(name).shape), np.uint8)
            for name in (engine.names if record else [])
        }
        self._mailbox: dict[str, Any] = {
            "start": shared_zeros((SLOTS,), np.uint8),
            "links": shared_zeros(links.shape, np.int64),
            "nodes": shared_zeros(nodes.shape, np.int64),
            "spikes": spikes,
        }
        head = EdgeHead(
            engine=engine,
            input_shape=wiring.net.input_shape[::-1],
            output_shape=wiring.net.nodes[-1].shape[::-1],
            timesteps=wiring.timesteps,
            mailbox=self._mailbox,
        )
        self.readout = wiring.net.ends_in_readout
        head.s_in.flag_external_pipe(buffer_size=SLOTS)
        head.s_out.flag_external_pipe(buffer_size=SLOTS)
        if self.readout:
            head.v_out.flag_external_pipe(buffer_size=SLOTS)
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
        return SLOTS - (self.sent - self.received)

    def send(self, frame: NDArray[np.uint8], *, start: bool) -> None:
        """Send the frame of one Lava step, uint8 (C, H, W)."""
        self._mailbox["start"][self.sent % SLOTS] = start
        self._run.await_ready(self._in)
        self._in.send(frame.transpose(2, 1, 0))
        self.sent += 1

    def receive(self) -> StepData:
        """Wait for the result of the earliest step that is still out.

        Raises:
            SimulationError: a Lava process failed or died.
            OverflowInRunError: a synaptic sum left the 24-bit range.
        """
        slot = self.received % SLOTS
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
            {
                n: ring[slot].transpose(2, 0, 1).copy()
                for n, ring in self._mailbox["spikes"].items()
            },
        )
