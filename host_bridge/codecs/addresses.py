"""Event addresses: where the values that are not zero lie, for very sparse codes.

The n positions p_1 < p_2 < ... of N values are written in Elias-Fano's form: of each position the
lowest k bits, and the rest as steps in unary,

    k = floor(log2(N / n)),  bits = n * k + n + ((N - 1) >> k) + 1

which is within half a bit a spike of what any list of addresses takes (P. Elias, "Efficient storage
and retrieval by content and address of static files", J. ACM 21, 1974). The payload is n (7 bits a
byte, least significant first, the highest bit says that more follow), then the unary part, the low
bits and, of graded codes, the values themselves, without gaps, most significant bit first; the last
byte is filled with zeros.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from host_bridge.codecs.code import Code, Shape
from neucodex_lava.errors import ProtocolError

_COUNT_BYTES = 4
"""MAX_CODE_VALUES takes four."""


def address_bytes(spikes: int, values: int, bits: int) -> int:
    """Length of the payload of a code with so many values that are not zero."""
    total = sum(_parts(spikes, values, bits))
    return len(_write_count(spikes)) + -(-total // 8)


def _parts(spikes: int, values: int, bits: int) -> tuple[int, int, int]:
    """Bits of the unary part, of the low bits, and of the values."""
    if spikes == 0:
        return 0, 0, 0
    low = _low_bits(spikes, values)
    return spikes + ((values - 1) >> low) + 1, spikes * low, spikes * bits if bits > 1 else 0


def _low_bits(spikes: int, values: int) -> int:
    return (values // spikes).bit_length() - 1


def _write_count(count: int) -> bytes:
    out = bytearray()
    while count > 0x7F:
        out.append(count & 0x7F | 0x80)
        count >>= 7
    out.append(count)
    return bytes(out)


def _read_count(payload: bytes) -> tuple[int, int]:
    """The count and the bytes it takes."""
    count = 0
    for i, byte in enumerate(payload[:_COUNT_BYTES]):
        count |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if i and not byte:
                break
            return count, i + 1
    raise ProtocolError("the number of addresses is not written as it should be")


def pack_addresses(code: Code, bits: int) -> bytes:
    """Write a code, which must have been checked, as addresses."""
    flat = code.reshape(-1)
    positions = np.flatnonzero(flat)
    spikes = len(positions)
    count = _write_count(spikes)
    if spikes == 0:
        return count
    low = _low_bits(spikes, flat.size)
    unary = np.zeros(_parts(spikes, flat.size, bits)[0], np.uint8)
    unary[(positions >> low) + np.arange(spikes)] = 1
    parts = [unary, _to_bits(positions, low)]
    if bits > 1:
        parts.append(_to_bits(flat[positions], bits))
    return count + np.packbits(np.concatenate(parts)).tobytes()


def unpack_addresses(payload: bytes, shape: Shape, bits: int) -> Code:
    """The inverse; `ProtocolError` on anything that `pack_addresses` never wrote."""
    values = prod(shape)
    spikes, used = _read_count(payload)
    if spikes > values:
        raise ProtocolError(f"{spikes} addresses in a code of {values} values")
    parts = _parts(spikes, values, bits)
    expected = used + -(-sum(parts) // 8)
    if len(payload) != expected:
        raise ProtocolError(
            f"{spikes} addresses in {len(payload)} bytes, shape {shape} takes {expected}"
        )
    code = np.zeros(values, np.uint8)
    if spikes:
        stream = np.unpackbits(np.frombuffer(payload, np.uint8, offset=used))
        unary, lows, grades, padding = np.split(stream, np.cumsum(parts))
        steps = np.flatnonzero(unary)
        if len(steps) != spikes or padding.any():
            raise ProtocolError(f"the addresses are not {spikes} and nothing else")
        low = _low_bits(spikes, values)
        positions = (steps - np.arange(spikes) << low) | _from_bits(lows, low, spikes)
        if positions[-1] >= values or (np.diff(positions) <= 0).any():
            raise ProtocolError("the addresses do not rise within the code")
        given = _from_bits(grades, bits, spikes) if bits > 1 else np.ones(spikes, np.int64)
        if not given.all():
            raise ProtocolError("an address of a value that is zero")
        code[positions] = given
    return code.reshape(shape)


def _to_bits(numbers: npt.NDArray[Any], width: int) -> npt.NDArray[np.uint8]:
    """Each number in `width` bits, most significant first, one after the other."""
    places = np.arange(width - 1, -1, -1)
    return (numbers[:, None] >> places & 1).astype(np.uint8).reshape(-1)


def _from_bits(stream: npt.NDArray[np.uint8], width: int, count: int) -> npt.NDArray[np.int64]:
    places = np.arange(width - 1, -1, -1)
    return (stream.reshape(count, width).astype(np.int64) << places).sum(axis=1)
