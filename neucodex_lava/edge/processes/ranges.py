"""A watch over a neuron's 24-bit range: stock neurons wrap and clip without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

STATE_MAX = 1 << 23


class RangeWatch(AbstractProcess):
    """Listens where a `LIFReset` listens, and follows its current, and a readout's potential.

    Args:
        beyond: int64 (steps,), shared with the parent: in each step, the value (in units of the
            weights) of the first neuron out of range in H, W, C order, 0 where none is.
        shape: (W, H, C).
        keep_current: 4096 less the current's decay.
        interval, offset: Lava steps between resets, and the first (from 0).
        bias: of a readout per channel, shifted left by 6 bits, int64 (C,); else None.
        threshold: of a readout, shifted left by 6 bits.

    Ports:
        a_in: (W, H, C).
    """

    def __init__(
        self,
        *,
        beyond: Any,
        shape: tuple[int, ...],
        keep_current: int,
        interval: int,
        offset: int,
        bias: Any = None,
        threshold: int = 0,
        name: str,
    ) -> None:
        super().__init__(
            beyond=beyond,
            keep_current=keep_current,
            interval=interval,
            offset=offset,
            bias=bias,
            threshold=threshold,
            name=name,
        )
        self.a_in = InPort(shape=shape)


@implements(proc=RangeWatch, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRangeWatchModel(PyLoihiProcessModel):
    """Process model of `RangeWatch`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._keep: int = proc_params["keep_current"]
        self._bias: Any = proc_params["bias"]
        self._current: Any = 0
        self._potential: Any = 0

    def run_spk(self) -> None:
        received = self.a_in.recv()
        limit = STATE_MAX >> 6
        forgets = not self._keep and self._bias is None
        if forgets and received.max() <= limit and received.min() > -limit:
            return
        sums = received.astype(np.int64)
        step = self.time_step - 1
        if (step - self.proc_params["offset"]) % self.proc_params["interval"] == 0:
            self._current = self._potential = 0
        exact = (np.sign(self._current) * (np.abs(self._current) * self._keep >> 12)) + (sums << 6)
        above, below = exact > STATE_MAX, exact <= -STATE_MAX
        beyond = above | below
        self._current = exact + 2 * STATE_MAX * (below.astype(np.int64) - above)
        if self._bias is not None:
            self._potential = self._potential + self._current + self._bias
            clipped = self._potential > self.proc_params["threshold"]
            clipped |= self._potential <= -STATE_MAX
            exact = np.where(clipped, self._potential, exact)
            beyond |= clipped
        if beyond.any():
            first = int(beyond.transpose(1, 0, 2).argmax())
            self.proc_params["beyond"][step] = exact.transpose(1, 0, 2).flat[first] >> 6
