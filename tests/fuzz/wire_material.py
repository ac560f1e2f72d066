"""Valid messages of every kind and codec, and ways to damage them."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from host_bridge.codecs import CHOICES, Coder, Tables, TableTraining
from host_bridge.handshake import Drain, Open, Opened, Refusal
from host_bridge.messages import HEADER_BYTES, Kind, Message, encode, pack_busy, pack_logits

BITS = {(1, 1, 1): 1, (2, 3, 3): 1, (8, 4, 4): 1, (4, 8, 8): 3, (64, 32, 32): 1}
"""Bits a value by shape."""
SHAPES = tuple(BITS)
RATES = np.array([0.02, 0.1, 0.4]).reshape(3, 1, 1, 1, 1)
"""Of each shape's samples: zstd is sent where it helps, plain packing where nothing does."""
MODEL = hashlib.sha256(b"fuzz").hexdigest()
SESSION = 0x0123456789ABCDEF
T_MAX = 5

_NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x10000, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)
_FIELDS = {"kind": (3, 1), "codec": (4, 1), "session": (5, 8), "epoch": (13, 2)} | {
    "sample": (15, 4),
    "timestep": (19, 2),
}
_LENGTH, _CRC = (21, 4), (25, 4)


class FuzzTail:
    """A tail whose sums depend on every code since the sample began."""

    model, classes, t_max, gain = MODEL, 3, T_MAX, 1.5

    def __init__(self, shape: tuple[int, int, int], tables: Tables | None) -> None:
        self.code_shape, self.code_bits, self.coding = shape, BITS[shape], tables

    def new_state(self) -> Any:
        return np.zeros(3, np.int64)

    def step(self, state: Any, code: Any) -> tuple[Any, Any]:
        ones = int(code.sum())
        sums = state // 2 + np.array([ones, -ones, 1])
        return sums, sums


