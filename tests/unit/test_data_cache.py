"""The cache of samples: made once, never out of date, never half of one."""

import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from neucodex_lava.data import cache
from neucodex_lava.data.cache import cache_folder, cached
from neucodex_lava.data.roots import DataRoot
from neucodex_lava.errors import DataError

SHAPE = (2, 3)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataRoot:
    monkeypatch.delenv("NEUCODEX_CACHE", raising=False)
    folder = tmp_path / "set"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.bin").write_bytes(bytes(i))
    return DataRoot("nmnist", folder, "hint", tmp_path)


class Source:
    """Samples, and how often they were asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for i in range(4):
            self.read += 1
            yield np.full(SHAPE, 10 * i, np.uint8)


def fill(root: DataRoot, source: Source, **made_from: object) -> np.ndarray:
    files = sorted(root.folder.iterdir())
    return cached(root, made_from, files, SHAPE, iter(source))


def test_made_once_then_mapped(root: DataRoot) -> None:
    source = Source()
    first, second = fill(root, source), fill(root, source)
    assert source.read == 4
    assert first.shape == (4, 2, 3)
    assert (first[:, 0, 0] == [0, 10, 20, 30]).all()
    assert (second == first).all()
    assert not second.flags.writeable
    (file,) = (root.root / ".neucodex-cache").iterdir()
    assert file.suffix == ".npy"


def test_a_changed_file_or_configuration_is_read_anew(root: DataRoot) -> None:
    source = Source()
    fill(root, source, timesteps=4)
    fill(root, source, timesteps=5)
    assert source.read == 8
    (root.folder / "3.bin").write_bytes(b"1234")
    fill(root, source, timesteps=5)
    assert source.read == 12
    os.utime(root.folder / "2.bin", (1, 1))
    fill(root, source, timesteps=5)
    assert source.read == 16
    (root.folder / "2.bin").rename(root.folder / "2x.bin")
    fill(root, source, timesteps=5)
    assert source.read == 20


@pytest.mark.parametrize("raw", [b"", b"garbage", b"\x93NUMPY\x01\x00", "short", "shape"])
def test_a_damaged_cache_is_made_again(root: DataRoot, raw: bytes | str) -> None:
    source = Source()
    fill(root, source)
    (file,) = (root.root / ".neucodex-cache").iterdir()
    if raw == "short":
        file.write_bytes(file.read_bytes()[:-1])
    elif raw == "shape":
        np.save(file, np.zeros((4, 3, 2), np.uint8))
    else:
        assert isinstance(raw, bytes)
        file.write_bytes(raw)
    assert (fill(root, source)[:, 0, 0] == [0, 10, 20, 30]).all()
    assert source.read == 8


def test_a_sample_that_fails_leaves_nothing_behind(root: DataRoot) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(SHAPE, np.uint8)
        raise DataError("no good")

    with pytest.raises(DataError, match="no good"):
        cached(root, {}, sorted(root.folder.iterdir()), SHAPE, broken())
    assert not list((root.root / ".neucodex-cache").iterdir())


def test_a_full_disk_is_told_in_one_line(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/full is a disk that is full; its folder takes no files of ours.
    monkeypatch.setenv("NEUCODEX_CACHE", "/dev/full")
    with pytest.raises(DataError, match="the cache '/dev/full/.*cannot be written: ") as caught:
        fill(root, Source())
    assert "NEUCODEX_CACHE=DIR" in caught.value.hint


def test_a_file_that_cannot_grow_is_told_in_one_line(root: DataRoot) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (130, before[1]))  # the header alone is 128 bytes
    try:
        with pytest.raises(DataError, match="cannot be written: File too large"):
            fill(root, Source())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((root.root / ".neucodex-cache").iterdir())
    assert len(fill(root, Source())) == 4


def test_several_at_once_make_one_good_file(root: DataRoot) -> None:
    meeting = threading.Barrier(4)

    def slow() -> Iterator[np.ndarray]:
        for sample in Source():
            meeting.wait(10)  # all four write at the same time
            yield sample

    files = sorted(root.folder.iterdir())
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(cached, root, {}, files, SHAPE, slow()) for _ in range(4)]
        for job in jobs:
            assert (job.result(20)[:, 0, 0] == [0, 10, 20, 30]).all()
    assert len(list((root.root / ".neucodex-cache").iterdir())) == 1


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUCODEX_CACHE", raising=False)
    assert cache_folder(tmp_path) == tmp_path / ".neucodex-cache"
    monkeypatch.setenv("NEUCODEX_CACHE", "~/somewhere")
    assert cache_folder(tmp_path) == Path.home() / "somewhere"
    monkeypatch.delenv("NEUCODEX_CACHE")
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder(tmp_path) == tmp_path / "x/neucodex-lava"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(tmp_path) == Path.home() / ".cache/neucodex-lava"
