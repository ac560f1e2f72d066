"""Small networks: a chain of convolutions, then of dense layers."""

from __future__ import annotations

from dataclasses import dataclass

from neucodex_lava.config.checking import require


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of a chain.

    Attributes:
        channels: of its output.
        kernel: side of the kernel, odd; maps are padded so that stride 1 keeps their size.
        stride: by which height and width are divided.
    """

    channels: int
    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        require(self.channels >= 1, f"a convolution of {self.channels} channels")
        require(
            self.kernel in (1, 3, 5, 7, 9, 11),
            f"a kernel of {self.kernel}x{self.kernel}: its side must be odd, from 1 to 11",
        )
        require(self.stride in (1, 2, 4), f"a stride of {self.stride} is not 1, 2 or 4")


@dataclass(frozen=True)
class ChainConfig:
    """A chain of spiking convolutions and dense layers, and a readout of all that the last one sends.

    Attributes:
        architecture: name used for folders and reports.
        maps: the convolutions; none of them is followed by pooling: where the original pools, a
            convolution beside it has stride 2.
        hidden: neurons of each dense layer before the readout.
        exit_heads: i of every SPi behind which a readout gives an early answer.
    """

    architecture: str
    maps: tuple[ConvLayer, ...] = ()
    hidden: tuple[int, ...] = ()
    exit_heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.split_points >= 1, f"{self.architecture}: a chain needs at least one layer")
        require(min(self.hidden, default=1) >= 1, f"hidden layers {self.hidden} of no neurons")
        check_exit_heads(self.exit_heads, self.split_points)

    @property
    def split_points(self) -> int:
        """Number of layers before the readout: SP1 .. SPn."""
        return len(self.maps) + len(self.hidden)


def check_exit_heads(heads: tuple[int, ...], split_points: int) -> None:
    """Exit heads must be split points, each once, in order.

    Raises:
        ConfigError: they are not.
    """
    for head in heads:
        require(
            1 <= head <= split_points,
            f"no exit head can be at SP{head}: the split points are SP1 to SP{split_points}",
        )
    require(
        list(heads) == sorted(set(heads)),
        f"exit heads at {', '.join(f'SP{h}' for h in heads)}: each once, from the input on",
    )
