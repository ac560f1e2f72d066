"""Configuration: frozen dataclasses that check themselves when made and go to JSON and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from neucodex_lava.errors import ConfigError

DatasetName = Literal["digits", "mnist", "cifar10"]
EncodingName = Literal["deterministic", "bernoulli", "direct"]
DATASETS: tuple[str, ...] = typing.get_args(DatasetName)
ENCODINGS: tuple[str, ...] = typing.get_args(EncodingName)

T = TypeVar("T")


def require(condition: bool, message: str, hint: str = "") -> None:
    """Raise ConfigError(message, hint) unless the condition holds."""
    if not condition:
        raise ConfigError(message, hint)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values; `from_dict` reads it back."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], raw: Mapping[str, Any]) -> T:
    """A configuration from plain JSON values.

    Raises:
        ConfigError: an unknown or missing field, or a value of the wrong type.
    """
    name = cls.__name__
    require(isinstance(raw, Mapping), f"{name}: expected an object, found {type(raw).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - known)
    require(not unknown, f"{name}: unknown field '{unknown[0] if unknown else ''}'")
    values = {key: _convert(hints[key], value, f"{name}.{key}") for key, value in raw.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        require(value in args, f"{where}: '{value}' is not one of {', '.join(map(str, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        return _convert(_kind_of(value, kinds), value, where)
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where}: expected a list")
        inner = args[:1] * len(value) if args[-1] is Ellipsis else args
        require(len(inner) == len(value), f"{where}: expected {len(inner)} values")
        return tuple(_convert(a, v, where) for a, v in zip(inner, value))
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type):
        good = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        require(good, f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _kind_of(value: Any, kinds: list[Any]) -> Any:
    """Of several configurations the first that has all of the value's fields, else the first."""

    def fits(kind: Any) -> bool:
        return dataclasses.is_dataclass(kind) and set(value) <= {
            f.name for f in dataclasses.fields(kind)
        }

    return next((k for k in kinds if isinstance(value, Mapping) and fits(k)), kinds[0])


@dataclass(frozen=True)
class EncodingConfig:
    """How an image becomes spikes.

    Attributes:
        name: ``deterministic`` (equally spaced spikes), ``bernoulli`` (random spikes) or ``direct``
            (the pixel as an unsigned integer, repeated at every timestep).
        bits: bits of a ``direct`` value, 2..8; the others send 1 bit and ignore it.
        seed: of the random spikes; the deterministic codings ignore it.
    """

    name: EncodingName = "deterministic"
    bits: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            self.name in ENCODINGS,
            f"unknown encoding '{self.name}'",
            f"choose one of {', '.join(ENCODINGS)}",
        )
        require(2 <= self.bits <= 8, f"direct coding with {self.bits} bits is outside [2, 8]")

    @property
    def input_bits(self) -> int:
        """Bits per value and timestep."""
        return self.bits if self.name == "direct" else 1


@dataclass(frozen=True)
class DataConfig:
    """Which images, coded how, over how many timesteps.

    Attributes:
        dataset: name of a dataset (``digits`` needs no files).
        timesteps: T_max.
        encoding: how an image becomes spikes.
        train_limit: use only the first images of the training split (0: all of them).
    """

    dataset: DatasetName = "digits"
    timesteps: int = 4
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    train_limit: int = 0

    def __post_init__(self) -> None:
        require(
            self.dataset in DATASETS,
            f"unknown dataset '{self.dataset}'",
            f"choose one of {', '.join(DATASETS)}",
        )
        require(1 <= self.timesteps <= 64, f"T_max is {self.timesteps}, it must be from 1 to 64")
        require(self.train_limit >= 0, f"train_limit {self.train_limit} is negative")


@dataclass(frozen=True)
class ResNetConfig:
    """A spiking ResNet: a stem, then stages of residual blocks joined by membrane current.

    Attributes:
        architecture: name used for folders and reports.
        widths: output channels of each stage.
        blocks: residual blocks of each stage; all but the first stage halve height and width.
        stem_stride: stride of the stem's 3x3 convolution.
    """

    architecture: str
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    stem_stride: int = 1

    def __post_init__(self) -> None:
        require(len(self.widths) >= 1, "a ResNet needs at least one stage")
        require(
            len(self.widths) == len(self.blocks),
            f"{len(self.widths)} widths for {len(self.blocks)} stages",
        )
        require(min(self.widths) >= 1, f"stage widths {self.widths} must be at least 1")
        require(min(self.blocks) >= 1, f"blocks per stage {self.blocks} must be at least 1")
        require(self.stem_stride in (1, 2, 4), f"stem stride {self.stem_stride} is not 1, 2 or 4")

    @property
    def split_points(self) -> int:
        """Number of residual blocks: SP1 .. SPn."""
        return sum(self.blocks)


