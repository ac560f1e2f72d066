"""Bytes of a file cut, flipped, moved and overwritten anywhere, also where HDF5 keeps its own books."""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator

SIGNATURES = (b"\x89HDF", b"OHDR", b"OCHK", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FRHP", b"BTHD")


def truncated(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def bits_flipped(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 8, 64]))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def bytes_set(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 2, 8]))):
        at, size = int(rng.integers(len(data))), int(rng.choice([1, 2, 4, 8]))
        value = int(rng.choice([0, 1, 127, 128, 255]))
        changed[at : at + size] = bytes([value]) * len(changed[at : at + size])
    return bytes(changed)


def superblock_changed(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        changed[int(rng.integers(8, min(128, len(data))))] = int(rng.integers(256))
    return bytes(changed)


def bookkeeping_changed(data: bytes, rng: Rng) -> bytes:
    """Bytes next to one of HDF5's own signatures: headers, trees, symbol tables, heaps."""
    places = [i for mark in SIGNATURES for i in _all(data, mark)]
    if not places:
        return bits_flipped(data, rng)
    changed = bytearray(data)
    at = places[int(rng.integers(len(places)))]
    for _ in range(int(rng.integers(1, 5))):
        i = at + int(rng.integers(0, 80))
        if i < len(changed):
            changed[i] = int(rng.choice([0, 1, 255, int(rng.integers(256))]))
    return bytes(changed)


def _all(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


def part_copied(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    size = int(rng.choice([4, 16, 64, 512]))
    source, target = (int(rng.integers(len(data))) for _ in range(2))
    part = data[source : source + size]
    changed[target : target + len(part)] = part
    return bytes(changed)


def part_moved(data: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.choice([1, 8, 100, 2048]))
    if rng.random() < 0.5:
        return data[:at] + data[at + size :]
    return data[:at] + rng.bytes(size) + data[at:]


def part_zeroed(data: bytes, rng: Rng) -> bytes:
    at, size = int(rng.integers(len(data))), int(rng.choice([8, 64, 512, 4096]))
    return data[:at] + b"\x00" * len(data[at : at + size]) + data[at + size :]


def noise(data: bytes, rng: Rng) -> bytes:
    keep = int(rng.choice([0, 8, 48, 96, 512]))
    return data[:keep] + rng.bytes(int(rng.integers(0, 4096)))


BYTES = (
    truncated, bits_flipped, bits_flipped, bytes_set, bytes_set, superblock_changed,
    bookkeeping_changed, bookkeeping_changed, part_copied, part_moved, part_zeroed, noise,
)  # fmt: skip
