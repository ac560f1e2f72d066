"""Every codec of a session: what was written is read, and nothing else is."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_bridge.codecs import (
    ADDRESSES,
    ANS,
    BIT_PACKED,
    CHOICES,
    CODECS,
    CONDITIONED,
    ZSTD,
    Coder,
    Decoder,
    Tables,
    TableTraining,
    limit_bytes,
    packed_bits,
)
from host_bridge.codecs.ans import cost_bits, cost_bits_given, pack_ans
from host_bridge.codecs.training import quantised
from neucodex_lava.errors import ConfigError, ProtocolError

SHAPE = (4, 8, 8)


def sparse(seed: int, activity: float, count: int, shape=SHAPE) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, *shape)) < activity).astype(np.uint8)


def tables_of(codes: np.ndarray, bits: int = 1) -> Tables:
    """Tables of samples (N, T, C, H, W)."""
    training = TableTraining(codes.shape[2:], bits)
    for sample in codes:
        training.add(sample)
    return training.tables()


def words(seed: int, count: int) -> np.ndarray:
    """Codes that repeat themselves, as zstd likes them: rows out of a few."""
    draw = np.random.default_rng(seed)
    rows = sparse(99, 0.2, 6, (1, 1, 32))[:, 0, 0]
    return rows[draw.integers(0, 6, (count, 8, 8))].reshape(count, 8, 8, 32)


@st.composite
def frames(draw, most_bits: int = 8):
    """Two consecutive codes of a sample, their bits, and tables that may or may not suit them."""
    bits = draw(st.integers(1, most_bits))
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9)))
    activity = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    codes = random.integers(1, 1 << bits, (2, *shape)) * (random.random((2, *shape)) < activity)
    counts = random.integers(0, draw(st.sampled_from([1, 30, 100_000])), (shape[0], 1 << bits))
    pairs = random.integers(0, 1000, (shape[0], 2, 2))
    tables = Tables(quantised(counts), quantised(pairs) if bits == 1 else None)
    return codes.astype(np.uint8), bits, draw(st.sampled_from([tables, None]))


def possible(choice: str, bits: int, tables: Tables | None) -> bool:
    if choice.startswith("ans") and tables is None:
        return False
    return not (choice == "ans-conditioned" and bits > 1)


@settings(max_examples=150)
@given(frames(), st.sampled_from(CHOICES), st.booleans())
def test_every_codec_gives_back_what_it_was_given(drawn, choice, at_once):
    (before, code), bits, tables = drawn
    if not possible(choice, bits, tables):
        return
    previous = None if at_once else before
    codec, payload = Coder(code.shape, bits, tables, choice).encode(code, previous)
    assert 8 * len(payload) <= packed_bits(code.shape, bits)
    assert len(payload) <= limit_bytes(code.shape, bits)
    back = Decoder(code.shape, bits, tables).decode(codec, payload, previous)
    assert (back.dtype, back.shape) == (np.uint8, code.shape)
    assert back.tolist() == code.tolist()
    again = Coder(code.shape, bits, tables, choice).encode(code, previous)
    assert again == (codec, payload)


def _rewritten(codec: int, code, bits: int, tables, previous) -> tuple[int, bytes]:
    choice = CODECS[codec].name if codec > 2 else "packed"
    return Coder(code.shape, bits, tables, choice).encode(code, previous)


@settings(max_examples=300)
@given(frames(), st.sampled_from(sorted(CODECS)), st.binary(max_size=60), st.booleans())
def test_arbitrary_payloads_give_what_the_encoder_writes_or_a_protocol_error(
    drawn, codec, payload, at_once
):
    (before, code), bits, tables = drawn
    previous = None if at_once else before
    try:
        found = Decoder(code.shape, bits, tables).decode(codec, payload, previous)
    except ProtocolError:
        return
    assert found.shape == code.shape
    assert int(found.max()) < 1 << bits
    if codec in (ANS, ADDRESSES, CONDITIONED):
        assert _rewritten(codec, found, bits, tables, previous) == (codec, payload)


@settings(max_examples=300)
@given(frames(), st.sampled_from([ZSTD, ANS, ADDRESSES, CONDITIONED]), st.data())
def test_mutated_payloads_are_refused_or_are_another_codes(drawn, codec, data):
    (before, code), bits, tables = drawn
    if not possible(CODECS[codec].name, bits, tables):
        return
    wrote, payload = _rewritten(codec, code, bits, tables, before)
    if wrote != codec or not payload:
        return
    changed = bytearray(payload)
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    changed[bit // 8] ^= 0x80 >> bit % 8
    try:
        found = Decoder(code.shape, bits, tables).decode(codec, bytes(changed), before)
    except ProtocolError:
        return
    if codec != ZSTD:  # a frame may say the same in other words
        assert found.tolist() != code.tolist()
        assert _rewritten(codec, found, bits, tables, before) == (codec, bytes(changed))


def test_coded_bytes_are_the_same_on_every_machine():
    """Golden bytes: whoever changes them breaks edges and clouds of different versions."""
    positions = np.arange(4 * 64)
    before = ((positions * 7919 % 256) < 40).astype(np.uint8).reshape(SHAPE)
    code = ((positions * 6007 % 256) < 30).astype(np.uint8).reshape(SHAPE)
    tables = Tables(
        np.array([[60000, 5536], [50000, 15536], [65535, 1], [32768, 32768]], np.uint16),
        np.array([[[62000, 3536], [20000, 45536]]] * 4, np.uint16),
    )
    coded = {
        name: Coder(SHAPE, 1, tables, name).encode(code, before)
        for name in ("ans", "ans-conditioned", "addresses")
    }
    assert {name: (number, payload.hex()) for name, (number, payload) in coded.items()} == GOLDEN
    graded = (positions % 7 // 5 * (positions % 4)).astype(np.uint8).reshape(SHAPE)
    wide = Tables(np.array([[50000, 8000, 7000, 536]] * 4, np.uint16))
    assert Coder(SHAPE, 2, wide, "ans").encode(graded) == (ANS, bytes.fromhex(GOLDEN_GRADED))
    assert tables.sha256 == GOLDEN_SHA256


GOLDEN = {
    "ans": (4, "00000000a82832cd8f22a15addb79e10f67f3a9dbb69fcd430cefa4f33b9d188"),
    "ans-conditioned": (6, "002036017bddd981303a61d5961a9068a34a0af63306a1208c09"),
    "addresses": (5, "1eb32ac99664d332a83aa1c2f858be661799d5ce"),
}
GOLDEN_GRADED = (
    "096f8f78a273fe72960113da8c9c3953b1955dc39705f14ded5a1688697f2c154b034aca7f3d56bacb0e"
)
GOLDEN_SHA256 = "661c50466acf30f0dc23bb2975467a45c0cbb6288ac6706713ddeca32de0940b"


@pytest.mark.parametrize("activity", [0.02, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("shape", [(32, 16, 16), (512, 4, 4)])
def test_auto_by_size_is_near_the_limit_and_never_above_packed(shape, activity):
    draw = np.random.default_rng(3)
    rates = np.clip(draw.beta(2, 2 / activity - 2, shape[0]), 1e-4, 0.9)
    codes = (draw.random((24, 4, *shape)) < rates[:, None, None]).astype(np.uint8)
    tables = tables_of(codes[:16])
    coder = Coder(shape, 1, tables)
    for sample in codes[16:]:
        for t, code in enumerate(sample):
            _, payload = coder.encode(code, sample[t - 1] if t else None)
            limit = cost_bits(code, tables) / 8
            assert len(payload) <= 1.05 * limit + 4
            assert len(payload) <= packed_bits(shape) // 8


def test_cost_is_the_entropy_coders_size_to_4_bytes():
    codes = sparse(5, 0.2, 40).reshape(10, 4, *SHAPE)
    tables = tables_of(codes)
    for code, previous in zip(codes[0], codes[1]):
        assert abs(len(pack_ans(code, tables)) - cost_bits(code, tables) / 8) <= 4
        codec, payload = Coder(SHAPE, 1, tables, "ans-conditioned").encode(code, previous)
        assert codec == CONDITIONED
        assert abs(len(payload) - cost_bits_given(code, previous, tables) / 8) <= 4


def test_auto_takes_each_codec_where_it_is_the_smallest():
    shape = (8, 32, 32)
    dense, rare = sparse(1, 0.5, 1, shape)[0], sparse(2, 0.002, 1, shape)[0]
    coder = Coder(shape)
    assert coder.encode(dense)[0] == BIT_PACKED
    assert coder.encode(rare)[0] == ADDRESSES
    assert Coder((8, 8, 32)).encode(words(3, 1)[0])[0] == ZSTD
    own = tables_of(sparse(4, 0.1, 40, shape).reshape(10, 4, *shape))
    assert Coder(shape, 1, own).encode(sparse(5, 0.1, 1, shape)[0])[0] == ANS
    # Every neuron goes on doing what it did.
    held = np.repeat(sparse(6, 0.3, 10, shape)[:, None], 4, axis=1)
    codec, payload = Coder(shape, 1, tables_of(held)).encode(held[0, 1], held[0, 0])
    assert codec == CONDITIONED
    assert len(payload) < 20


def test_link_rate_weighs_time_against_size():
    shape = (64, 32, 32)
    codes = sparse(7, 0.1, 8, shape).reshape(2, 4, *shape)
    tables = tables_of(codes)
    slow = Coder(shape, 1, tables, link_rate_bps=1e4)
    fast = Coder(shape, 1, tables, link_rate_bps=1e12)
    assert slow.encode(codes[0, 0])[0] == ANS
    assert fast.encode(codes[0, 0])[0] == BIT_PACKED


def test_silent_code_takes_no_bytes_at_all():
    tables = tables_of(sparse(8, 0.1, 40).reshape(10, 4, *SHAPE))
    silent = np.zeros(SHAPE, np.uint8)
    assert Coder(SHAPE, 1, tables, "ans").encode(silent) == (ANS, b"")
    assert not Decoder(SHAPE, 1, tables).decode(ANS, b"").any()


def test_threads_may_share_a_decoder():
    codes = words(17, 64).reshape(16, 4, 8, 8, 32)
    tables = tables_of(codes)
    decoder = Decoder((8, 8, 32), 1, tables)
    sent = [
        (code, sample[t - 1] if t else None, Coder((8, 8, 32), 1, tables, choice))
        for sample in codes
        for t, code in enumerate(sample)
        for choice in ("zstd", "ans", "ans-conditioned")
    ]
    written = [(code, before, *coder.encode(code, before)) for code, before, coder in sent]

    def read(_: int) -> bool:
        return all((decoder.decode(n, p, before) == code).all() for code, before, n, p in written)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(8)))


def test_trained_dictionary_helps_frames_it_was_not_trained_on():
    codes = words(10, 240).reshape(60, 4, 8, 8, 32)
    tables = tables_of(codes)
    assert 0 < len(tables.dictionary) <= 4096
    fresh = words(11, 20)
    with_it, without = (
        sum(len(Coder((8, 8, 32), 1, t, "zstd").encode(code)[1]) for code in fresh)
        for t in (tables, None)
    )
    assert with_it < 0.9 * without


def test_codes_of_another_session_are_refused():
    tables = tables_of(sparse(12, 0.1, 40).reshape(10, 4, *SHAPE))
    with pytest.raises(ConfigError, match="tables of 4 channels at 1 bit, the code has 5 at 1"):
        Coder((5, 8, 8), 1, tables)
    with pytest.raises(ConfigError, match="tables of 4 channels at 1 bit, the code has 4 at 2"):
        Decoder((4, 8, 8), 2, tables)
    code = sparse(13, 0.1, 1)[0]
    with pytest.raises(
        ProtocolError, match=r"code of shape \(4, 8, 8\), the session has \(4, 8, 9"
    ):
        Coder((4, 8, 9)).encode(code)
    with pytest.raises(ProtocolError, match="code holds 3, 1 bit go to 1"):
        Coder(SHAPE).encode(code + 2)
    with pytest.raises(ProtocolError, match="previous code of shape"):
        Coder(SHAPE, 1, tables).encode(code, code[:2])


@pytest.mark.parametrize("codec", [ANS, CONDITIONED])
def test_codec_without_its_tables_is_one_clear_line_on_either_side(codec):
    code = sparse(14, 0.1, 1)[0]
    with pytest.raises(ConfigError, match=r"needs coding tables, .*neucodex calibrate BUNDLE"):
        Coder(SHAPE, 1, None, CODECS[codec].name)
    with pytest.raises(ProtocolError, match="needs coding tables, and this side's") as raised:
        Decoder(SHAPE).decode(codec, b"\x01", code)
    assert raised.value.status == "FAILED_PRECONDITION"
    assert "neucodex calibrate" in raised.value.hint


def test_bad_choices_are_named():
    with pytest.raises(ConfigError, match="unknown codec 'gzip' .choose one of auto, packed, zstd"):
        Coder(SHAPE, codec="gzip")
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="expected a positive number of bit/s"):
            Coder(SHAPE, link_rate_bps=rate)
    graded = Tables(quantised(np.ones((4, 4), np.int64)))
    with pytest.raises(ConfigError, match="is for binary codes"):
        Coder(SHAPE, 2, graded, "ans-conditioned")


def refused(codec: int, payload: bytes, said: str, previous=None, shape=SHAPE, tables=None):
    with pytest.raises(ProtocolError, match=said):
        Decoder(shape, 1, tables).decode(codec, payload, previous)


def test_hostile_payloads_are_refused_by_name():
    tables = tables_of(sparse(15, 0.1, 40).reshape(10, 4, *SHAPE))
    refused(9, b"", "unknown codec 9, this side knows 1 bit-packed, 2 graded, 3 zstd, 4 ans, 5 add")
    for codec in CODECS:
        refused(codec, bytes(33), "code of 33 bytes, shape .* at 1 bit takes 32 at most")
    refused(ANS, b"\x01\x00", "end in a zero", tables=tables)
    refused(ANS, b"\xff" * 32, "hold more than the code", tables=tables)
    refused(CONDITIONED, b"\x01", "first timestep", tables=tables)
    refused(ADDRESSES, b"", "not written as it should be")
    refused(ADDRESSES, b"\x80\x80\x80\x80\x01", "not written as it should be")
    refused(ADDRESSES, b"\x81\x00", "not written as it should be")
    refused(ADDRESSES, b"\xff\x7f", "16383 addresses in a code of 256 values")
    refused(ADDRESSES, b"\x01", "1 addresses in 1 bytes, shape .* takes 3")
    refused(ADDRESSES, b"\x01\x00\x00", "are not 1 and nothing else")
    refused(ADDRESSES, b"\x02" + bytes([0b11000000, 0, 0b00000000]), "do not rise")


def test_addresses_hold_nothing_but_themselves():
    shape = (1, 4, 4)
    # One value: 2 bits of unary, 4 low bits, and for graded codes the value.
    assert np.flatnonzero(Decoder(shape).decode(ADDRESSES, b"\x01\x8c")).tolist() == [3]
    refused(ADDRESSES, b"\x01\x8d", "are not 1 and nothing else", shape=shape)
    assert Decoder(shape, 2).decode(ADDRESSES, b"\x01\x8e").reshape(-1)[3] == 2
    with pytest.raises(ProtocolError, match="an address of a value that is zero"):
        Decoder(shape, 2).decode(ADDRESSES, b"\x01\x8c")


def test_frames_of_zstandard_that_ask_for_memory_are_refused():
    shape = (16, 32, 32)
    huge = bytes([0, 0b11111_000]) + b"\x01\x00\x00"
    refused(ZSTD, huge, "a window of [0-9]+ bytes, the limit is", shape=shape)
    says_its_length = bytes([0b11100000]) + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00"
    refused(ZSTD, says_its_length, "with fields of its own", shape=shape)
    refused(ZSTD, b"", "with fields of its own", shape=shape)
    refused(
        ZSTD, bytes([0, 0]) + b"\x01\x00\x00", "no frame of Zst|a frame of 0 bytes", shape=shape
    )
    # A block of one byte repeated 2^17 times is more than the code.
    block = (1 | 1 << 1 | (1 << 17) << 3).to_bytes(3, "little") + b"\x00"
    refused(ZSTD, bytes([0, 0]) + block, "no frame of Zstandard, or a damaged one", shape=shape)
    codec, payload = Coder(shape, codec="zstd").encode(np.zeros(shape, np.uint8))
    assert codec == ZSTD
    refused(ZSTD, payload + b"\x00", "no frame of Zstandard", shape=shape)


@pytest.mark.parametrize(
    ("counts", "given", "said"),
    [
        ([[65535, 2]], None, "does not sum to 65536"),
        ([[65535, 1], [0, 0]], None, "does not sum to 65536 with every value possible"),
        ([[1, 2, 3]], None, r"of shape \(1, 3\), expected \(C, 2\^bits\)"),
        ([[65535, 1]], [[[1, 65535]]], "conditional coding tables of shape"),
    ],
)
def test_tables_that_are_none_are_refused(counts, given, said):
    arrays = [None if rows is None else np.array(rows, np.uint16) for rows in (counts, given)]
    with pytest.raises(ConfigError, match=said):
        Tables(*arrays)
    with pytest.raises(ConfigError, match="is int64, expected uint16"):
        Tables(np.array([[65535, 1]]))
    with pytest.raises(ConfigError, match="a dictionary of 65537 bytes, the limit is 65536"):
        Tables(np.array([[65535, 1]], np.uint16), dictionary=bytes(65537))


def test_quantised_counts_by_hand():
    # 7 and 3 tenths of 65534, rounded down, and 1; the one that is left goes to the larger.
    assert quantised(np.array([[3, 1]])).tolist() == [[45875, 19661]]
    assert quantised(np.array([[0, 0]])).tolist() == [[32768, 32768]]
    assert quantised(np.array([[10**9, 0]])).tolist() == [[65535, 1]]


@given(st.lists(st.lists(st.integers(0, 1 << 40), min_size=4, max_size=4), min_size=1, max_size=5))
def test_quantised_rows_sum_to_the_total_with_every_value_possible(rows):
    found = quantised(np.array(rows, np.int64))
    assert found.dtype == np.uint16
    assert (found.sum(axis=1, dtype=np.int64) == 65536).all()
    assert found.all()
    for row, counts in zip(found.tolist(), rows):
        total = sum(counts) + 2
        assert all(abs(a / 65536 - (n + 0.5) / total) < 2e-4 for a, n in zip(row, counts))


def test_tables_travel_between_processes_once_they_were_used():
    tables = tables_of(words(20, 240).reshape(60, 4, 8, 8, 32))
    sent = Coder((8, 8, 32), 1, tables, "ans").encode(words(21, 1)[0])
    assert tables.zstd is tables.zstd
    there = pickle.loads(pickle.dumps(tables))
    assert there.sha256 == tables.sha256
    assert (Decoder((8, 8, 32), 1, there).decode(*sent) == words(21, 1)[0]).all()


def test_tables_differ_by_what_is_in_them():
    codes = words(20, 240).reshape(60, 4, 8, 8, 32)
    tables = tables_of(codes)
    assert tables_of(codes).sha256 == tables.sha256
    others = [
        Tables(tables.counts, tables.given),
        Tables(tables.counts, None, tables.dictionary),
        Tables(np.flip(tables.counts, 1).copy(), tables.given, tables.dictionary),
    ]
    assert len({tables.sha256, *(other.sha256 for other in others)}) == 4


def test_no_dictionary_is_trained_where_none_is_wanted() -> None:
    codes = words(1, 64)
    with_one, without = (
        TableTraining(codes.shape[1:]),
        TableTraining(codes.shape[1:], dictionary=False),
    )
    for training in (with_one, without):
        training.add(codes)
    assert with_one.tables().dictionary
    assert without.tables().dictionary == b""
    assert (with_one.tables().counts == without.tables().counts).all()
