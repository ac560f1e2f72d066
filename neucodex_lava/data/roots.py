"""Where datasets lie on disk, and whether a folder holds what it should."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from neucodex_lava.errors import DataError

ROOT_VARIABLE = "NEUCODEX_DATA"


@dataclass(frozen=True)
class DataRoot:
    """A dataset's folder, and what to tell a user whose files are not right.

    Attributes:
        dataset: its name.
        folder: where its files are.
        hint: the way out.
        root: the data root, which holds this folder and others.
    """

    dataset: str
    folder: Path
    hint: str
    root: Path

    def error(self, message: str, hint: str = "") -> DataError:
        """A DataError about this dataset."""
        return DataError(f"{self.dataset}: {message}", hint or self.hint)

    def shown(self, path: Path | str) -> str:
        """A path as errors name it: from the data root on."""
        return os.path.relpath(path, self.root)


def find_root(data_root: Path | str | None, dataset: str, folder: str) -> DataRoot:
    """The data root given, or else the one NEUCODEX_DATA names.

    Raises:
        DataError: neither is there, or it is no folder, or it lacks the dataset's folder.
    """
    given = data_root if data_root is not None else os.environ.get(ROOT_VARIABLE)
    hint = f"pass --data-root DIR or set {ROOT_VARIABLE}=DIR, where DIR/{folder} holds the dataset"
    if not given:
        raise DataError(f"{dataset} needs a data root", hint)
    root = Path(given).expanduser()
    if not root.is_dir():
        raise DataError(f"data root '{root}' is not a folder", hint)
    if not (root / folder).is_dir():
        raise DataError(f"{dataset}: '{root / folder}' is missing", hint)
    return DataRoot(dataset, root / folder, hint, root)


def subfolders(root: DataRoot, folder: Path) -> list[str]:
    """Names of the folders in a folder that holds nothing but folders.

    Raises:
        DataError: the folder is missing, or a file lies in it.
    """
    if not folder.is_dir():
        raise root.error(f"'{root.shown(folder)}' is missing")
    names: list[str] = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            raise _extra(root, entry)
        names.append(entry.name)
    return names


def files_of(root: DataRoot, folder: Path, pattern: str) -> list[Path]:
    """The files of a class, at least one, whose names are all as they should be.

    Args:
        root: the dataset.
        folder: of the class.
        pattern: that every file's name matches as a whole.

    Raises:
        DataError: the folder is missing or empty, or something else lies in it.
    """
    if not folder.is_dir():
        raise root.error(f"'{root.shown(folder)}' is missing")
    found = sorted(folder.iterdir())
    for entry in found:
        if not re.fullmatch(pattern, entry.name) or not entry.is_file():
            raise _extra(root, entry)
    if not found:
        raise root.error(f"'{root.shown(folder)}' is empty")
    return found


def check_numbers(root: DataRoot, files: Iterable[Path], shown: str) -> None:
    """Whether the numbers in the files' names are 1, 2, 3, ..., each once: none was lost.

    Raises:
        DataError: names the first number that is missing, or that two files have.
    """
    numbers = sorted((int(re.sub(r"\D", "", file.stem)), file) for file in files)
    for expected, (number, file) in enumerate(numbers, 1):
        if number > expected:
            raise root.error(f"number {expected} of '{shown}' is missing, {number} is there")
        if number < expected:
            raise _extra(root, file)


def _extra(root: DataRoot, entry: Path) -> DataError:
    return root.error(
        f"'{root.shown(entry)}' does not belong there", "remove it, or copy the dataset again"
    )
