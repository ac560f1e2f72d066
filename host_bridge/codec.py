"""How the spikes of one timestep become bytes: a small table from codec id to codec.

Values run in C, H, W order; each is written with `bits` bits, most significant bit first, without
gaps; the last byte is filled with zeros. With one bit a value this is plain bit-packing, the baseline
that every other codec has to beat:

    packed bytes = ceil(C * H * W * bits / 8)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
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

BIT_PACKED: Final = 1
GRADED: Final = 2


@dataclass(frozen=True)
class Codec:
    """A way to write codes.

    Args:
        id: its number in the message header, 1..255.
        name: for people.
        pack: (code, bits) -> payload.
        unpack: (payload from anyone, shape, bits) -> code; `ProtocolError` on anything but a payload
            that `pack` could have written.
        limit_bytes: (shape, bits) -> length of the longest payload.
    """

    id: int
    name: str
    pack: Callable[[Code, int], bytes]
    unpack: Callable[[bytes, Shape, int], Code]
    limit_bytes: Callable[[Shape, int], int]


def check_shape(shape: Shape, bits: int) -> None:
    """Raise `ProtocolError` unless shape and bits are within what a session may carry."""
    if len(shape) != 3 or any(not 1 <= size <= 0xFFFF for size in shape):
        raise ProtocolError(f"code shape {shape}, expected three sizes of 1..65535")
    if prod(shape) > MAX_CODE_VALUES:
        raise ProtocolError(f"code shape {shape} has {prod(shape)} values, max {MAX_CODE_VALUES}")
    if not 1 <= bits <= MAX_BITS:
        raise ProtocolError(f"{bits} bits a value, expected 1..{MAX_BITS}")


def raw_bits(shape: Shape, bits: int = 1) -> int:
    """C * H * W * bits: what the code is worth before it is put into bytes."""
    return prod(shape) * bits


def packed_bits(shape: Shape, bits: int = 1) -> int:
    """Bits of the packed payload: `raw_bits` rounded up to whole bytes."""
    return 8 * _packed_bytes(shape, bits)


def _packed_bytes(shape: Shape, bits: int) -> int:
    return -(-raw_bits(shape, bits) // 8)


def _check_payload(payload: bytes, shape: Shape, bits: int) -> npt.NDArray[np.uint8]:
    """Return the payload as unpacked bits, without the padding."""
    expected = _packed_bytes(shape, bits)
    if len(payload) != expected:
        raise ProtocolError(
            f"code of {len(payload)} bytes, shape {shape} at {bits} bit takes {expected}"
        )
    used = raw_bits(shape, bits)
    if payload[-1] & (1 << (8 * expected - used)) - 1:
        raise ProtocolError("padding bits of the code are not zero")
    return np.unpackbits(np.frombuffer(payload, dtype=np.uint8), count=used)


def _check_values(code: Code, bits: int) -> None:
    if code.dtype != np.uint8 or code.ndim != 3:
        raise ProtocolError(
            f"code of type {code.dtype} and shape {code.shape}, expected uint8 (C, H, W)"
        )
    if code.size and int(code.max()) >= 1 << bits:
        raise ProtocolError(f"code holds {int(code.max())}, {bits} bit go to {(1 << bits) - 1}")


def _one_bit(bits: int) -> None:
    if bits != 1:
        raise ProtocolError(f"codec bit-packed is for 1 bit a value, the session has {bits}")


def _pack_bits(code: Code, bits: int) -> bytes:
    _one_bit(bits)
    _check_values(code, 1)
    return np.packbits(code).tobytes()


def _unpack_bits(payload: bytes, shape: Shape, bits: int) -> Code:
    _one_bit(bits)
    return _check_payload(payload, shape, 1).reshape(shape)


def _pack_graded(code: Code, bits: int) -> bytes:
    _check_values(code, bits)
    columns = np.unpackbits(code.reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(columns).tobytes()


def _unpack_graded(payload: bytes, shape: Shape, bits: int) -> Code:
    columns = _check_payload(payload, shape, bits).reshape(-1, bits)
    # packbits fills from the left, so the values come out shifted by the bits that are not there.
    return (np.packbits(columns, axis=1).reshape(shape)) >> np.uint8(8 - bits)


CODECS: Final[Mapping[int, Codec]] = MappingProxyType(
    {
        codec.id: codec
        for codec in (
            Codec(BIT_PACKED, "bit-packed", _pack_bits, _unpack_bits, _packed_bytes),
            Codec(GRADED, "graded", _pack_graded, _unpack_graded, _packed_bytes),
        )
    }
)


def codec_for(bits: int) -> Codec:
    """The codec an edge uses by default: bit-packed for binary codes, graded for the rest."""
    return CODECS[BIT_PACKED if bits == 1 else GRADED]


def limit_bytes(shape: Shape, bits: int) -> int:
    """The longest payload any codec writes for such a code; servers size their limits by it."""
    return max(codec.limit_bytes(shape, bits) for codec in CODECS.values())


def pack(code: Code, bits: int = 1, codec_id: int | None = None) -> bytes:
    """Write one timestep.

    Args:
        code: uint8, shape (C, H, W), values 0..2^bits-1.
        bits: bits a value, 1..8.
        codec_id: which codec; by default `codec_for(bits)`.

    Raises:
        ProtocolError: unknown codec, wrong type, shape or values.
    """
    return _codec(codec_id, bits).pack(code, bits)


def unpack(payload: bytes, shape: Shape, bits: int = 1, codec_id: int | None = None) -> Code:
    """Read one timestep, the inverse of `pack`; `ProtocolError` on any payload `pack` never wrote."""
    return _codec(codec_id, bits).unpack(payload, shape, bits)


def _codec(codec_id: int | None, bits: int) -> Codec:
    if not 1 <= bits <= MAX_BITS:
        raise ProtocolError(f"{bits} bits a value, expected 1..{MAX_BITS}")
    if codec_id is None:
        return codec_for(bits)
    if codec_id not in CODECS:
        known = ", ".join(f"{codec.id} {codec.name}" for codec in CODECS.values())
        raise ProtocolError(f"unknown codec {codec_id}, this side knows {known}")
    return CODECS[codec_id]
