"""The neuron that stock Lava lacks: reset by subtraction, and an initial potential."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import LIFReset


class PresetLIF(LIFReset):
    """A stock `LIFReset` whose potential begins every window at `initial`, and which may keep what
    exceeds the threshold where it spikes.

    No stock Loihi 2 neuron does either; a chip needs one in microcode.

    Args:
        shape: (W, H, C).
        initial: potential at the start of a window, in units of the threshold's.
        subtract: a spike takes one threshold from the potential, not all of it.
        beyond: None, or int64 (steps,), shared with the parent: in each step, the value (in units of
            the weights) of the first potential that is clipped, in H, W, C order, 0 where none is.
        lif: the stock process's own arguments.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        initial: int,
        subtract: bool,
        beyond: Any = None,
        **lif: Any,
    ) -> None:
        super().__init__(shape=shape, v=np.full(shape, initial << 6), **lif)
        self.proc_params["initial"] = initial << 6
        self.proc_params["subtract"] = subtract
        self.proc_params["beyond"] = beyond


@implements(proc=PresetLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPresetLIFModel(AbstractPyLifModelFixed):
    """Stock fixed-point dynamics, types as in stock `LIFReset`, and the two resets."""

    s_out: Any = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: Any = LavaPyType(int, np.int32, precision=17)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.effective_vth: Any = 0
        self._interval: int = proc_params["reset_interval"]
        self._offset: int = proc_params["reset_offset"] % self._interval
        self._beyond: Any = proc_params["beyond"]

    def scale_threshold(self) -> None:
        """As in stock `LIFReset`."""
        self.effective_vth = np.left_shift(self.vth, self.vth_shift)
        self.isthrscaled = True

    def spiking_activation(self) -> Any:
        """As in stock `LIFReset`."""
        return self.v > self.effective_vth

    def subthr_dynamics(self, activation_in: Any) -> None:
        """Stock dynamics, and what they would have been without clipping."""
        before = self.v.astype(np.int64)
        super().subthr_dynamics(activation_in)
        if self._beyond is None:
            return
        kept = before * (self.decay_unity - self.dv)
        exact = np.sign(kept) * (np.abs(kept) >> self.decay_shift) + self.u + self.effective_bias
        clipped = (exact != self.v).transpose(1, 0, 2)
        if clipped.any():
            first = int(clipped.argmax())
            self._beyond[self.time_step - 1] = exact.transpose(1, 0, 2).flat[first] >> 6

    def reset_voltage(self, spike_vector: Any) -> None:
        """What a spike leaves of the potential."""
        if self.proc_params["subtract"]:
            self.v[spike_vector] -= self.effective_vth
        else:
            self.v[spike_vector] = 0

    def run_spk(self) -> None:
        if self.time_step % self._interval == self._offset:
            self.u[:] = 0
            self.v[:] = self.proc_params["initial"]
        super().run_spk()
