"""Which network: a named architecture, and the bottleneck at one split point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from neucodex_lava.config.chain import ChainConfig, ConvLayer, check_exit_heads
from neucodex_lava.config.checking import require
from neucodex_lava.config.own import OwnConfig


def scaled(width: int, factor: float) -> int:
    """A number of channels times a factor, rounded to a multiple of 4."""
    return width if factor == 1 else max(4, round(width * factor / 4) * 4)


def _check_head(head: int, factor: float, split_points: int) -> None:
    require(
        0 <= head <= split_points, f"head SP{head} does not exist, the last is SP{split_points}"
    )
    require(0 < factor <= 4, f"head width {factor} is outside (0, 4]")
    require(
        head > 0 or factor == 1,
        f"head width {factor:g} of no head",
        "say where the head ends, for example --head SP3",
    )
    require(
        head == 0 or factor != 1,
        f"the head up to SP{head} is as wide as the rest",
        "say how wide it is to be, for example --head-width 0.5",
    )


class _Stages:
    """What networks of stages have in common: their widths, and a head of another width."""

    widths: tuple[int, ...]
    stem_stride: int
    head: int
    head_width: float
    exit_heads: tuple[int, ...]

    def _check(self, kind: str, counts: tuple[int, ...], what: str) -> None:
        require(len(self.widths) >= 1, f"a {kind} needs at least one stage")
        require(
            len(self.widths) == len(counts), f"{len(self.widths)} widths for {len(counts)} stages"
        )
        require(min(self.widths) >= 1, f"stage widths {self.widths} must be at least 1")
        require(min(counts) >= 1, f"{what} {counts} must be at least 1")
        require(self.stem_stride in (1, 2, 4), f"stem stride {self.stem_stride} is not 1, 2 or 4")
        _check_head(self.head, self.head_width, sum(counts))
        check_exit_heads(self.exit_heads, sum(counts))

    def width_of(self, number: int, width: int) -> int:
        """Channels of split point `number` (0: the stem), in a stage of this width."""
        return scaled(width, self.head_width) if number <= self.head else width


@dataclass(frozen=True)
class ResNetConfig(_Stages):
    """A spiking ResNet: a stem, then stages of residual blocks joined by membrane current.

    Attributes:
        architecture: name used for folders and reports.
        widths: output channels of each stage.
        blocks: residual blocks of each stage; all but the first stage halve height and width.
        stem_stride: stride of the stem's 3x3 convolution.
        head: i of SPi, up to which blocks have another width (0: none).
        head_width: factor on the channels of those blocks and of the stem.
        exit_heads: i of every SPi behind which a readout gives an early answer.
    """

    architecture: str
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    stem_stride: int = 1
    head: int = 0
    head_width: float = 1.0
    exit_heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check("ResNet", self.blocks, "blocks per stage")

    @property
    def split_points(self) -> int:
        """Number of residual blocks: SP1 .. SPn."""
        return sum(self.blocks)


@dataclass(frozen=True)
class VGGConfig(_Stages):
    """A spiking VGG: stages of 3x3 convolutions, the last of each stage with stride 2.

    Attributes:
        architecture: name used for folders and reports.
        widths: output channels of each stage.
        convolutions: convolutions of each stage; the last one halves height and width, which in the
            original the max pooling behind it did.
        stem_stride: stride of the first convolution.
        head: i of SPi, up to which convolutions have another width (0: none).
        head_width: factor on the channels of those convolutions.
        exit_heads: i of every SPi behind which a readout gives an early answer.
    """

    architecture: str
    widths: tuple[int, ...]
    convolutions: tuple[int, ...]
    stem_stride: int = 1
    head: int = 0
    head_width: float = 1.0
    exit_heads: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self._check("VGG", self.convolutions, "convolutions per stage")

    @property
    def split_points(self) -> int:
        """Number of convolutions: SP1 .. SPn."""
        return sum(self.convolutions)


ModelConfig = ResNetConfig | VGGConfig | ChainConfig | OwnConfig
"""What `train --arch` builds, or `import_blocks` read; told apart by their fields."""

RESNETS: Mapping[str, ResNetConfig] = {
    "resnet-small": ResNetConfig("resnet-small", widths=(16, 32, 64), blocks=(1, 1, 1)),
    "resnet18": ResNetConfig("resnet18", widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)),
}
VGGS: Mapping[str, VGGConfig] = {
    "vgg16": VGGConfig("vgg16", (64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3)),
}
CHAINS: Mapping[str, ChainConfig] = {
    "mlp": ChainConfig("mlp", hidden=(512, 256, 128, 64)),
    "lenet5": ChainConfig(
        "lenet5", (ConvLayer(6, 5, stride=2), ConvLayer(16, 5, stride=2)), hidden=(120, 84)
    ),
    "alexnet": ChainConfig(
        "alexnet",
        (
            ConvLayer(64, stride=2),
            ConvLayer(192, stride=2),
            ConvLayer(384, stride=2),
            ConvLayer(256),
            ConvLayer(256, stride=2),
        ),
        hidden=(4096, 4096),
    ),
    "vggsnn": ChainConfig(
        "vggsnn",
        tuple(
            ConvLayer(channels, stride=stride)
            for wide in ((64, 128), (256, 256), (512, 512), (512, 512))
            for channels, stride in zip(wide, (1, 2))
        ),
    ),
}
"""SPARQ's three networks, and the one that SNNCutoff takes for recordings of events."""
ARCHITECTURES: Mapping[str, ResNetConfig | VGGConfig | ChainConfig] = {
    **RESNETS,
    **VGGS,
    **CHAINS,
}


