"""OPEN, OPENED, DRAIN and ERROR payloads: round trip, and one clear line for every wrong field."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_bridge.handshake import Drain, Open, Opened, Refusal
from neucodex_lava.errors import BridgeError, ConfigError, ProtocolError

SHA = "0123456789abcdef" * 4
GOOD_OPEN = {
    "model": SHA,
    "code_shape": [1, 2, 2],
    "code_bits": 1,
    "t_max": 4,
    "versions": {"python": "3.10"},
    "coding": None,
    "deadline_ms": 0,
}
GOOD_OPENED = {"model": SHA, "classes": 10, "t_max": 4, "gain": 2.5, "max_ahead": 2}
GOOD_DRAIN = {"message": "the server is being restarted", "retry_after_ms": 2000}

sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    sha256s,
    st.tuples(*[st.integers(1, 200)] * 3),
    st.integers(1, 8),
    st.integers(1, 65535),
    st.none() | sha256s,
    st.integers(0, 3_600_000),
)
def test_open_survives_the_round_trip(model, shape, bits, t_max, coding, deadline_ms):
    opened = Open(model, shape, bits, t_max, {"numpy": "1.26.4"}, coding, deadline_ms)
    assert Open.from_bytes(opened.to_bytes()) == opened


@given(
    sha256s,
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    st.integers(1, 65535),
)
def test_opened_survives_the_round_trip(model, classes, t_max, gain, max_ahead):
    opened = Opened(model, classes, t_max, gain, max_ahead)
    assert Opened.from_bytes(opened.to_bytes()) == opened


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("message", 3, "DRAIN: message is 3, expected a text"),
        ("retry_after_ms", -1, "DRAIN: retry_after_ms is -1, expected a whole number 0..3600000"),
        ("retry_after_ms", 3_600_001, "DRAIN: retry_after_ms is 3600001"),
    ],
)
def test_wrong_drain_field_is_named(field, value, says):
    assert Drain.from_bytes(json.dumps(GOOD_DRAIN).encode()).retry_after_ms == 2000
    with pytest.raises(ProtocolError, match=says):
        Drain.from_bytes(json.dumps({**GOOD_DRAIN, field: value}).encode())


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model", "ABC", "OPEN: model is 'ABC', expected a sha256"),
        ("model", SHA.upper(), "expected a sha256"),
        ("model", None, "OPEN: model is None"),
        ("code_shape", [1, 2], "OPEN: code_shape is list, expected three sizes"),
        ("code_shape", [1, 2, 0], "OPEN: code_shape is 0, expected a whole number 1..65535"),
        ("code_shape", [1, 2, True], "OPEN: code_shape is True"),
        ("code_shape", [65535, 65535, 65535], "max 16777216"),
        ("code_bits", 9, "OPEN: code_bits is 9, expected a whole number 1..8"),
        ("t_max", 0, "OPEN: t_max is 0"),
        ("t_max", 2.0, "OPEN: t_max is 2.0"),
        ("t_max", 1 << 16, "OPEN: t_max is 65536"),
        ("versions", [], "OPEN: versions is list"),
        ("versions", {"python": 3}, "OPEN: versions is 3, expected texts"),
        ("versions", {str(n): "" for n in range(17)}, "at most 16 names"),
        ("coding", "ABC", "OPEN: coding is 'ABC', expected a sha256"),
        ("deadline_ms", -1, "OPEN: deadline_ms is -1, expected a whole number 0..3600000"),
    ],
)
def test_wrong_open_field_is_named(field, value, says):
    payload = json.dumps({**GOOD_OPEN, field: value}).encode()
    with pytest.raises(ProtocolError, match=says):
        Open.from_bytes(payload)


@pytest.mark.parametrize(
    "gain", ["0", "-1", "NaN", "Infinity", "1e999", "true", '"2"', "1" + "0" * 400]
)
def test_gain_must_be_a_positive_number(gain):
    payload = f'{{"model":"{SHA}","classes":10,"t_max":4,"gain":{gain},"max_ahead":1}}'.encode()
    with pytest.raises(ProtocolError, match=r"gain|valid JSON"):
        Opened.from_bytes(payload)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "OPEN is not valid JSON"),
        (b"\xff\xfe", "OPEN is not valid JSON"),
        (b"[" * 4000, "OPEN is not valid JSON"),
        (b"[]", "OPEN is not a JSON object"),
        (b'{"a":1,"a":2}', "OPEN is not valid JSON"),
        (b"{}", "OPEN lacks the field code_bits"),
        (b" " * 4097, "OPEN of 4097 bytes, the limit is 4096"),
        (json.dumps({**GOOD_OPEN, "x\x1b": 1}).encode(), r"unknown field 'x\\x1b'"),
    ],
)
def test_what_is_no_open_is_refused(payload, says):
    with pytest.raises(ProtocolError, match=says):
        Open.from_bytes(payload)


@given(st.sampled_from(sorted(GOOD_OPEN)), anything)
def test_any_value_in_an_open_field_gives_only_protocol_errors(field, value):
    try:
        opened = Open.from_bytes(json.dumps({**GOOD_OPEN, field: value}).encode())
    except ProtocolError:
        return
    assert Open.from_bytes(opened.to_bytes()) == opened


@given(st.sampled_from(sorted(GOOD_OPENED)), anything)
def test_any_value_in_an_opened_field_gives_only_protocol_errors(field, value):
    try:
        opened = Opened.from_bytes(json.dumps({**GOOD_OPENED, field: value}).encode())
    except ProtocolError:
        return
    assert Opened.from_bytes(opened.to_bytes()) == opened


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_only_protocol_errors(payload):
    for kind in (Open, Opened, Drain, Refusal):
        with pytest.raises(ProtocolError):
            kind.from_bytes(payload)


@given(st.text(), st.text(), st.text())
def test_refusal_becomes_short_printable_lines(kind, message, hint):
    refusal = Refusal.from_bytes(Refusal(kind, message, hint).to_bytes())
    for text in (refusal.type, refusal.message, refusal.hint):
        assert len(text) <= 500
        assert all(" " <= c <= "~" for c in text)


def test_refusal_raises_the_error_of_its_type():
    protocol = Refusal("ProtocolError", "a", "b").error()
    other = Refusal("RuntimeError", "a", "b", "INTERNAL").error()
    assert (type(protocol), protocol.message, protocol.hint) == (ProtocolError, "a", "b")
    assert protocol.status == "INVALID_ARGUMENT"
    assert (type(other), other.status) == (BridgeError, "INTERNAL")


def test_refusal_of_an_error_carries_its_status():
    busy = BridgeError("a", "b", "RESOURCE_EXHAUSTED")
    assert Refusal.of(busy) == Refusal("BridgeError", "a", "b", "RESOURCE_EXHAUSTED")
    assert Refusal.of(ConfigError("a")) == Refusal("ConfigError", "a", "", "INVALID_ARGUMENT")
    assert pickle.loads(pickle.dumps(busy)).status == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("status", ["", "internal", "A" * 31])
def test_a_refusal_without_a_grpc_status_is_refused(status):
    with pytest.raises(ProtocolError, match="ERROR: status is"):
        Refusal.from_bytes(Refusal("BridgeError", "a", "b", status).to_bytes())
