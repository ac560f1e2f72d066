"""Plain packing, the baseline that every other codec has to beat.

Values run in C, H, W order; each is written with `bits` bits, most significant bit first, without
gaps; the last byte is filled with zeros. With one bit a value this is bit-packing:

    packed bytes = ceil(C * H * W * bits / 8)
"""

from __future__ import annotations

import numpy as np

from host_bridge.codecs.code import Code, Shape, check_code, packed_bytes, raw_bits
from neucodex_lava.errors import ProtocolError


def _check_payload(payload: bytes, shape: Shape, bits: int) -> Code:
    """Return the payload as unpacked bits, without the padding."""
    expected = packed_bytes(shape, bits)
    if len(payload) != expected:
        raise ProtocolError(
            f"code of {len(payload)} bytes, shape {shape} at {bits} bit takes {expected}"
        )
    used = raw_bits(shape, bits)
    if payload[-1] & (1 << (8 * expected - used)) - 1:
        raise ProtocolError("padding bits of the code are not zero")
    return np.unpackbits(np.frombuffer(payload, dtype=np.uint8), count=used)


def _one_bit(bits: int) -> None:
    if bits != 1:
        raise ProtocolError(f"codec bit-packed is for 1 bit a value, the session has {bits}")


def pack_bits(code: Code, bits: int) -> bytes:
    """Eight spikes to a byte."""
    _one_bit(bits)
    check_code(code, 1)
    return np.packbits(code).tobytes()


def unpack_bits(payload: bytes, shape: Shape, bits: int) -> Code:
    """The inverse; `ProtocolError` on anything that `pack_bits` never wrote."""
    _one_bit(bits)
    return _check_payload(payload, shape, 1).reshape(shape)


def pack_graded(code: Code, bits: int) -> bytes:
    """`bits` bits a value."""
    check_code(code, bits)
    columns = np.unpackbits(code.reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(columns).tobytes()


def unpack_graded(payload: bytes, shape: Shape, bits: int) -> Code:
    """The inverse; `ProtocolError` on anything that `pack_graded` never wrote."""
    columns = _check_payload(payload, shape, bits).reshape(-1, bits)
    # packbits fills from the left, so the values come out shifted by the bits that are not there.
    return (np.packbits(columns, axis=1).reshape(shape)) >> np.uint8(8 - bits)
