"""Some thousands of the wire fuzzer's messages (`make fuzz` runs 100,000), and hypothesis's ideas."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from host_bridge.codecs import CODECS, Decoder
from host_bridge.handshake import Drain, Open, Opened, Refusal
from host_bridge.messages import decode, encode
from neucodex_lava.errors import NeucodexError

CAMPAIGN = Path(__file__).with_name("wire.py")
MESSAGES = 4000


@pytest.mark.timeout(300)
def test_damaged_messages_end_in_a_message_or_in_one_clear_line() -> None:
    command = [sys.executable, CAMPAIGN, "--json", "--messages", str(MESSAGES), "--seed", "11"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    report = json.loads(ended.stdout)
    assert report["bad"] == []
    assert report["messages"] >= MESSAGES
    counts = report["outcomes"]
    for target in ("message", "handshake", "codec", "logits"):
        assert counts[f"{target} refused"] > 100, target
        # Some damage leaves a valid message: where none is read, the fuzzer does not reach far.
        assert target == "logits" or counts[f"{target} read"] > 10, target
    assert counts["session closed"] > 5
    assert sum(n for name, n in counts.items() if name.startswith("session refused")) > 50


def test_the_fuzzer_starts_from_every_codec() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import random, wire_material as w
from host_bridge.messages import decode
m = w.Material()
print({found[0] for of_shape in m.payloads.values() for found in of_shape})
talks = [m.conversation(random.Random(n), w.SHAPES[n % 4]) for n in range(100)]
print({decode(raw, 1 << 20).codec for talk in talks for raw in talk} - {0})
"""
    command = [sys.executable, "-c", code, str(CAMPAIGN.parent)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    payloads, talks = map(ast.literal_eval, ended.stdout.splitlines())
    assert payloads == talks == set(CODECS)


FAULTY = """
import sys
sys.path.insert(0, sys.argv[1])
import wire

def decode(self, codec_id, payload, previous=None):
    {fault}

wire.Decoder.decode = decode
print([bad["error"] for bad in wire.run(200, 1)["bad"]])
"""


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("{}['x']", "KeyError"),
        ("raise wire.ProtocolError('two\\nlines')", "AssertionError"),
        ("return wire.np.zeros((1, 1), wire.np.uint8)", "AssertionError"),
    ],
)
def test_the_wire_fuzzer_finds_what_must_not_be(fault: str, says: str) -> None:
    code = FAULTY.replace("{fault}", fault)
    command = [sys.executable, "-c", code, str(CAMPAIGN.parent)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert says in ended.stdout


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"NX\x02")
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    try:
        message = decode(raw, 1000)
    except NeucodexError:
        return
    assert encode(message) == raw


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([Open, Opened, Drain, Refusal]), st.binary(max_size=300))
def test_any_bytes_are_a_handshake_or_refused(kind: type, payload: bytes) -> None:
    try:
        kind.from_bytes(payload)  # pyright: ignore
    except NeucodexError as error:
        assert str(error).isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([Open, Opened, Drain, Refusal]), st.data())
def test_any_json_in_the_right_fields_is_a_handshake_or_refused(kind: type, data) -> None:
    names = list(kind.__dataclass_fields__)  # pyright: ignore
    fields = {name: data.draw(JSON, label=name) for name in names}
    try:
        found = kind.from_bytes(json.dumps(fields).encode())  # pyright: ignore
    except NeucodexError as error:
        assert "\n" not in str(error)
        return
    assert kind.from_bytes(found.to_bytes()) == found  # pyright: ignore


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*CODECS, 0, 99]), st.binary(max_size=40))
def test_any_bytes_are_a_code_or_refused(codec: int, payload: bytes) -> None:
    try:
        code = Decoder((2, 3, 5)).decode(codec, payload)
    except NeucodexError:
        return
    assert code.shape == (2, 3, 5)
    assert code.max() <= 1
