"""Arrays that the parent and Lava's forked processes both see.

They live in anonymous memory that is inherited by fork: nothing appears under ``/dev/shm``, nothing has
to be unlinked, and the pages go when the last process that maps them does, however it dies.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def shared_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros of this shape that stay shared with processes forked later."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    block = mmap.mmap(-1, max(1, count * kind.itemsize))
    return np.frombuffer(block, dtype=kind, count=count).reshape(shape)
