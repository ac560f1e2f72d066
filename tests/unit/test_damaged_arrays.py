"""Arrays in damaged files: samples are refused in one line, parts of a run are run again."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from energy.ledger import Ledger
from neucodex_lava.errors import DataError
from neucodex_lava.evaluation.input_file import read_inputs
from neucodex_lava.evaluation.parts import PartFolder, empty_part

FLIPS = 1500


def flipped(whole: bytes, place: int, rng: np.random.Generator) -> bytes:
    """`whole` with another byte at `place`."""
    changed = bytearray(whole)
    changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


@pytest.mark.parametrize("several", [False, True])
def test_any_flipped_byte_of_samples_is_an_array_or_one_line(several: bool, tmp_path: Path) -> None:
    path, rng = tmp_path / "x.npy", np.random.default_rng(1)
    array = rng.integers(0, 2, (2, 1, 3, 3, 4), np.uint8)
    with path.open("wb") as file:
        np.savez_compressed(file, a=array) if several else np.save(file, array)
    whole = path.read_bytes()
    read = 0
    for i in range(FLIPS):
        path.write_bytes(flipped(whole, i % len(whole), rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                found = read_inputs(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            read += 1
            assert (found.dtype, found.ndim) == (np.uint8, 5)
    # Of a plain file, flipped samples are samples; an archive is never one array.
    assert (read == 0) if several else (FLIPS // 10 < read < FLIPS)


def test_any_flipped_byte_of_a_part_is_the_part_or_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    part = empty_part(Ledger.zeros(["a"], [("a", "input")], 2, 3, ["dense"]), 12, 3)
    part.code[:] = rng.integers(0, 256, part.code.shape, np.uint8)
    folder = PartFolder(tmp_path / "run", {})
    folder.write(0, part)
    path = next((tmp_path / "run").glob("part-*"))
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    places = [*range(directory, len(whole)), *rng.integers(0, len(whole), FLIPS).tolist()]
    none = 0
    for place in places:
        path.write_bytes(flipped(whole, place, rng))
        found = folder.read(0, part)
        if found is None:
            none += 1
            continue
        for name, array in part.arrays().items():
            assert np.array_equal(found.arrays()[name], array)
    assert none > len(places) // 3
    path.write_bytes(whole)
    assert folder.read(0, part) is not None
