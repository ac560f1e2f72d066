"""Full-size networks without training: seeded weights, batch norms set so that every layer fires.

The rates aimed at are those of a trained network (`TRAINED_RATES`). From there on the networks go the
project's own way: `SplitModel.quantise`, `to_integer_net`; `SplitModel.run_slayer` is their SLAYER.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from neucodex_lava.config import (
    BottleneckConfig,
    DataConfig,
    EncodingConfig,
    ModelConfig,
    architecture,
)
from neucodex_lava.data import encode, load
from neucodex_lava.errors import DataError
from neucodex_lava.integer_net import INPUT, IntegerNet, Shape
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import ENCODER, insert_bottleneck
from neucodex_lava.models.neurons import drive_of, lif
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net

TRAINED_RATES = {"stem": 0.20, "mid": 0.16, "out": 0.22, ENCODER: 0.25, "decoder": 0.17}
"""Mean firing rates of a ResNet-18 of quarter width, trained on CIFAR-10 (direct coding, 4 bits, T = 2)
with this project: its stem, the inner nodes of its blocks (0.138 to 0.174), their joins (0.193 to
0.250), the encoder and decoder of its SP3. Nodes of a VGG are taken for inner ones."""
CLASSES = 10


@dataclass(frozen=True)
class Spec:
    """What is built.

    Attributes:
        arch: name of an architecture.
        input_shape: (C, H, W).
        timesteps: T_max.
        bits: of an input value: 1 for rate-coded spikes, more for direct coding.
        split: i of SPi with an encoder, 0 for the base, uncut.
        channels, stride: of the code.
        stem_stride: of the first convolution.
        width: factor on all channel counts.
        seed: of weights and of synthetic images.
    """

    arch: str = "resnet18"
    input_shape: Shape = (3, 32, 32)
    timesteps: int = 2
    bits: int = 1
    split: int = 0
    channels: int = 8
    stride: int = 1
    stem_stride: int = 1
    width: float = 1.0
    seed: int = 0

    def config(self) -> ModelConfig:
        """The backbone's configuration."""
        return replace(architecture(self.arch, self.width), stem_stride=self.stem_stride)


@dataclass(frozen=True, eq=False)
class Built:
    """A network and the images its batch norms have seen.

    Attributes:
        model: in its integer phase; `run_slayer` is the SLAYER backend.
        net: the same in integers.
        images: ``CIFAR-10 test images`` or ``synthetic images``, encoded for its input.
    """

    model: SplitModel
    net: IntegerNet
    images: str


def build(spec: Spec, calibration: int = 16, activity: float = 1.0) -> Built:
    """A quantised network whose nodes fire about as a trained one's do.

    Args:
        spec: which.
        calibration: images that the batch norms' statistics are taken from.
        activity: factor on the rates aimed at.
    """
    torch.manual_seed(spec.seed)
    model = build_base(spec.config(), spec.input_shape, CLASSES, spec.timesteps, spec.bits)
    if spec.split:
        bottleneck = BottleneckConfig(spec.split, spec.channels, spec.stride)
        model = insert_bottleneck(model, bottleneck)
    spikes, images = images_for(spec, calibration, first=1000)
    x = torch.from_numpy(np.moveaxis(spikes, -1, 0).copy()).float()
    set_rates(model, x, activity)
    model.quantise(x)
    return Built(model.eval(), to_integer_net(model), images)


def images_for(spec: Spec, samples: int, first: int = 0) -> tuple[NDArray[np.uint8], str]:
    """Encoded images (N, C, H, W, T), and what they were made from.

    CIFAR-10's test images where the data root has them, scaled up to larger inputs; an event camera's
    two channels are where the brightness rises and falls from column to column. Else smooth noise.
    """
    c, h, w = spec.input_shape
    coding = EncodingConfig("direct", spec.bits) if spec.bits > 1 else EncodingConfig()
    data = DataConfig("cifar10", spec.timesteps, coding)
    try:
        source = load(data, None, "test")
        rows = np.arange(first, first + samples)
        pixels, name = source.images(rows), "CIFAR-10 test images"
    except DataError:
        rng = np.random.default_rng([spec.seed, first])
        coarse = torch.from_numpy(rng.random((samples, 3, 8, 8), np.float32))
        pixels, name = F.interpolate(coarse, (32, 32), mode="bilinear").numpy(), "synthetic images"
    if (h, w) != pixels.shape[2:]:
        pixels = F.interpolate(torch.from_numpy(pixels), (h, w), mode="bilinear").numpy()
    if c == 2:
        rise = np.diff(pixels.mean(1), axis=2, prepend=0)
        pixels = np.stack([rise, -rise], axis=1).clip(0, None)
        pixels /= np.quantile(pixels, 0.95, axis=(1, 2, 3), keepdims=True) + 1e-6
        pixels, name = pixels.clip(0, 1).astype(np.float32), f"{name}, brightness changes"
    pixels = np.ascontiguousarray(pixels[:, :c])
    return encode(pixels, data.encoding, spec.timesteps, indices=np.arange(samples)), name


@torch.no_grad()
def set_rates(model: SplitModel, x: Tensor, activity: float = 1.0) -> None:
    """Give batch norms the statistics of `x` (T, N, C, H, W), and shifts at which nodes fire as aimed.

    Float phase; node by node in order, so that each sees what it will see.
    """
    model.train()
    values: dict[str, Tensor] = {INPUT: x}
    for block in model.block_list():
        if block.readout:
            continue
        norms = [link.bn for link in block.links() if link.bn is not None]
        for norm in norms:
            norm.momentum = None
        drive = drive_of([link.float_part(values[link.source]) for link in block.links()])
        rate = activity * TRAINED_RATES[_kind(block.name)]
        shift = _shift_for(drive, block.neuron, rate)
        nn.init.constant_(norms[0].bias, shift)
        values[block.name] = lif(drive + shift, block.neuron)


def _shift_for(drive: Tensor, neuron: Any, rate: float) -> float:
    """The number to be added to `drive` for this mean firing rate, to within 1/64."""
    low, high = -8.0, 8.0
    while high - low > 1 / 64:
        middle = (low + high) / 2
        if float(lif(drive + middle, neuron).mean()) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _kind(name: str) -> str:
    if name in TRAINED_RATES:
        return name
    return "out" if name.endswith("_out") else "mid"
