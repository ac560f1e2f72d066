"""Stock synapses that also count: spikes in, synaptic operations, MACs; nothing else is changed.

Each process takes, besides the stock process's own arguments, ``tally``, a dict of

* ``counts`` (steps, 4), int64 shared with the parent, one row per Lava step, in the ledger's order
  (spikes_in, syn_ops, syn_ops_nonzero, macs);
* ``every`` and ``nonzero``, the fan-out maps in the shape of ``s_in``;
* ``graded``, whether the work is MACs;
* ``late``, None, or int64 in the shape of ``s_in``: steps that each spike waits inside the process
  before it reaches the synapses, where it is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyInPortVectorDense, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv import utils
from lava.proc.conv.models import AbstractPyConvModel
from lava.proc.conv.process import Conv
from lava.proc.dense.models import (
    AbstractPyDelayDenseModel,
    AbstractPyDenseModelBitAcc,
    PyDelayDenseModelBitAcc,
)
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.sparse.models import AbstractPySparseModelBitAcc
from lava.proc.sparse.process import Sparse


class KeepingInPort(PyInPortVectorDense):
    """A stock port that remembers what it received last."""

    last: Any = None

    def recv(self) -> Any:
        self.last = super().recv()
        return self.last


class LateInPort(KeepingInPort):
    """A stock port that remembers what it received, as far back as spikes wait."""

    _ring: Any = None
    _step = 0

    def arrived(self, late: Any) -> Any:
        """What was received in the last step or before and reaches the synapses now."""
        if self._ring is None:
            self._ring = np.zeros((int(late.max()) + 1, late.size), np.int32)
        slots = len(self._ring)
        self._ring[self._step % slots] = self.last
        arrived = self._ring[(self._step - late) % slots, np.arange(late.size)]
        self._step += 1
        return arrived


def count(tally: dict[str, Any], step: int, values: Any) -> None:
    """Write the counts of one step (from 0) for these incoming values."""
    row = tally["counts"][step]
    active = values != 0
    row[0] = np.count_nonzero(active)
    reached = int(tally["every"][active].sum())
    if tally["graded"]:
        row[3] = reached
    else:
        row[1] = reached
        row[2] = int(tally["nonzero"][active].sum())


class CountingConv(Conv):
    """Stock `Conv` with a tally."""

    def __init__(self, *, tally: dict[str, Any], **conv: Any) -> None:
        super().__init__(**conv)
        self.proc_params["tally"] = tally


class CountingDense(Dense):
    """Stock `Dense` with a tally."""

    def __init__(self, *, tally: dict[str, Any], **dense: Any) -> None:
        super().__init__(**dense)
        self.proc_params["tally"] = tally


class CountingDelayDense(DelayDense):
    """Stock `DelayDense` with a tally."""

    def __init__(self, *, tally: dict[str, Any], **dense: Any) -> None:
        super().__init__(**dense)
        self.proc_params["tally"] = tally


class CountingSparse(Sparse):
    """Stock `Sparse` with a tally."""

    def __init__(self, *, tally: dict[str, Any], **sparse: Any) -> None:
        super().__init__(**sparse)
        self.proc_params["tally"] = tally


@implements(proc=CountingConv, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCountingConvModel(AbstractPyConvModel):
    """Stock fixed-point `Conv` model, types and clamp as there, then the count."""

    s_in: PyInPort = LavaPyType(KeepingInPort, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    a_buf: Any = LavaPyType(np.ndarray, np.int32, precision=24)
    weight: Any = LavaPyType(np.ndarray, np.int32, precision=8)

    def clamp_precision(self, x: Any) -> Any:
        return utils.signed_clamp(x, bits=24)

    def run_spk(self) -> None:
        super().run_spk()
        count(self.proc_params["tally"], self.time_step - 1, self.s_in.last)


@implements(proc=CountingDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCountingDenseModel(AbstractPyDenseModelBitAcc):
    """Stock bit-accurate `Dense` model, then the count."""

    s_in: PyInPort = LavaPyType(KeepingInPort, np.int32, precision=24)

    def run_spk(self) -> None:
        super().run_spk()
        count(self.proc_params["tally"], self.time_step - 1, self.s_in.last)


@implements(proc=CountingSparse, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCountingSparseModel(AbstractPySparseModelBitAcc):
    """Stock bit-accurate `Sparse` model, then the count."""

    s_in: PyInPort = LavaPyType(KeepingInPort, np.int32, precision=24)

    def run_spk(self) -> None:
        super().run_spk()
        count(self.proc_params["tally"], self.time_step - 1, self.s_in.last)


@implements(proc=CountingDelayDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCountingDelayDenseModel(AbstractPyDelayDenseModel):
    """Stock bit-accurate `DelayDense` model, types as there, then the count."""

    s_in: PyInPort = LavaPyType(LateInPort, np.int32, precision=24)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=16)
    a_buff: Any = LavaPyType(np.ndarray, np.int32, precision=16)
    weights: Any = LavaPyType(np.ndarray, np.int32, precision=8)
    delays: Any = LavaPyType(np.ndarray, np.int32, precision=6)
    num_message_bits: Any = LavaPyType(np.ndarray, int, precision=5)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.weights_set = False

    def run_spk(self) -> None:
        # The stock model is decorated, so Lava does not let it be subclassed.
        PyDelayDenseModelBitAcc.run_spk(self)
        tally = self.proc_params["tally"]
        late = tally["late"]
        values = self.s_in.last if late is None else self.s_in.arrived(late)
        count(tally, self.time_step - 1, values)