@dataclass(frozen=True)
class VGGConfig:
    """A spiking VGG: stages of 3x3 convolutions, the last of each stage with stride 2.

    Attributes:
        architecture: name used for folders and reports.
        widths: output channels of each stage.
        convolutions: convolutions of each stage; the last one halves height and width, which in the
            original the max pooling behind it did.
        stem_stride: stride of the first convolution.
    """

    architecture: str
    widths: tuple[int, ...]
    convolutions: tuple[int, ...]
    stem_stride: int = 1

    def __post_init__(self) -> None:
        require(len(self.widths) >= 1, "a VGG needs at least one stage")
        require(
            len(self.widths) == len(self.convolutions),
            f"{len(self.widths)} widths for {len(self.convolutions)} stages",
        )
        require(min(self.widths) >= 1, f"stage widths {self.widths} must be at least 1")
        require(
            min(self.convolutions) >= 1,
            f"convolutions per stage {self.convolutions} must be at least 1",
        )
        require(self.stem_stride in (1, 2, 4), f"stem stride {self.stem_stride} is not 1, 2 or 4")

    @property
    def split_points(self) -> int:
        """Number of convolutions: SP1 .. SPn."""
        return sum(self.convolutions)


ModelConfig = ResNetConfig | VGGConfig
"""What `train --arch` builds; told apart by their fields."""

RESNETS: Mapping[str, ResNetConfig] = {
    "resnet-small": ResNetConfig("resnet-small", widths=(16, 32, 64), blocks=(1, 1, 1)),
    "resnet18": ResNetConfig("resnet18", widths=(64, 128, 256, 512), blocks=(2, 2, 2, 2)),
}
VGGS: Mapping[str, VGGConfig] = {
    "vgg16": VGGConfig("vgg16", (64, 128, 256, 512, 512), convolutions=(2, 2, 3, 3, 3)),
}
ARCHITECTURES: Mapping[str, ModelConfig] = {**RESNETS, **VGGS}


def architecture(name: str, width: float = 1.0) -> ModelConfig:
    """A named architecture, its widths multiplied by `width` (rounded to multiples of 4).

    Raises:
        ConfigError: unknown name, or a width outside (0, 4].
    """
    require(
        name in ARCHITECTURES,
        f"unknown architecture '{name}'",
        f"choose one of {', '.join(ARCHITECTURES)}",
    )
    require(0 < width <= 4, f"width {width} is outside (0, 4]")
    base = ARCHITECTURES[name]
    if width == 1:
        return base
    widths = tuple(max(4, round(w * width / 4) * 4) for w in base.widths)
    return dataclasses.replace(base, widths=widths, architecture=f"{name}-w{width:g}")


@dataclass(frozen=True)
class BottleneckConfig:
    """The learned spike encoder and its decoder at one split point.

    Attributes:
        split: i of SPi, from 1: after residual block (ResNet) or convolution (VGG) i.
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


@dataclass(frozen=True)
class TrainConfig:
    """One training run: float epochs, then quantisation-aware epochs on the exact integers.

    Attributes:
        epochs: float epochs (batch statistics).
        qat_epochs: quantisation-aware epochs after them.
        batch_size: images per step.
        lr: peak learning rate of the float phase (AdamW, cosine, one epoch of warm-up).
        qat_lr: peak learning rate of the quantisation-aware phase.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy.
        augment: turn, scale and shift drawings, crop and mirror photographs, anew in each epoch.
        seed: of initial weights, shuffling, augmentation.
        threads: CPU threads (0: torch's own choice).
    """

    epochs: int = 30
    qat_epochs: int = 8
    batch_size: int = 64
    lr: float = 4e-3
    qat_lr: float = 5e-4
    weight_decay: float = 1e-3
    label_smoothing: float = 0.0
    augment: bool = True
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"epochs is {self.epochs}, it cannot be negative")
        require(
            self.qat_epochs >= 1,
            f"qat_epochs is {self.qat_epochs}, every run ends with at least one",
        )
        require(1 <= self.batch_size <= 4096, f"batch_size {self.batch_size} is not in [1, 4096]")
        require(0 < self.lr <= 1, f"lr {self.lr} is outside (0, 1]")
        require(0 < self.qat_lr <= 1, f"qat_lr {self.qat_lr} is outside (0, 1]")
        require(
            0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} not in [0, 1)"
        )
        require(self.weight_decay >= 0, f"weight_decay {self.weight_decay} is negative")
        require(self.threads >= 0, f"threads {self.threads} is negative")


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
