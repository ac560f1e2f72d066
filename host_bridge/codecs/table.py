"""The codecs by number and name, and the two plain ones as functions."""

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
ZSTD: Final = 3
ANS: Final = 4
ADDRESSES: Final = 5
CONDITIONED: Final = 6


@dataclass(frozen=True)
class Codec:
    """A way to write codes.

    Args:
        id: its number in the message header, 1..255.
        name: for people.
    """

    id: int
    name: str


@dataclass(frozen=True)
class PlainCodec(Codec):
    """One that needs neither tables nor other timesteps.

    Args:
        pack: (code, bits) -> payload.
        unpack: (payload from anyone, shape, bits) -> code; `ProtocolError` on anything but a payload
            that `pack` could have written.
    """

    pack: Callable[[Code, int], bytes]
    unpack: Callable[[bytes, Shape, int], Code]


_PLAIN: Final[Mapping[int, PlainCodec]] = {
    BIT_PACKED: PlainCodec(BIT_PACKED, "bit-packed", pack_bits, unpack_bits),
    GRADED: PlainCodec(GRADED, "graded", pack_graded, unpack_graded),
}

CODECS: Final[Mapping[int, Codec]] = MappingProxyType(
    {
        **_PLAIN,
        ZSTD: Codec(ZSTD, "zstd"),
        ANS: Codec(ANS, "ans"),
        ADDRESSES: Codec(ADDRESSES, "addresses"),
        CONDITIONED: Codec(CONDITIONED, "ans-conditioned"),
    }
)
"""Every codec by its number."""


def codec_for(bits: int) -> PlainCodec:
    """The codec that needs nothing: bit-packed for binary codes, graded for the rest."""
    return _PLAIN[BIT_PACKED if bits == 1 else GRADED]


def limit_bytes(shape: Shape, bits: int) -> int:
    """The longest payload of any codec: whatever would be longer than the packed code is packed."""
    return packed_bytes(shape, bits)


def check_codec(codec_id: int) -> None:
    """Raise `ProtocolError` for a number that no codec has."""
    if codec_id not in CODECS:
        known = ", ".join(f"{codec.id} {codec.name}" for codec in CODECS.values())
        raise ProtocolError(f"unknown codec {codec_id}, this side knows {known}")


def pack(code: Code, bits: int = 1, codec_id: int | None = None) -> bytes:
    """Write one timestep plainly.

    Args:
        code: uint8, shape (C, H, W), values 0..2^bits-1.
        bits: bits a value, 1..8.
        codec_id: bit-packed or graded; by default `codec_for(bits)`.

    Raises:
        ProtocolError: another codec, wrong type, shape or values.
    """
    return _plain(codec_id, bits).pack(code, bits)


def unpack(payload: bytes, shape: Shape, bits: int = 1, codec_id: int | None = None) -> Code:
    """Read one timestep, the inverse of `pack`; `ProtocolError` on any payload `pack` never wrote."""
    return _plain(codec_id, bits).unpack(payload, shape, bits)


def _plain(codec_id: int | None, bits: int) -> PlainCodec:
    check_bits(bits)
    if codec_id is None:
        return codec_for(bits)
    check_codec(codec_id)
    if codec_id not in _PLAIN:
        raise ProtocolError(f"codec {CODECS[codec_id].name} is for a `Coder` and a `Decoder`")
    return _PLAIN[codec_id]
