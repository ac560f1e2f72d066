"""Which data, and how it becomes what the network sees."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Literal

from neucodex_lava.config.checking import require

DatasetName = Literal["digits", "mnist", "cifar10"]
EncodingName = Literal["deterministic", "bernoulli", "direct"]
DATASETS: tuple[str, ...] = typing.get_args(DatasetName)
ENCODINGS: tuple[str, ...] = typing.get_args(EncodingName)


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
