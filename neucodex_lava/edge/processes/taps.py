"""Sinks that write what they receive or read into memory shared with the parent, step by step.

Stock sinks keep it in a Var, which the parent reads at 20 microseconds per item.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class SpikeTap(AbstractProcess):
    """Stores incoming spikes.

    Args:
        data: (steps, *shape), shared with the parent.
        clock: int64 (1,), shared: Lava steps done.

    Ports:
        s_in: of this shape.
    """

    def __init__(self, *, data: Any, clock: Any, name: str) -> None:
        super().__init__(data=data, clock=clock, name=name)
        self.s_in = InPort(shape=data.shape[1:])


@implements(proc=SpikeTap, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeTapModel(PyLoihiProcessModel):
    """Process model of `SpikeTap`."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def run_spk(self) -> None:
        self.proc_params["data"][self.time_step - 1] = self.s_in.recv()
        self.proc_params["clock"][0] = self.time_step


class VarTap(AbstractProcess):
    """Stores a Var of another process as it is at the end of every step.

    Args:
        data: (steps, *shape), shared with the parent.
        var: the Var, of this shape.
    """

    def __init__(self, *, data: Any, var: Var, name: str) -> None:
        super().__init__(data=data, name=name)
        self.state = RefPort(data.shape[1:])
        self.state.connect_var(var)


@implements(proc=VarTap, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyVarTapModel(PyLoihiProcessModel):
    """Process model of `VarTap`."""

    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        self.proc_params["data"][self.time_step - 1] = self.state.read()
