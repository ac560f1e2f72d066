"""How an artificial network became a spiking one."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Literal

from neucodex_lava.config.checking import require

MethodName = Literal["qcfs", "transfer"]
LEAK = 410
"""A tenth in 4096ths: the decay of 0.9 that snnTorch's examples take."""


@dataclass(frozen=True)
class ConversionConfig:
    """How an artificial network was converted.

    Attributes:
        method: ``qcfs`` to integrate-and-fire neurons that keep what exceeds their threshold, from an
            artificial network of that activation; ``transfer`` of a ReLU network's weights to leaky
            neurons that reset to zero.
        voltage_decay: of the neurons of ``transfer``, in 4096ths per timestep; ``qcfs`` has none.
    """

    method: MethodName
    voltage_decay: int = LEAK

    def __post_init__(self) -> None:
        known: tuple[str, ...] = typing.get_args(MethodName)
        require(
            self.method in known,
            f"unknown method '{self.method}'",
            f"choose one of {', '.join(known)}",
        )
        require(
            0 <= self.voltage_decay <= 4096,
            f"voltage decay {self.voltage_decay} is outside [0, 4096]",
        )