def architecture(
    name: str,
    width: float = 1.0,
    head: int = 0,
    head_width: float = 1.0,
    exit_heads: tuple[int, ...] = (),
) -> ModelConfig:
    """A named architecture, its widths multiplied by `width` (rounded to multiples of 4).

    Args:
        name: of the architecture.
        width: factor on all channels.
        head: i of SPi, up to which channels are multiplied by `head_width` as well (0: none).
        head_width: that factor.
        exit_heads: i of every SPi behind which a readout gives an early answer.

    Raises:
        ConfigError: unknown name, a width outside (0, 4], or a head that does not exist.
    """
    require(
        name in ARCHITECTURES,
        f"unknown architecture '{name}'",
        f"choose one of {', '.join(ARCHITECTURES)}",
    )
    require(0 < width <= 4, f"width {width} is outside (0, 4]")
    base = ARCHITECTURES[name]
    if width != 1:
        name = f"{name}-w{width:g}"
    if isinstance(base, ChainConfig):
        require(
            head == 0 and head_width == 1,
            f"the head of '{name}' cannot have another width",
            "those of ResNets and VGGs can; --width is for the whole network",
        )
        return dataclasses.replace(
            base,
            architecture=name,
            maps=tuple(
                dataclasses.replace(m, channels=scaled(m.channels, width)) for m in base.maps
            ),
            hidden=tuple(scaled(n, width) for n in base.hidden),
            exit_heads=exit_heads,
        )
    if head_width != 1:
        name = f"{name}-h{head_width:g}sp{head}"
    widths = tuple(scaled(w, width) for w in base.widths)
    return dataclasses.replace(
        base,
        architecture=name,
        widths=widths,
        head=head,
        head_width=head_width,
        exit_heads=exit_heads,
    )


@dataclass(frozen=True)
class BottleneckConfig:
    """The learned spike encoder and its decoder at one split point.

    Attributes:
        split: i of SPi, from 1: after residual block (ResNet), convolution (VGG) or layer (chain) i.
        channels: C', channels of the code.
        stride: the encoder's stride and the decoder's upsampling, 1, 2 or 4.
        kernel: side of both kernels, 1, 3 or 5, at least the stride.
    """

    split: int
    channels: int
    stride: int = 1
    kernel: int = 3

    def __post_init__(self) -> None:
        require(self.split >= 1, f"split point SP{self.split} does not exist, the first is SP1")
        require(
            1 <= self.channels <= 1024,
            f"C' is {self.channels}, the code needs from 1 to 1024 channels",
        )
        require(self.stride in (1, 2, 4), f"bottleneck stride {self.stride} is not 1, 2 or 4")
        require(
            self.kernel in (1, 3, 5) and self.kernel >= self.stride,
            f"bottleneck kernel {self.kernel} must be 1, 3 or 5 and at least the stride",
        )


def parse_split(text: str) -> int:
    """``SP3``, ``sp3`` or ``3`` as 3.

    Raises:
        ConfigError: anything else.
    """
    digits = text[2:] if text[:2].lower() == "sp" else text
    require(
        digits.isdecimal() and 1 <= int(digits) <= 999,
        f"'{text}' is not a split point",
        "write SP1, SP2, ...",
    )
    return int(digits)
