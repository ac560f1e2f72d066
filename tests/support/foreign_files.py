"""NetX files with the keys and types that SLAYER's blocks export, written out by hand. Tests only.

For what SLAYER's own blocks (slayer_files.py) seldom or never write, but lava-dl reads, and where
importing SLAYER would take longer than the test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

NEURON = {
    "type": "CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False,
}  # fmt: skip


def even(rng: np.random.Generator, *size: int, low: int = -20, high: int = 40) -> np.ndarray:
    """Random even weights or biases, float32 as SLAYER exports them."""
    return (2 * rng.integers(low // 2, high // 2 + 1, size)).astype(np.float32)


def conv(weight: np.ndarray, shape: tuple[int, int, int], **fields: Any) -> dict[str, Any]:
    """A convolution's layer; stride 1, no padding, one group unless told."""
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return {"type": "conv", "shape": shape, "weight": weight, "neuron": NEURON} | plain | fields


def dense(weight: np.ndarray, **fields: Any) -> dict[str, Any]:
    """A dense layer."""
    layer = {"type": "dense", "shape": weight.shape[:1], "weight": weight, "neuron": NEURON}
    return layer | {"inFeatures": weight.shape[-1], "outFeatures": len(weight)} | fields


def write_foreign(path: Path, *layers: dict[str, Any]) -> Path:
    """Write layers, whose values may be dicts for groups; None leaves a key out."""
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(layers):
            _write(file.create_group(f"layer/{i}"), layer)
    return path


def _write(group: h5py.Group, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if isinstance(value, dict):
            _write(group.create_group(key), value)
        elif key == "type" and value not in ("CUBA", "LOIHI"):
            # A neuron's type is a variable-length string, a layer's ten characters.
            group.create_dataset(key, (1,), "S10", [value.encode("ascii")])
        elif value is not None:
            group.create_dataset(key, data=value)
