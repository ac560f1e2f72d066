"""Stock synapses that also count: spikes in, synaptic operations, MACs; nothing else is changed.

Each process takes, besides the stock process's own arguments, ``tally``, a dict of

* ``counts`` (steps, 4), int64 shared with the parent, one row per Lava step, in the ledger's order
  (spikes_in, syn_ops, syn_ops_nonzero, macs);
* ``peaks`` (steps,), int64 shared with the parent, the largest absolute synaptic sum;
* ``every`` and ``nonzero``, the fan-out maps in the shape of ``s_in``;
* ``graded``, whether the work is MACs.
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
from lava.proc.dense.models import AbstractPyDenseModelBitAcc
from lava.proc.dense.process import Dense


class KeepingInPort(PyInPortVectorDense):
    """A stock port that remembers what it received last."""

    last: Any = None

    def recv(self) -> Any:
        self.last = super().recv()
        return self.last


def count(tally: dict[str, Any], step: int, values: Any, sums: Any) -> None:
    """Write the counts of one step (from 0) for these incoming values and outgoing sums."""
    row = tally["counts"][step]
    active = values != 0
    row[0] = np.count_nonzero(active)
    reached = int(tally["every"][active].sum())
    if tally["graded"]:
        row[3] = reached
    else:
        row[1] = reached
        row[2] = int(tally["nonzero"][active].sum())
    tally["peaks"][step] = np.abs(sums).max()


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
        count(self.proc_params["tally"], self.time_step - 1, self.s_in.last, self.a_buf)


@implements(proc=CountingDense, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyCountingDenseModel(AbstractPyDenseModelBitAcc):
    """Stock bit-accurate `Dense` model, then the count."""

    s_in: PyInPort = LavaPyType(KeepingInPort, np.int32, precision=24)

    def run_spk(self) -> None:
        super().run_spk()
        count(self.proc_params["tally"], self.time_step - 1, self.s_in.last, self.a_buff)
