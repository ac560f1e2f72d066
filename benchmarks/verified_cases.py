"""What `benchmarks.verified` runs: full-size networks, whose oracle is SLAYER, and small ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import Spec, build, images_for
from energy.ledger import Ledger
from neucodex_lava.config import architecture
from neucodex_lava.export import count
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.models.backbones.build import build_base

OWN = ("twin", "fused gated", "fused pipelined")
STOCK = (*OWN, "reference pipelined")
CIFAR, EVENTS, LARGE = (3, 32, 32), (2, 128, 128), (3, 224, 224)
LARGE_STEM = 4
"""Stride of the stem for 224x224."""
PLAIN = Path(__file__).resolve().parent.parent / "tests" / "support"
"""Where the plain interpreter lies."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What is right: every node's spikes and potentials (N, C, H, W, T), sums (N, K, T), counts."""

    spikes: Mapping[str, NDArray[np.uint8]]
    potentials: Mapping[str, NDArray[Any]]
    sums: NDArray[np.int64] | None
    ledger: Ledger


Prepared = tuple[IntegerNet, NDArray[np.uint8], Expected, dict[str, Any]]


class Case(Protocol):
    """A network, its input and the backends that run it."""

    backends: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its result file."""
        ...

    @property
    def oracle(self) -> str:
        """Who says what is right."""
        ...

    def prepare(self) -> Prepared:
        """Network, input, what is right, and facts for the table."""
        ...


@dataclass(frozen=True)
class FullSize:
    """A network of `benchmarks.networks`; `calibration` images set its batch norms."""

    spec: Spec
    samples: int
    backends: tuple[str, ...] = OWN
    calibration: int = 2
    oracle: str = "slayer"

    @property
    def name(self) -> str:
        s = self.spec
        cut = f"sp{s.split}" if s.split else "base"
        bits = f"-{s.bits}bit" if s.bits > 1 else ""
        seed = f"-seed{s.seed}" if s.seed else ""
        shape = "x".join(map(str, s.input_shape))
        return f"{s.arch}-{shape}-stem{s.stem_stride}-T{s.timesteps}-{cut}{bits}{seed}"

    def prepare(self) -> Prepared:
        built = build(self.spec, self.calibration)
        inputs, images = images_for(self.spec, self.samples)
        run = built.model.run_slayer(inputs)
        ledger = count(built.net, inputs, run.spikes)
        expected = Expected(run.spikes, run.potentials, run.sums, ledger)
        s = self.spec
        stem = f", stem stride {s.stem_stride}" if s.stem_stride > 1 else ""
        bits = f", {s.bits} bit" if s.bits > 1 else ""
        c, h, w = s.input_shape
        facts = {
            "network": s.arch,
            "input": f"{h}x{w}x{c}{stem}{bits}",
            "split": s.split,
            "images": images,
            "spec": asdict(s),
        }
        return built.net, inputs, expected, facts


@dataclass(frozen=True)
class Small:
    """A network of the tests' plain interpreter, which says what is right."""

    network: str
    seed: int | None = None
    backends: tuple[str, ...] = STOCK
    oracle: str = "plain loops"

    @property
    def name(self) -> str:
        return f"small-{self.network}" + ("" if self.seed is None else f"-{self.seed:02}")

    def prepare(self) -> Prepared:
        if str(PLAIN) not in sys.path:
            sys.path.append(str(PLAIN))
        plain = importlib.import_module("plain")
        net, inputs = getattr(plain, self.network)(*([] if self.seed is None else [self.seed]))
        spikes, potentials, ledger = plain.run_plain(net, inputs)
        after = {n: np.where(spikes[n], 0, v) for n, v in potentials.items()}
        c, h, w = net.input_shape
        facts = {
            "network": self.network,
            "input": f"{h}x{w}x{c}" if self.seed is None else "of each net its own",
            "split": 0,
            "images": "random spikes",
        }
        return net, inputs, Expected(spikes, after, None, ledger), facts


def cases() -> Iterator[Case]:
    """All of them, cheap ones first."""
    yield Small("delayed_net")
    yield Small("leaky_net")
    yield from (Small("random_net", seed) for seed in range(24))
    for arch in ("resnet18", "vgg16"):
        for t in range(1, 9):
            yield FullSize(Spec(arch, CIFAR, t), 2, calibration=16 // t)
        for split in _splits(arch):
            t = 1 + (split - 1) % 8
            yield FullSize(_split(Spec(arch, CIFAR, t), split), 2, calibration=16 // t)
        yield FullSize(Spec(arch, CIFAR, 2, bits=4), 2, calibration=8)
    for shape, stem, longest in ((LARGE, LARGE_STEM, 2), (EVENTS, 1, 1)):
        for arch in ("resnet18", "vgg16"):
            yield FullSize(Spec(arch, shape, 2, stem_stride=stem), 1)
            for split in _splits(arch):
                spec = Spec(arch, shape, 1 + split % longest, stem_stride=stem)
                yield FullSize(_split(spec, split), 1, calibration=longest)
    for arch in ("resnet18", "vgg16"):
        for t in (4, 8):
            yield FullSize(Spec(arch, LARGE, t, stem_stride=LARGE_STEM), 1)
            yield FullSize(Spec(arch, EVENTS, t), 1)
    for arch, splits in (("resnet18", (1, 3, 5)), ("vgg16", (2, 4, 7))):
        for split in splits:
            yield FullSize(_split(Spec(arch, CIFAR, 3, seed=1), split), 1, STOCK, 16)
        yield FullSize(Spec(arch, CIFAR, 4, seed=1), 1, STOCK, 16)
    yield FullSize(_split(Spec("resnet18", LARGE, 2, stem_stride=LARGE_STEM, seed=1), 1), 1, STOCK)
    yield FullSize(_split(Spec("vgg16", LARGE, 2, stem_stride=LARGE_STEM, seed=1), 2), 1, STOCK)
    yield FullSize(_split(Spec("resnet18", EVENTS, 2, seed=1), 1), 1, STOCK)
    yield FullSize(_split(Spec("vgg16", EVENTS, 2, seed=1), 2), 1, STOCK)


def _splits(arch: str) -> range:
    return range(1, architecture(arch).split_points + 1)


def _split(spec: Spec, split: int) -> Spec:
    """With the encoder at SP`split`; its stride is 2 at every other split point, where it divides."""
    thin = replace(spec, width=1 / 16)
    model = build_base(thin.config(), spec.input_shape, 2, 1)
    side = model.block_list()[model.split_points[split] - 1].shape[1]
    stride = 2 if split % 2 == 0 and side % 2 == 0 else 1
    return replace(spec, split=split, stride=stride)
