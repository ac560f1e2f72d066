"""Tiny recordings of events, written in the formats that the datasets come in."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Event = tuple[int, int, int, int]
"""x, y, t in microseconds, polarity."""

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()


def spread(count: int = 40, side: int = 34, last: int = 300_000, seed: int = 0) -> list[Event]:
    """Random events in order, from time 0 to `last`."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, last + 1, count))
    times[0], times[-1] = 0, last
    x, y = rng.integers(0, side, (2, count))
    return list(zip(x.tolist(), y.tolist(), times.tolist(), rng.integers(0, 2, count).tolist()))


def write_40_bit(path: Path, events: Sequence[Event]) -> None:
    """N-MNIST's format: x (8 bits), y (8), polarity (1), time (23), big-endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3, "big") for x, y, t, p in events)
    )


def write_npy(path: Path, events: Sequence[Event]) -> None:
    """DVS128 Gesture as Tonic has it: columns x, y, polarity, time in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array([(x, y, p, t // 1000) for x, y, t, p in events], np.int64))


AEDAT4_XML = (
    '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
    '<node name="0" path="/mainloop/Recorder/outInfo/0/">'
    '<attr key="compression" type="string">NONE</attr>'
    '<attr key="typeIdentifier" type="string">EVTS</attr>'
    '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
    '<attr key="sizeX" type="int">128</attr><attr key="sizeY" type="int">128</attr>'
    "</node></node></node></dv>"
)


def write_aedat4(path: Path, events: Sequence[Event]) -> None:
    """AEDAT 4.0: a header and one packet of events, both flatbuffers, uncompressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = AEDAT4_XML.encode()
    # A flatbuffer: offset of the table, name, padding, vtable, then the table with its values.
    header = struct.pack("<I4s6x5H", 24, b"IOHE", 10, 20, 16, 8, 4)
    header += struct.pack("<iIqiI", 10, 16, -1, 0, len(text)) + text + b"\0"
    packet = struct.pack("<I4s2x3HiII", 16, b"EVTS", 6, 8, 4, 6, 4, len(events))
    packet += b"".join(struct.pack("<qhh?3x", t, x, y, bool(p)) for x, y, t, p in events)
    body = struct.pack("<I", len(packet)) + packet
    path.write_bytes(
        b"#!AER-DAT4.0\r\n"
        + struct.pack("<I", len(header))
        + header
        + struct.pack("<II", 0, len(body))
        + body
    )


def write_nmnist(root: Path, count: int = 10) -> list[Path]:
    """Recordings 1 .. count of each split; digit i - 1 of recording i, from 0 again after 9."""
    files: list[Path] = []
    for part in ("Train", "Test"):
        for i in range(1, count + 1):
            path = root / "NMNIST" / part / str((i - 1) % 10) / f"{i:05d}.bin"
            write_40_bit(path, spread(seed=i))
            files.append(path)
    return files


def write_ncaltech101(root: Path, **counts: int) -> Path:
    """So many recordings of each class."""
    folder = root / "NCALTECH101" / "Caltech101"
    for name, count in counts.items():
        for i in range(1, count + 1):
            write_40_bit(folder / name / f"image_{i:04d}.bin", spread(side=100 + i, seed=i))
    return folder


def write_cifar10dvs(root: Path, count: int = 2) -> Path:
    """So many recordings of each class."""
    for name in CIFAR10:
        for i in range(count):
            path = root / "CIFAR10DVS" / name / f"cifar10_{name}_{i}.aedat4"
            write_aedat4(path, spread(side=128, seed=i))
    return root / "CIFAR10DVS"


def write_gestures(root: Path) -> Path:
    """Two users in training, one in testing, classes 0, 3 and 10."""
    for part, users in (("Train", ("user01_fluorescent", "user02_lab")), ("Test", ("user24_led",))):
        for user in users:
            for cls in (0, 3, 10):
                path = root / "DVSGesture" / f"ibmGesture{part}" / user / f"{cls}.npy"
                write_npy(path, spread(side=128, seed=cls))
    return root / "DVSGesture"
