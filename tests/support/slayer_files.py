"""NetX files written by real SLAYER blocks: random small feed-forward CUBA networks. Tests only."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

with contextlib.redirect_stdout(io.StringIO()):
    from lava.lib.dl.slayer import block as slayer_block
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

cuba = slayer_block.cuba


@dataclass(frozen=True)
class SlayerFile:
    """What `write_random` made.

    Attributes:
        path: the file.
        timesteps, input_shape, input_bits: what it does not say.
        head: its input block: ``neurons``, ``plain``, or ``none``.
        layers: number and kind of each layer that has neurons, or is the input.
    """

    path: Path
    timesteps: int
    input_shape: tuple[int, int, int]
    input_bits: int
    head: str
    layers: list[tuple[int, str]]


def write_random(path: Path, seed: int) -> SlayerFile:
    """A random chain: an input block with or without neurons or none, convolutions, dense layers."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    timesteps = int(rng.integers(3, 9))
    with_conv = rng.random() < 0.7
    shape = (int(rng.integers(1, 4)), int(rng.integers(4, 7)), int(rng.integers(4, 7)))
    if not with_conv:
        shape = (int(rng.integers(4, 12)), 1, 1)
    layers: list[tuple[int, str]] = []
    blocks: list[Any] = []

    def neuron() -> dict[str, Any]:
        params: dict[str, Any] = {
            "threshold": float(rng.uniform(0.3, 1.5)),
            "current_decay": float(rng.choice([0.25, 0.6, 1.0])),
            "voltage_decay": float(rng.choice([0.03, 0.3, 0.5, 1.0])),
        }
        if rng.random() < 0.5:
            params["norm"] = MeanOnlyBatchNorm
        return params

    head = str(rng.choice(["neurons", "plain", "none"]))
    bits = 1
    if head == "neurons":
        params = neuron() | {"norm": None, "threshold": float(rng.uniform(2, 6))}
        weight, bias = float(rng.uniform(0.3, 1.5)), float(rng.uniform(-0.5, 1.5))
        weights = ({"weight": weight}, {"weight": weight, "bias": bias}, {})
        blocks.append(cuba.Input(params, **weights[int(rng.integers(0, 3))]))
        bits = int(rng.integers(2, 7))
    elif head == "plain":
        blocks.append(cuba.Input(delay_shift=False))
    if blocks:
        layers.append((0, "input"))
    now = shape
    for _ in range(int(rng.integers(1, 3)) if with_conv else 0):
        groups = 2 if now[0] % 2 == 0 and rng.random() < 0.4 else 1
        out = 2 * int(rng.integers(1, 4))
        kernel = tuple(int(rng.integers(1, min(3, n) + 1)) for n in now[1:])
        wide = 2 * (kernel[0] - 1) < now[1]
        scalar = bool(rng.random() < 0.4)
        geometry: dict[str, Any] = {
            "stride": 1 if scalar else (int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            "padding": 1 if scalar else (int(rng.integers(0, 3)), int(rng.integers(0, 3))),
            "dilation": 1 if scalar else (int(rng.integers(1, 2 + wide)), 1),
        }
        block = cuba.Conv(
            neuron(), now[0], out, kernel, groups=groups, weight_scale=5,
            weight_norm=bool(rng.random() < 0.3), **geometry,
        )  # fmt: skip
        layers.append((len(blocks), "conv"))
        blocks.append(block)
        now = tuple(block(torch.zeros(1, *now, 1)).shape[1:4])
    features = int(np.prod(now))
    if with_conv:
        blocks.append(cuba.Flatten())
    for i in range(int(rng.integers(0 if with_conv else 1, 4))):
        out = features if i and rng.random() < 0.4 else int(rng.integers(3, 9))
        delay = bool(rng.random() < 0.5)
        layers.append((len(blocks), "delayed dense" if delay else "dense"))
        blocks.append(
            cuba.Dense(
                neuron(),
                features,
                out,
                weight_scale=5,
                delay=delay,
                weight_norm=bool(rng.random() < 0.3),
            )
        )
        features = out
    x: Any = torch.zeros(1, *shape, timesteps)
    if not with_conv:
        x = x.reshape(1, shape[0], timesteps)
    with torch.no_grad():
        for block in blocks:
            x = block(x)
            _randomise(block, rng, timesteps)
    with h5py.File(path, "w") as file:
        for i, block in enumerate(blocks):
            block.export_hdf5(file.create_group(f"layer/{i}"))
    return SlayerFile(path, timesteps, shape, bits, head, layers)


def _randomise(block: Any, rng: np.random.Generator, timesteps: int) -> None:
    """Biases and delays, which SLAYER would learn."""
    norm = getattr(getattr(block, "neuron", None), "norm", None)
    if norm is not None and norm.running_mean.numel() > 1:
        size = norm.running_mean.shape
        norm.running_mean = torch.from_numpy(rng.uniform(-0.4, 0.2, size).astype(np.float32))
    if getattr(block, "delay", None) is not None:
        longest = rng.choice([1, timesteps - 1, timesteps + 2])
        size = tuple(block.delay.delay.shape)
        block.delay.delay.data = torch.from_numpy(
            rng.uniform(0, longest + 1, size).astype(np.float32)
        )
