"""Which data, and how it becomes what the network sees."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Literal

from neucodex_lava.config.checking import require

DatasetName = Literal[
    "digits",
    "mnist",
    "cifar10",
    "cifar100",
    "caltech101",
    "digitsdvs",
    "nmnist",
    "cifar10dvs",
    "ncaltech101",
    "dvs128gesture",
    "own",
]
EventDatasetName = Literal["digitsdvs", "nmnist", "cifar10dvs", "ncaltech101", "dvs128gesture"]
EncodingName = Literal["deterministic", "bernoulli", "direct", "events"]
Binning = Literal["time", "count"]
DATASETS: tuple[str, ...] = typing.get_args(DatasetName)
EVENT_DATASETS: tuple[str, ...] = typing.get_args(EventDatasetName)
ENCODINGS: tuple[str, ...] = typing.get_args(EncodingName)
BINNINGS: tuple[str, ...] = typing.get_args(Binning)

CHOSEN_CLASSES = ("caltech101", "ncaltech101")
"""Datasets of which some classes can be chosen."""
DIVIDED_BY_SEED = ("caltech101", "cifar10dvs", "ncaltech101")
"""Datasets that come undivided; all others have fixed training and test samples."""
SIZED = ("caltech101", "digitsdvs", "nmnist", "cifar10dvs", "ncaltech101", "dvs128gesture")
"""Datasets whose height and width can be chosen."""


@dataclass(frozen=True)
class EncodingConfig:
    """How an image, or a recording of events, becomes spikes.

    Attributes:
        name: of images: ``deterministic`` (equally spaced spikes), ``bernoulli`` (random spikes) or
            ``direct`` (the pixel as an unsigned integer, repeated at every timestep). Of recordings:
            ``events`` (the number of events of a pixel and polarity in each timestep, clipped).
        bits: bits of a ``direct`` value, 2..8, or of an ``events`` count, 1..8 (1: a spike where
            there was any event); the others send 1 bit and ignore it.
        seed: of the random spikes, or of the thresholds of ``digitsdvs``; the others ignore it.
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
        least = 1 if self.name == "events" else 2
        coding = "event" if self.name == "events" else "direct"
        require(
            least <= self.bits <= 8,
            f"{coding} coding with {self.bits} bits is outside [{least}, 8]",
        )

    @property
    def input_bits(self) -> int:
        """Bits per value and timestep."""
        return self.bits if self.name in ("direct", "events") else 1


@dataclass(frozen=True)
class DataConfig:
    """Which images or recordings, coded how, over how many timesteps.

    Attributes:
        dataset: name of a dataset (``digits`` and ``digitsdvs`` need no files).
        timesteps: T_max.
        encoding: how an image or a recording becomes spikes.
        train_limit: use only the first samples of the training split, in its own order or, where
            files lie class by class, in a mixed one (0: all of them).
        classes: of ``caltech101`` and ``ncaltech101``, the classes to use; none: the default ones.
        size: height and width that images or events are scaled to (0: the dataset's own).
        split_seed: of the division into training and test samples, where the dataset has none.
        bins: what the timesteps of a recording have in common: equal ``time`` or equal ``count`` of
            events.
        holdout: so many of the training samples are not trained on: exit policies are calibrated on
            them.
    """

    dataset: DatasetName = "digits"
    timesteps: int = 4
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    train_limit: int = 0
    classes: tuple[str, ...] = ()
    size: int = 0
    split_seed: int = 0
    bins: Binning = "time"
    holdout: int = 0

    def __post_init__(self) -> None:
        require(
            self.dataset in DATASETS,
            f"unknown dataset '{self.dataset}'",
            f"choose one of {', '.join(DATASETS)}",
        )
        require(1 <= self.timesteps <= 256, f"T_max is {self.timesteps}, it must be from 1 to 256")
        require(self.train_limit >= 0, f"train_limit {self.train_limit} is negative")
        require(self.holdout >= 0, f"holdout {self.holdout} is negative")
        require(
            self.events == (self.encoding.name == "events"),
            f"dataset '{self.dataset}' and encoding '{self.encoding.name}' do not go together",
            "recordings take the encoding events, images one of deterministic, bernoulli, direct",
        )
        require(
            not self.classes or self.dataset in CHOSEN_CLASSES,
            f"the classes of '{self.dataset}' cannot be chosen",
            f"those of {' and '.join(CHOSEN_CLASSES)} can",
        )
        require(
            len(set(self.classes)) == len(self.classes) != 1,
            f"classes {', '.join(self.classes)}: at least two are needed, each once",
        )
        require(
            self.size == 0 or self.dataset in SIZED,
            f"the size of '{self.dataset}' cannot be chosen",
            f"those of {', '.join(SIZED)} can",
        )
        require(self.size == 0 or 8 <= self.size <= 256, f"size {self.size} is outside [8, 256]")
        require(
            self.split_seed == 0 or self.dataset in DIVIDED_BY_SEED,
            f"the training and test samples of '{self.dataset}' are fixed, a split seed has no effect",
            f"those of {', '.join(DIVIDED_BY_SEED)} are chosen by it",
        )
        require(
            self.bins == "time" or self.events,
            f"'{self.dataset}' holds images, not events to divide by {self.bins}",
        )
        require(
            self.bins in BINNINGS,
            f"unknown binning '{self.bins}'",
            f"choose one of {', '.join(BINNINGS)}",
        )

    @property
    def events(self) -> bool:
        """Whether the dataset holds recordings of events, not images; a user's own may hold either."""
        own_events = self.dataset == "own" and self.encoding.name == "events"
        return own_events or self.dataset in EVENT_DATASETS
