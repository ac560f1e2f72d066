"""One message on the wire: a fixed header of 29 bytes, then a payload.

    magic 2, version 1, kind 1, codec 1, session 8, epoch 2, sample 4, timestep 2, length 4, CRC32 4

All fields are unsigned and in network byte order. The CRC32 covers the header before it and the
payload; it is checked before anything else is believed, so magic, length and CRC32 stay where they
are in every version. What a payload holds is said by `handshake` (JSON), `codecs` (codes) and below.
`decode` is written for hostile input: whatever the bytes, it gives a `Message` or a `ProtocolError`.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from neucodex_lava.errors import ProtocolError

MAGIC: Final = b"NX"
WIRE_VERSION: Final = 2
MAX_TIMESTEPS: Final = 0xFFFF
MAX_CLASSES: Final = 0xFFFF
MAX_JSON_BYTES: Final = 4096
DAMAGED: Final = "DATA_LOSS"
"""Status of a message that was damaged on its way; whoever sent it may try again."""

_HEAD: Final = struct.Struct("!2sBBBQHIHI")
_CRC: Final = struct.Struct("!I")
HEADER_BYTES: Final = _HEAD.size + _CRC.size

_GRPC_PREFIX_BYTES: Final = 5  # compressed flag and length, gRPC over HTTP/2
_FRAME_HEADER_BYTES: Final = 9  # RFC 9113, section 4.1
_FRAME_PAYLOAD_BYTES: Final = 16_384  # RFC 9113, section 4.2: SETTINGS_MAX_FRAME_SIZE at its start

_MICROSECONDS: Final = struct.Struct("!I")
_MILLISECONDS: Final = struct.Struct("!I")
_EXACT_IN_FLOAT32: Final = 1 << 24


class Kind(IntEnum):
    """What a message is; the comment says who sends it."""

    OPEN = 1  # edge: which bundle, code shape, number of timesteps
    OPENED = 2  # cloud: classes, gain
    CODE = 3  # edge: the coded spikes of one timestep
    LOGITS = 4  # cloud: the running sums after that timestep
    END_SAMPLE = 5  # edge: it has stopped, the tail's state may go
    ERROR = 6  # cloud: refused; the last message of the stream
    CLOSE = 7  # edge: the session is over
    DRAIN = 8  # cloud: finish the running sample, then open a session elsewhere, or later
    BUSY = 9  # cloud: this timestep was not taken; send it again after a while


_KINDS: Final = {int(kind): kind for kind in Kind}


@dataclass(frozen=True)
class Message:
    """A header's fields and its payload.

    Args:
        kind: what it is.
        session: the session's number, chosen at random by the edge, 0..2^64-1.
        epoch: how often the session has been taken up again, 0..65535.
        sample: number of the sample within the session, from 0.
        timestep: t from 1; 0 where the kind has none.
        codec: the codec's id for CODE, otherwise 0.
        payload: the bytes after the header.
    """

    kind: Kind
    session: int
    epoch: int = 0
    sample: int = 0
    timestep: int = 0
    codec: int = 0
    payload: bytes = b""


def encode(message: Message) -> bytes:
    """Return the message's bytes; `ProtocolError` when a field is out of its range."""
    try:
        head = _HEAD.pack(
            MAGIC,
            WIRE_VERSION,
            message.kind,
            message.codec,
            message.session,
            message.epoch,
            message.sample,
            message.timestep,
            len(message.payload),
        )
    except struct.error as error:
        raise ProtocolError(f"a header field is out of range: {error}") from error
    crc = zlib.crc32(message.payload, zlib.crc32(head))
    return b"".join((head, _CRC.pack(crc), message.payload))


def decode(raw: bytes, max_payload_bytes: int) -> Message:
    """Read one message.

    Args:
        raw: exactly one message's bytes, from anyone.
        max_payload_bytes: the longest payload the reader is ready to take.

    Raises:
        ProtocolError: damaged (too short, foreign, of another length than it says, or its CRC32 does
            not match: status DATA_LOSS), of another version, too long, or of an unknown kind.
    """
    if len(raw) < HEADER_BYTES:
        raise ProtocolError(
            f"message of {len(raw)} bytes, a header alone has {HEADER_BYTES}", status=DAMAGED
        )
    magic, version, kind, codec, session, epoch, sample, timestep, length = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise ProtocolError(
            f"message begins with {magic!r}, not {MAGIC!r}: not a neucodex message", status=DAMAGED
        )
    if length != len(raw) - HEADER_BYTES:
        found = len(raw) - HEADER_BYTES
        raise ProtocolError(
            f"message says it carries {length} bytes but carries {found}", status=DAMAGED
        )
    (crc,) = _CRC.unpack_from(raw, _HEAD.size)
    payload = raw[HEADER_BYTES:]
    if crc != zlib.crc32(payload, zlib.crc32(raw[: _HEAD.size])):
        raise ProtocolError("message is damaged: its CRC32 does not match", status=DAMAGED)
    if version != WIRE_VERSION:
        raise ProtocolError(
            f"message of wire version {version}, this side speaks {WIRE_VERSION}",
            "install the same neucodex-lava on both sides",
            status="UNIMPLEMENTED",
        )
    if length > max_payload_bytes:
        raise ProtocolError(
            f"payload of {length} bytes, the limit is {max_payload_bytes}",
            status="INVALID_ARGUMENT",
        )
    known = _KINDS.get(kind)
    if known is None:
        raise ProtocolError(f"unknown message kind {kind}", status="INVALID_ARGUMENT")
    return Message(known, session, epoch, sample, timestep, codec, payload)


