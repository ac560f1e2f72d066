"""The whole edge part as one Lava process."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class EdgeHead(AbstractProcess):
    """Runs an edge part, one Lava step at a time.

    Args:
        engine: a `FusedEngine`; its kernels are compiled already.
        input_shape: (W, H, C).
        output_shape: (W', H', C') of the output.
        timesteps: T; without a mailbox, each sample is T steps long.
        mailbox: None, or arrays shared with the parent whose first axis is a ring of slots, one per
            Lava step: ``start`` (slots,) is read, ``links`` (slots, links, 4), ``nodes``
            (slots, nodes, 2) and, per node to record, ``spikes[name]``, ``currents[name]``,
            ``potentials[name]`` and ``exits[name]`` (slots, H, W, C) are written.

    Ports:
        s_in: spikes or graded values of a timestep, (W, H, C).
        s_out: spikes of the output, (W', H', C').
        v_out: its potential, int32 (W', H', C'); the running sum, shifted left by 6, of a readout.
    """

    def __init__(
        self,
        *,
        engine: Any,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        timesteps: int,
        mailbox: dict[str, Any] | None = None,
        name: str = "edge head",
    ) -> None:
        super().__init__(engine=engine, timesteps=timesteps, mailbox=mailbox, name=name)
        self.s_in = InPort(shape=input_shape)
        self.s_out = OutPort(shape=output_shape)
        self.v_out = OutPort(shape=output_shape)


@implements(proc=EdgeHead, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyEdgeHeadModel(PyLoihiProcessModel):
    """Process model of `EdgeHead`; all arithmetic is the engine's."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.uint8, precision=8)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.uint8, precision=1)
    v_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._engine = proc_params["engine"]
        self._timesteps: int = proc_params["timesteps"]
        self._mailbox: dict[str, Any] | None = proc_params["mailbox"]
        self._output: str = self._engine.wiring.output
        if self._mailbox is None:
            links, nodes = self._engine.zero_counts(1)
            self._counts = {"links": links, "nodes": nodes}
        else:
            self._counts = self._mailbox

    def run_spk(self) -> None:
        # Stock sources send int32.
        frame = self.s_in.recv().astype(np.uint8, copy=False)
        step = self.time_step - 1
        slot = step % len(self._counts["links"])
        if self._mailbox is None:
            start = step % self._timesteps == 0
        else:
            start = bool(self._mailbox["start"][slot])
        self._engine.step(frame, start, self._counts["links"][slot], self._counts["nodes"][slot])
        if self._mailbox is not None:
            for name, ring in self._mailbox["spikes"].items():
                np.copyto(ring[slot], self._engine.spikes(name))
            for name, ring in self._mailbox["currents"].items():
                np.copyto(ring[slot], self._engine.current(name))
            for what in ("potentials", "exits"):
                for name, ring in self._mailbox[what].items():
                    np.copyto(ring[slot], self._engine.potential(name))
        self.v_out.send(self._engine.potential(self._output).transpose(1, 0, 2))
        self.s_out.send(self._engine.spikes(self._output).transpose(1, 0, 2))
