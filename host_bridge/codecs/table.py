"""From codec id to codec: how the spikes of one timestep become bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from host_bridge.codecs.code import Code, Shape, check_bits, packed_bytes
from host_bridge.codecs.packed import pack_bits, pack_graded, unpack_bits, unpack_graded
from neucodex_lava.errors import ProtocolError

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


CODECS: Final[Mapping[int, Codec]] = MappingProxyType(
    {
        codec.id: codec
        for codec in (
            Codec(BIT_PACKED, "bit-packed", pack_bits, unpack_bits, packed_bytes),
            Codec(GRADED, "graded", pack_graded, unpack_graded, packed_bytes),
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
    check_bits(bits)
    if codec_id is None:
        return codec_for(bits)
    if codec_id not in CODECS:
        known = ", ".join(f"{codec.id} {codec.name}" for codec in CODECS.values())
        raise ProtocolError(f"unknown codec {codec_id}, this side knows {known}")
    return CODECS[codec_id]
