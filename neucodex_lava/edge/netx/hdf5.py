"""HDF5 read as hostile input: every size is checked before anything is allocated.

h5py raises whatever comes to hand on a damaged file, and HDF5 itself follows links into other
files and fills terabytes from a few bytes of filter settings. Here only plain datasets inside this
file are read, none larger than the file, all together not much more than the file (many names may
lead to one dataset), and every failure is a `FormatError` that names the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.netx.heap import variable_string
from neucodex_lava.errors import FormatError, NeucodexError
from neucodex_lava.structure import to_integers

FILE_LIMIT_BYTES = 1 << 30
DIMENSIONS_LIMIT = 5
TEXT_LIMIT_BYTES = 64
READ_TIMES = 2
"""How often the bytes of a file may be read in all; our readers read some numbers twice."""
READ_AT_ONCE = 1 << 22
"""Numbers converted at a time: a few hundred megabytes of them must not become gigabytes."""
SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def _guard(where: str) -> Iterator[None]:
    """Turn anything that h5py raises into one line about `where`."""
    try:
        yield
    except NeucodexError:
        raise
    except Exception as problem:
        text = " ".join(str(problem).split())[:160]
        raise FormatError(
            f"{where}: cannot be read ({text or type(problem).__name__})",
            "the file is damaged or no NetX file; export it again",
        ) from problem


@contextmanager
def open_hdf5(path: Path) -> Iterator[CheckedGroup]:
    """The root group of an HDF5 file, opened for reading.

    Raises:
        FormatError: when the file is missing, too large, or not HDF5.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            start = raw.read(len(SIGNATURE))
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror or problem}") from problem
    if size > FILE_LIMIT_BYTES:
        raise FormatError(f"{path}: {size} bytes, the limit is {FILE_LIMIT_BYTES}")
    if start != SIGNATURE:
        raise FormatError(f"{path}: not an HDF5 file", "a NetX file ends in .net and is HDF5")
    with _guard(str(path)):
        file = h5py.File(path, "r")
    try:
        yield CheckedGroup(file, str(path), path, Allowance(size, READ_TIMES * size))
    finally:
        with _guard(str(path)):
            file.close()


@dataclass
class Allowance:
    """What may be read of a file.

    Attributes:
        file_bytes: size of the file; no dataset may be larger.
        left_bytes: of all datasets to come.
    """

    file_bytes: int
    left_bytes: int


@dataclass(frozen=True)
class CheckedGroup:
    """A group of a file that nobody vouches for.

    Attributes:
        group: h5py's group.
        where: the file and the group, for messages.
        path: the file.
        allowance: shared by all groups of the file.
    """

    group: Any
    where: str
    path: Path
    allowance: Allowance

    def names(self, limit: int) -> list[str]:
        """Names of the members, at most `limit`."""
        with _guard(self.where):
            count = len(self.group)
            if count > limit:
                raise FormatError(f"{self.where}: {count} members, the limit is {limit}")
            return [str(name) for name in self.group]

    def _member(self, key: str) -> Any:
        with _guard(f"{self.where}/{key}"):
            link = self.group.get(key, getlink=True)
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise FormatError(f"{self.where}/{key}: is a link, NetX files hold none")
            return self.group[key]

    def has(self, key: str) -> bool:
        """Whether there is a member of this name."""
        return self._member(key) is not None

    def is_group(self, key: str) -> bool:
        """Whether the member of this name is a group."""
        return isinstance(self._member(key), h5py.Group)

    def inside(self, key: str) -> CheckedGroup:
        """The group of this name."""
        member = self._member(key)
        if member is None:
            raise FormatError(f"{self.where}: '{key}' is missing")
        if not isinstance(member, h5py.Group):
            raise FormatError(f"{self.where}: '{key}' is not a group")
        return CheckedGroup(member, f"{self.where}/{key}", self.path, self.allowance)

    def _dataset(self, key: str) -> Any:
        where = f"{self.where}/{key}"
        member = self._member(key)
        if member is None:
            raise FormatError(f"{self.where}: '{key}' is missing")
        if not isinstance(member, h5py.Dataset):
            raise FormatError(f"{where}: is not a dataset")
        with _guard(where):
            shape, layout = member.shape, member.id.get_create_plist()
            if shape is None or len(shape) > DIMENSIONS_LIMIT:
                raise FormatError(f"{where}: has no values, or too many dimensions")
            if (
                layout.get_layout() not in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
                or layout.get_nfilters()
                or layout.get_external_count()
            ):
                raise FormatError(
                    f"{where}: is chunked, compressed or stored elsewhere",
                    "NetX files hold plain datasets; write the file again without compression",
                )
            size = 1
            for n in shape:
                size *= int(n)
            size *= int(member.dtype.itemsize)
            if size > self.allowance.file_bytes:
                raise FormatError(
                    f"{where}: shape {tuple(shape)} needs more bytes than the file's"
                    f" {self.allowance.file_bytes}"
                )
            if member.id.get_storage_size() < size:
                raise FormatError(f"{where}: shape {tuple(shape)} was never written")
        return member

    def shape_of(self, key: str) -> tuple[int, ...]:
        """Shape of a dataset, nothing read."""
        return tuple(int(n) for n in self._dataset(key).shape)

    def numbers(self, key: str) -> NDArray[np.int32]:
        """A dataset of integers (or floats that are integers) as int32."""
        dataset = self._dataset(key)
        where = f"{self.where}/{key}"
        with _guard(where):
            if dataset.dtype.kind not in "iufb":
                raise FormatError(f"{where}: holds {dataset.dtype}, not numbers")
            self.allowance.left_bytes -= int(dataset.nbytes)
            if self.allowance.left_bytes < 0:
                raise FormatError(f"{where}: the file's datasets share their bytes")
            if not dataset.shape:
                return to_integers(np.asarray(dataset[()]), where).astype(np.int32)
            values = np.empty(dataset.shape, np.int32)
            rows = max(1, READ_AT_ONCE * len(values) // max(1, values.size))
            for first in range(0, len(values), rows):
                part = slice(first, first + rows)
                values[part] = to_integers(dataset[part], where)
            return values

    def integer(self, key: str) -> int:
        """A dataset of one integer."""
        values = self.numbers(key)
        if values.size != 1:
            raise FormatError(f"{self.where}/{key}: holds {values.size} numbers, not one")
        return int(values.reshape(-1)[0])

    def text(self, key: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
        """A dataset of one string."""
        dataset = self._dataset(key)
        where = f"{self.where}/{key}"
        with _guard(where):
            kind = h5py.check_string_dtype(dataset.dtype)
            if kind is None or dataset.size != 1:
                raise FormatError(f"{where}: is not one string")
            if kind.length is None:
                offset = dataset.id.get_offset()
                sizes = dataset.file.id.get_create_plist().get_sizes()
                if offset is None or sizes != (8, 8) or dataset.file.userblock_size:
                    raise FormatError(f"{where}: is a string stored in an unusual way")
                return variable_string(self.path, int(offset), limit_bytes)
            if kind.length > limit_bytes:
                raise FormatError(f"{where}: {kind.length} characters, limit {limit_bytes}")
            return bytes(np.asarray(dataset[()]).reshape(-1)[0])

    def word(self, key: str) -> str:
        """A dataset of one short ASCII word, such as a layer's type."""
        value = self.text(key)
        if not value.isascii():
            raise FormatError(f"{self.where}/{key}: is not ASCII")
        return value.decode("ascii")
