"""Codes to bytes and back, and the refusal of bytes that no code gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bridge import pack, packed_bits, raw_bits, unpack
from host_bridge.codecs import BIT_PACKED, CODECS, GRADED, codec_for, limit_bytes
from neucodex_lava.errors import ProtocolError

shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))


@st.composite
def codes(draw, most_bits=8):
    width = draw(st.integers(1, most_bits))
    shape = draw(shapes)
    size = int(np.prod(shape))
    values = draw(st.lists(st.integers(0, (1 << width) - 1), min_size=size, max_size=size))
    return np.array(values, np.uint8).reshape(shape), width


@given(codes())
def test_code_survives_the_round_trip(drawn):
    code, bits = drawn
    payload = pack(code, bits)
    back = unpack(payload, code.shape, bits)
    assert back.dtype == np.uint8
    assert back.shape == code.shape
    assert back.tolist() == code.tolist()
    assert 8 * len(payload) == packed_bits(code.shape, bits)
    assert len(payload) == limit_bytes(code.shape, bits)


@given(codes(1))
def test_graded_at_one_bit_is_bit_packed(drawn):
    code, _ = drawn
    assert pack(code, 1, GRADED) == pack(code, 1, BIT_PACKED)


def test_values_run_in_chw_order_most_significant_bit_first():
    code = np.zeros((2, 2, 3), np.uint8)
    code[0, 0, 0] = code[0, 1, 2] = code[1, 0, 1] = 1  # positions 0, 5 and 7 of 12
    assert pack(code).hex() == "8500"
    graded = np.array([[[5, 1]], [[7, 2]]], np.uint8)  # 101 001 111 010
    assert pack(graded, 3).hex() == "a7a0"


@pytest.mark.parametrize(
    ("shape", "bits", "raw", "packed"),
    [((1, 2, 2), 1, 4, 8), ((16, 8, 8), 1, 1024, 1024), ((3, 32, 32), 8, 24_576, 24_576)],
)
def test_raw_and_packed_bits(shape, bits, raw, packed):
    assert (raw_bits(shape, bits), packed_bits(shape, bits)) == (raw, packed)


@given(shapes, st.integers(1, 8), st.binary(max_size=40))
def test_arbitrary_payloads_give_a_code_or_a_protocol_error(shape, bits, payload):
    try:
        code = unpack(payload, shape, bits)
    except ProtocolError:
        return
    assert pack(code, bits) == payload


@given(codes(), st.data())
def test_mutated_payloads_give_another_code_or_a_protocol_error(drawn, data):
    code, bits = drawn
    payload = bytearray(pack(code, bits))
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 0x80 >> bit % 8
    if bit >= raw_bits(code.shape, bits):
        with pytest.raises(ProtocolError, match="padding bits"):
            unpack(bytes(payload), code.shape, bits)
    else:
        changed = unpack(bytes(payload), code.shape, bits) != code
        assert np.flatnonzero(changed).tolist() == [bit // bits]


def test_wrong_length_is_named():
    with pytest.raises(ProtocolError, match=r"code of 2 bytes, shape \(1, 2, 2\) at 1 bit takes 1"):
        unpack(b"\xf0\x00", (1, 2, 2))


def test_value_beyond_the_bits_is_refused():
    with pytest.raises(ProtocolError, match="code holds 2, 1 bit go to 1"):
        pack(np.full((1, 1, 1), 2, np.uint8))
    with pytest.raises(ProtocolError, match="code holds 16, 4 bit go to 15"):
        pack(np.full((1, 1, 1), 16, np.uint8), 4)


@pytest.mark.parametrize("code", [np.zeros((1, 2, 2), bool), np.zeros((4,), np.uint8)])
def test_wrong_type_or_rank_is_refused(code):
    with pytest.raises(ProtocolError, match=r"expected uint8 \(C, H, W\)"):
        pack(code)


def test_unknown_codec_and_misfit_bits_are_refused():
    code = np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(
        ProtocolError, match="unknown codec 9, this side knows 1 bit-packed, 2 grad"
    ):
        unpack(b"\x00", (1, 1, 1), 1, 9)
    with pytest.raises(ProtocolError, match="bit-packed is for 1 bit"):
        pack(code, 2, BIT_PACKED)
    with pytest.raises(ProtocolError, match="9 bits a value"):
        pack(code, 9)


def test_codec_numbers_and_names_are_those_of_the_wire():
    assert {number: (codec.id, codec.name) for number, codec in CODECS.items()} == {
        1: (1, "bit-packed"),
        2: (2, "graded"),
        3: (3, "zstd"),
        4: (4, "ans"),
        5: (5, "addresses"),
        6: (6, "ans-conditioned"),
    }
    assert [codec_for(bits).name for bits in (1, 2, 8)] == ["bit-packed", "graded", "graded"]


def test_codecs_of_sessions_are_not_for_the_plain_functions():
    with pytest.raises(ProtocolError, match="codec zstd is for a `Coder` and a `Decoder`"):
        unpack(b"\x00", (1, 1, 1), 1, 3)
