"""The header, its CRC and the logits payload; everything malformed is a ProtocolError."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bridge.messages import (
    HEADER_BYTES,
    Kind,
    Message,
    decode,
    encode,
    pack_busy,
    pack_logits,
    unpack_busy,
    unpack_logits,
    wire_bytes,
)
from neucodex_lava.errors import ProtocolError

LIMIT = 1000

messages = st.builds(
    Message,
    kind=st.sampled_from(Kind),
    session=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**16 - 1),
    sample=st.integers(0, 2**32 - 1),
    timestep=st.integers(0, 2**16 - 1),
    codec=st.integers(0, 255),
    payload=st.binary(max_size=60),
)


@given(messages)
def test_message_survives_the_round_trip(message):
    assert decode(encode(message), LIMIT) == message


def test_header_is_the_documented_bytes():
    raw = encode(Message(Kind.CODE, 0x0102030405060708, 9, 10, 11, 1, b"\xf0"))
    head = "4e5802 03 01 0102030405060708 0009 0000000a 000b 00000001"
    assert raw[:25] == bytes.fromhex(head)
    assert (len(raw), HEADER_BYTES) == (30, 29)


@given(messages, st.data())
def test_every_flipped_bit_is_noticed(message, data):
    raw = bytearray(encode(message))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        decode(bytes(raw), LIMIT)


def test_each_bit_of_one_message_is_guarded():
    raw = encode(Message(Kind.CODE, 77, 0, 3, 2, 1, b"\xa5\x5a\x00"))
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError) as caught:
            decode(bytes(damaged), LIMIT)
        # Damage is worth another try, so it must never look like a foreign version or kind.
        assert caught.value.status == "DATA_LOSS", bit


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda b: b"NX\x02" + b)))
def test_arbitrary_bytes_give_a_message_or_a_protocol_error(raw):
    try:
        message = decode(raw, LIMIT)
    except ProtocolError:
        return
    assert encode(message) == raw


@given(messages, st.data())
def test_cut_and_padded_messages_are_refused(message, data):
    raw = encode(message)
    cut = data.draw(st.integers(0, len(raw) - 1))
    for wrong in (raw[:cut], raw + data.draw(st.binary(min_size=1, max_size=5))):
        with pytest.raises(ProtocolError):
            decode(wrong, LIMIT)


def _forged(raw: bytes, offset: int, value: int) -> bytes:
    """The same message with one header byte changed and a CRC that fits."""
    import zlib

    head = bytearray(raw[:25])
    head[offset] = value
    crc = zlib.crc32(raw[HEADER_BYTES:], zlib.crc32(head))
    return bytes(head) + crc.to_bytes(4, "big") + raw[HEADER_BYTES:]


@pytest.mark.parametrize(
    ("offset", "value", "says"),
    [
        (2, 1, "wire version 1, this side speaks 2"),
        (3, 0, "unknown message kind 0"),
        (3, 99, "unknown message kind 99"),
        (0, 0x50, "not a neucodex message"),
    ],
)
def test_unknown_version_kind_and_magic_are_named(offset, value, says):
    raw = _forged(encode(Message(Kind.CLOSE, 1)), offset, value)
    with pytest.raises(ProtocolError, match=says):
        decode(raw, LIMIT)


def test_payload_beyond_the_limit_is_refused():
    raw = encode(Message(Kind.CODE, 1, payload=bytes(11)))
    assert decode(raw, 11).payload == bytes(11)
    with pytest.raises(ProtocolError, match="payload of 11 bytes, the limit is 10"):
        decode(raw, 10)


@pytest.mark.parametrize("field", ["session", "epoch", "sample", "timestep", "codec"])
@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_field_out_of_range_is_refused_when_encoding(field, value):
    with pytest.raises(ProtocolError, match="out of range"):
        encode(Message(**{"kind": Kind.CODE, "session": 1, field: value}))


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 14), (30, 44), (16_379, 16_393), (16_380, 16_403), (50_000, 50_041)]
)
def test_modelled_wire_bytes_count_prefix_and_frames(size, expected):
    assert wire_bytes(size) == expected


@pytest.mark.parametrize(
    ("seconds", "back"), [(0, 0), (0.0101, 0.011), (-1, 0), (1e9, 4294967.295)]
)
def test_busy_says_when_to_try_again(seconds, back):
    assert unpack_busy(pack_busy(seconds)) == pytest.approx(back)
    with pytest.raises(ProtocolError, match="BUSY of 3 bytes, it has 4"):
        unpack_busy(bytes(3))


@given(
    st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_logits_are_exact(values, microseconds):
    sums = np.array(values, np.int64)
    payload = pack_logits(sums, microseconds * 1e-6)
    back, cloud_s = unpack_logits(payload, len(values))
    assert len(payload) == 4 + 4 * len(values)
    assert back.dtype == np.int64
    assert back.tolist() == values
    assert cloud_s == pytest.approx(microseconds * 1e-6, abs=1e-9)


@pytest.mark.parametrize("sums", [[2**24 + 1], [0, -(2**24) - 1]])
def test_sums_that_float32_would_round_are_refused(sums):
    with pytest.raises(ProtocolError, match=re.escape("beyond 2^24")):
        pack_logits(np.array(sums), 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.5, 2.0**24 + 2])
def test_logits_that_are_no_whole_numbers_are_refused(value):
    payload = bytes(4) + np.array([1, value], ">f4").tobytes()
    with pytest.raises(ProtocolError, match="a running sum is not a"):
        unpack_logits(payload, 2)


@given(st.binary(max_size=50), st.integers(1, 11))
def test_arbitrary_logits_give_only_protocol_errors(payload, classes):
    try:
        sums, _ = unpack_logits(payload, classes)
    except ProtocolError:
        return
    assert len(payload) == 4 + 4 * classes
    assert pack_logits(sums, 0.0)[4:] == (sums.astype(">f4")).tobytes()
