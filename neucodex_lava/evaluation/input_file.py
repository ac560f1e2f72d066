"""Samples from a numpy file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import DataError

AXES = 5
VALUES_LIMIT = 1 << 32
"""More than for random input: these lie in the user's file and are mapped."""


def read_inputs(path: Path) -> NDArray[np.uint8]:
    """Samples of a ``.npy`` file, uint8 (N, C, H, W, T).

    The file is mapped, not read: only samples that are used come into memory. Whether shape and values
    fit a network is checked when they are run.

    Raises:
        DataError: no such file, no array, pickled objects, another type or number of axes, truncated,
            or more values than the limit.
    """
    hint = "save it with numpy.save: uint8 of axes N C H W T"
    if not path.is_file():
        raise DataError(f"'{path}' is no file", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's about old headers: the error says enough
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # numpy, its parser of headers and zipfile raise nearly anything on a damaged file.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"'{path}' holds no array that can be read: {reason}", hint) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"'{path}' holds several arrays, one is needed", hint)
    if array.dtype != np.uint8 or array.ndim != AXES:
        raise DataError(f"'{path}' holds {array.dtype} of {array.ndim} axes", hint)
    if array.size > VALUES_LIMIT:
        raise DataError(f"'{path}' holds {array.size} values, the limit is {VALUES_LIMIT}")
    if 0 in array.shape:
        raise DataError(f"'{path}' has shape {array.shape}: there is nothing to run", hint)
    return array
