"""Damaged NetX files: one valid file, one to three damages, all from one seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from damaged_bytes import BYTES
from damaged_structure import STRUCTURE

Rng = np.random.Generator


def make(seed: int, case: int, pristine: list[Path], path: Path) -> str:
    """Write case number `case` of `seed` to `path`; returns what was done to which file."""
    rng = np.random.default_rng([seed, case])
    source = pristine[int(rng.integers(len(pristine)))]
    path.write_bytes(source.read_bytes())
    done: list[str] = []
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            damage = STRUCTURE[int(rng.integers(len(STRUCTURE)))]
            if _edit(path, damage, rng):
                done.append(damage.__name__)
    if not done or rng.random() < 0.2:
        damage = BYTES[int(rng.integers(len(BYTES)))]
        path.write_bytes(damage(path.read_bytes(), rng))
        done.append(damage.__name__)
    if rng.random() < 0.05:
        # A hole at the end: no bytes on the disk, room for any dataset by the file's size.
        os.truncate(path, 1 << 29)
        done.append("enlarged")
    return f"{source.stem}: {', '.join(done)}"


def _edit(path: Path, damage: Callable[[h5py.File, Rng], None], rng: Rng) -> bool:
    """Apply a damage; one that does not fit this file, perhaps since the damage before, is none."""
    try:
        with h5py.File(path, "r+") as file:
            damage(file, rng)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError, AttributeError, MemoryError):
        return False
    return True
