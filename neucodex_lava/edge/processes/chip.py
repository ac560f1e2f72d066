"""The box around a network of stock processes; Lava's compiler unpacks it."""

from __future__ import annotations

from typing import Any

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class ChipNetwork(AbstractProcess):
    """An edge part in stock Lava processes only, made by `edge.stock.chip.chip_network`.

    A sample takes `interval` Lava steps, of which the first `timesteps` hold its frames; the input of
    the others is ignored, and so is what comes out. All neurons are cleared between samples. With
    Lava steps from 0 and (sample n, timestep t) from 0, see `frame_step` and `output_step`.

    Ports:
        inp: spikes, or graded values, of a frame, (W, H, C).
        out: spikes of the output, (W', H', C').

    Attributes:
        timesteps: T.
        interval: Lava steps per sample, the power of two from T on that the chip's resets need.
        latency: Lava steps from a frame to its spikes, the output's depth.
        stock: every process inside.
        readout: the last node's `LIFReset` where it is a readout, else None. After the step in which
            it updates, its Var ``v`` shifted right by 6 is the running sum S_t.
        exits: the same of each exit head, by its name.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        timesteps: int,
        interval: int,
        latency: int,
        name: str = "chip network",
    ) -> None:
        super().__init__(name=name)
        self.inp = InPort(shape=input_shape)
        self.out = OutPort(shape=output_shape)
        self.timesteps = timesteps
        self.interval = interval
        self.latency = latency
        self.stock: tuple[Any, ...] = ()
        self.readout: Any = None
        self.exits: dict[str, Any] = {}

    def frame_step(self, sample: int, t: int) -> int:
        """Lava step in which to send a frame; both from 0."""
        return sample * self.interval + t

    def output_step(self, sample: int, t: int) -> int:
        """Lava step in which its spikes come out, and after which its running sum can be read."""
        return self.frame_step(sample, t) + self.latency


@implements(proc=ChipNetwork, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SubChipNetworkModel(AbstractSubProcessModel):
    """Nothing to add: the processes inside are connected already."""

    def __init__(self, proc: AbstractProcess) -> None:
        """Take the process as it is."""