@dataclass
class Material:
    """What the fuzzer starts from, the same every time.

    Attributes:
        tables: coding tables by shape.
        codes: per shape the codes of a few samples, (N, T, C, H, W).
        payloads: per shape (codec id, payload, the code before or None).
        handshakes: payloads in JSON by the class that reads them.
    """

    tables: dict[tuple[int, int, int], Tables] = field(default_factory=dict)
    codes: dict[tuple[int, int, int], Any] = field(default_factory=dict)
    payloads: dict[tuple[int, int, int], list[tuple[int, bytes, Any]]] = field(default_factory=dict)
    handshakes: dict[type, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(7)
        for shape in SHAPES:
            bits, fired = BITS[shape], rng.random((3, T_MAX, *shape)) < RATES
            values = rng.integers(1, 1 << bits, fired.shape)
            codes = (fired * values).astype(np.uint8)
            training = TableTraining(shape, bits)
            for sample in codes:
                training.add(sample)
            tables = training.tables()
            self.tables[shape], self.codes[shape] = tables, codes
            found: list[tuple[int, bytes, Any]] = []
            for choice in choices(tables):
                coder = Coder(shape, bits, tables, choice)
                for sample in codes:
                    before = None
                    for code in sample:
                        found.append((*coder.encode(code, before), before))
                        before = code
            self.payloads[shape] = found
        self.handshakes = {
            Open: [
                open_payload(shape, coding, deadline_ms)
                for shape in SHAPES
                for coding in (None, self.tables[shape].sha256)
                for deadline_ms in (0, 50)
            ],
            Opened: [Opened(MODEL, 10, 4, 2.5, 3).to_bytes()],
            Drain: [Drain("restarting", 500).to_bytes()],
            Refusal: [Refusal("ProtocolError", "no", "try", "OUT_OF_RANGE").to_bytes()],
        }

    def conversation(self, rng: random.Random, shape: tuple[int, int, int]) -> list[bytes]:
        """A session of valid messages, as an edge sends them."""
        tables = self.tables[shape]
        choice = rng.choice(choices(tables))
        coder = Coder(shape, BITS[shape], tables, choice)
        payload = open_payload(shape, tables.sha256 if choice != "packed" else None, 0)
        raws = [encode(Message(Kind.OPEN, SESSION, payload=payload))]
        for number, sample in enumerate(self.codes[shape][: rng.randint(1, 3)]):
            before = None
            for t, code in enumerate(sample[: rng.randint(1, T_MAX)], 1):
                codec, payload = coder.encode(code, before)
                raws.append(encode(Message(Kind.CODE, SESSION, 0, number, t, codec, payload)))
                before = code
            raws.append(encode(Message(Kind.END_SAMPLE, SESSION, 0, number)))
        return [*raws, encode(Message(Kind.CLOSE, SESSION))]

    def any_message(self, rng: random.Random) -> bytes:
        """A valid message of any kind, from either side."""
        sums = np.array([rng.randint(-(2**24), 2**24) for _ in range(10)])
        kind = rng.choice(list(Kind))
        if kind is Kind.CODE:
            shape = rng.choice(SHAPES)
            codec, payload, _ = rng.choice(self.payloads[shape])
            return encode(Message(kind, SESSION, 0, 1, 2, codec, payload))
        payload = {
            Kind.OPEN: rng.choice(self.handshakes[Open]),
            Kind.OPENED: self.handshakes[Opened][0],
            Kind.LOGITS: pack_logits(sums, 1e-3),
            Kind.ERROR: self.handshakes[Refusal][0],
            Kind.DRAIN: self.handshakes[Drain][0],
            Kind.BUSY: pack_busy(0.01),
        }.get(kind, b"")
        return encode(Message(kind, SESSION, payload=payload))


def choices(tables: Tables) -> list[str]:
    """The codecs that such tables allow."""
    return [name for name in CHOICES if name != "ans-conditioned" or tables.given is not None]


def open_payload(shape: tuple[int, int, int], coding: str | None, deadline_ms: int) -> bytes:
    hello = Open(MODEL, shape, BITS[shape], T_MAX, {"python": "3"}, coding, deadline_ms)
    return hello.to_bytes()


def damaged(rng: random.Random, raw: bytes) -> bytes:
    """A message with something wrong in it; in three of four cases its length and CRC are right again,
    so that it gets past the first look.
    """
    out = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        out = _once(rng, out)
    return mended(bytes(out)) if rng.random() < 0.75 else bytes(out)


def mended(raw: bytes) -> bytes:
    """The message with the length and the CRC that fit it."""
    if len(raw) < HEADER_BYTES:
        return raw
    head = raw[: _LENGTH[0]] + struct.pack("!I", len(raw) - HEADER_BYTES)
    payload = raw[HEADER_BYTES:]
    return head + struct.pack("!I", zlib.crc32(payload, zlib.crc32(head))) + payload


def _once(rng: random.Random, out: bytearray) -> bytearray:
    way = rng.randrange(7)
    at = rng.randrange(len(out)) if out else 0
    if way == 0 and out:
        out[at] ^= 1 << rng.randrange(8)
    elif way == 1:
        out[at:at] = rng.randbytes(rng.choice([1, 2, 8, 200]))
    elif way == 2:
        del out[at : at + rng.choice([1, 2, 8, 200])]
    elif way == 3:
        out = out[:at]
    elif way == 4 and len(out) >= HEADER_BYTES:
        place, size = rng.choice([*_FIELDS.values(), _LENGTH, _CRC])
        out[place : place + size] = (rng.choice(_NUMBERS) % 256**size).to_bytes(size, "big")
    elif way == 5:
        out[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x28\xb5\x2f\xfd"])
    else:
        size = rng.choice([1, 4, 64])
        out[at : at + size] = out[:size]
    return out


def damaged_json(rng: random.Random, payload: bytes) -> bytes:
    """A handshake with fields of other types and sizes, or text that is hardly JSON."""
    fields: dict[str, Any] = json.loads(payload)
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(fields) or ["x"])
        way = rng.randrange(4)
        if way == 0:
            fields.pop(name, None)
        elif way == 1:
            fields[rng.choice(["x", "", "mod\u0000el", "\ud800", name.upper()])] = 1
        else:
            fields[name] = _value(rng)
    text = json.dumps(fields)
    way = rng.randrange(8)
    if way == 0:
        text = text.replace(":", rng.choice([": NaN,", ":", ": -Infinity ,", ": 1e999, "]), 1)
    elif way == 1:
        text = text[:-1] + "," + text[1:]
    elif way == 2:
        text = "[" * rng.choice([10, 2000, 3900]) + text
    return text.encode("utf-8", "surrogatepass")[: rng.choice([10, 4096, 5000])]


def _value(rng: random.Random) -> Any:
    nested: Any = []
    for _ in range(rng.choice([1, 50, 300])):
        nested = [nested]
    return rng.choice(
        [
            *(None, True, False, 0, -1, 1.5, 1e308, 10**400, -(10**30), "", "a" * 3000, [], {}),
            *(nested, {"a": nested}, [1, 2], [1, 2, 3], [65535, 65535, 65535], [1, True, 1]),
            *([0.5, 1, 1], "f" * 64, "F" * 64, "\u001b[2J", "\ud800", {"a": 1}, {"b": "c" * 2000}),
            {str(n): "v" for n in range(40)},
        ]
    )
