"""What a code is: the values of one timestep, and how large it may be."""

from __future__ import annotations

from math import prod
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from neucodex_lava.errors import ProtocolError

Code: TypeAlias = npt.NDArray[np.uint8]
"""The values of one timestep, shape (C, H, W): 0 or 1, or 0..2^bits-1 for graded input."""

Shape: TypeAlias = tuple[int, int, int]
"""(C, H, W)."""

MAX_CODE_VALUES: Final = 1 << 24
MAX_BITS: Final = 8


def check_bits(bits: int) -> None:
    """Raise `ProtocolError` unless values have 1 to 8 bits."""
    if not 1 <= bits <= MAX_BITS:
        raise ProtocolError(f"{bits} bits a value, expected 1..{MAX_BITS}")


def check_shape(shape: Shape, bits: int) -> None:
    """Raise `ProtocolError` unless shape and bits are within what a session may carry."""
    if len(shape) != 3 or any(not 1 <= size <= 0xFFFF for size in shape):
        raise ProtocolError(f"code shape {shape}, expected three sizes of 1..65535")
    if prod(shape) > MAX_CODE_VALUES:
        raise ProtocolError(f"code shape {shape} has {prod(shape)} values, max {MAX_CODE_VALUES}")
    check_bits(bits)


def check_code(code: Code, bits: int) -> None:
    """Raise `ProtocolError` unless the code is uint8 (C, H, W) of values within its bits."""
    if code.dtype != np.uint8 or code.ndim != 3:
        raise ProtocolError(
            f"code of type {code.dtype} and shape {code.shape}, expected uint8 (C, H, W)"
        )
    if code.size and int(code.max()) >= 1 << bits:
        raise ProtocolError(f"code holds {int(code.max())}, {bits} bit go to {(1 << bits) - 1}")


def raw_bits(shape: Shape, bits: int = 1) -> int:
    """C * H * W * bits: what the code is worth before it is put into bytes."""
    return prod(shape) * bits


def packed_bytes(shape: Shape, bits: int = 1) -> int:
    """Length of the packed payload: `raw_bits` rounded up to whole bytes."""
    return -(-raw_bits(shape, bits) // 8)


def packed_bits(shape: Shape, bits: int = 1) -> int:
    """Bits of the packed payload."""
    return 8 * packed_bytes(shape, bits)
