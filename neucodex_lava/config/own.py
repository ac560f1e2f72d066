"""A network that is not ours: what was read from a user's SLAYER blocks, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neucodex_lava.config.checking import require


@dataclass(frozen=True)
class OwnLayer:
    """One layer of neurons in a chain, and the synapses that lead into it.

    Attributes:
        name: of the node.
        kind: of the synapses.
        out: channels, or neurons of a dense layer.
        kernel, stride, padding, dilation: (y, x) of a convolution.
        groups: of a convolution.
        current_decay, voltage_decay: in 4096ths; a readout ignores them.
        delay: timesteps from a spike of the layer before to its arrival: none, one for all of its
            neurons, or (dense) one for each in C, H, W order.
    """

    name: str
    kind: Literal["conv", "dense"]
    out: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    current_decay: int = 4096
    voltage_decay: int = 2048
    delay: tuple[int, ...] = ()


@dataclass(frozen=True)
class OwnConfig:
    """A chain of layers, the last of which is the readout.

    Attributes:
        architecture: name used for folders and reports.
        layers: in order.
        counts_spikes: whether the readout counts the spikes of the network's own output layer, which
            is then no split point.
    """

    architecture: str
    layers: tuple[OwnLayer, ...]
    counts_spikes: bool = False

    def __post_init__(self) -> None:
        require(
            self.split_points >= 1,
            f"{self.architecture}: there is no spiking layer before the output to split after",
        )

    @property
    def split_points(self) -> int:
        """Number of spiking layers before the output: SP1 .. SPn."""
        return len(self.layers) - 1 - self.counts_spikes