def wire_bytes(message_bytes: int) -> int:
    """Bytes that one message occupies on an HTTP/2 connection, *modelled* from its size.

    The message with our header, gRPC's 5 bytes and 9 bytes for each DATA frame of up to 16,384
    bytes. Not in it: TCP/IP headers, window updates, pings, the stream's own headers. For codes of
    4 bits, TCP carried 1.37 times the modelled bytes (779 for 567 a sample of 4 timesteps, counted
    by a relay between client and server), for 8 KiB codes 1.007 times.

    Args:
        message_bytes: length of the encoded message.
    """
    framed = message_bytes + _GRPC_PREFIX_BYTES
    frames = -(-framed // _FRAME_PAYLOAD_BYTES)
    return framed + frames * _FRAME_HEADER_BYTES


def pack_busy(retry_after_s: float) -> bytes:
    """Payload of BUSY: milliseconds to wait before sending the timestep again, uint32, rounded up."""
    return _MILLISECONDS.pack(min(math.ceil(max(retry_after_s, 0.0) * 1e3), 0xFFFFFFFF))


def unpack_busy(payload: bytes) -> float:
    """Seconds that a BUSY asks to wait; `ProtocolError` on another length."""
    if len(payload) != _MILLISECONDS.size:
        raise ProtocolError(f"BUSY of {len(payload)} bytes, it has {_MILLISECONDS.size}")
    return float(_MILLISECONDS.unpack(payload)[0]) * 1e-3


def pack_logits(sums: npt.NDArray[np.int64], cloud_s: float) -> bytes:
    """Payload of LOGITS: the server's compute time in microseconds (uint32), then S_t as float32.

    Args:
        sums: running sums S_t, shape (classes,).
        cloud_s: what the server spent on this timestep, in seconds.

    Raises:
        ProtocolError: not one row of sums, or one beyond 2^24, which float32 would round.
    """
    if sums.ndim != 1 or not 1 <= sums.size <= MAX_CLASSES:
        raise ProtocolError(f"running sums of shape {sums.shape}, expected (classes,)")
    values: list[int] = sums.tolist()
    if max(values) > _EXACT_IN_FLOAT32 or min(values) < -_EXACT_IN_FLOAT32:
        raise ProtocolError("a running sum is beyond 2^24, float32 does not hold it exactly")
    microseconds = min(round(cloud_s * 1e6), 0xFFFFFFFF)
    return struct.pack(f"!I{len(values)}f", microseconds, *values)


def unpack_logits(payload: bytes, classes: int) -> tuple[npt.NDArray[np.int64], float]:
    """Read a LOGITS payload.

    Args:
        payload: from anyone.
        classes: how many sums it must hold.

    Returns:
        S_t of shape (classes,), int64, and the server's compute time in seconds.

    Raises:
        ProtocolError: another length, or a value that is no whole number within 2^24.
    """
    expected = _MICROSECONDS.size + 4 * classes
    if len(payload) != expected:
        raise ProtocolError(f"logits of {len(payload)} bytes, {classes} classes take {expected}")
    (microseconds,) = _MICROSECONDS.unpack_from(payload)
    # Without numpy, which takes 20 us for ten classes: NaN and infinity are no whole numbers here.
    values = struct.unpack_from(f"!{classes}f", payload, _MICROSECONDS.size)
    if not all(map(float.is_integer, values)):
        raise ProtocolError("a running sum is not a whole number")
    if max(values) > _EXACT_IN_FLOAT32 or min(values) < -_EXACT_IN_FLOAT32:
        raise ProtocolError("a running sum is not a number within 2^24")
    sums = np.array(values, np.int64)
    return sums, microseconds * 1e-6
