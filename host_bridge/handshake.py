"""The JSON payloads: OPEN, OPENED, DRAIN, ERROR. Small, limited in length, checked field by field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from host_bridge.codecs import Shape, check_shape
from host_bridge.messages import MAX_CLASSES, MAX_JSON_BYTES, MAX_TIMESTEPS
from neucodex_lava.errors import BridgeError, NeucodexError, ProtocolError

MAX_WAIT_MS: Final = 3_600_000
"""The longest wait that either side may ask of the other: an hour."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_STATUS: Final = re.compile(r"[A-Z_]{2,30}")
_MAX_VERSIONS: Final = 16
_MAX_TEXT: Final = 500
_SHORT_SHA: Final = 12


@dataclass(frozen=True)
class Open:
    """The edge's first word.

    Args:
        model: what both sides must run: the bundle's sha256 or a deployment id, 64 hex digits.
        code_shape: (C, H, W) of its codes.
        code_bits: bits a value, 1..8.
        t_max: most timesteps it will send for a sample.
        versions: what it runs (name to version), for the server's log.
        coding: sha256 of the coding tables it may use; None where it needs none.
        deadline_ms: a timestep that waited longer for its turn is not run but answered by BUSY; 0 for
            none.
    """

    model: str
    code_shape: Shape
    code_bits: int
    t_max: int
    versions: Mapping[str, str]
    coding: str | None = None
    deadline_ms: int = 0

    def to_bytes(self) -> bytes:
        """The OPEN payload."""
        return _dump(
            {
                "model": self.model,
                "code_shape": list(self.code_shape),
                "code_bits": self.code_bits,
                "t_max": self.t_max,
                "versions": dict(self.versions),
                "coding": self.coding,
                "deadline_ms": self.deadline_ms,
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Open:
        """Read an OPEN payload; `ProtocolError` names the first field that is wrong."""
        fields = _load(payload, "OPEN", set(cls.__dataclass_fields__))
        sizes = fields["code_shape"]
        if not isinstance(sizes, list) or len(cast("list[object]", sizes)) != 3:
            _wrong("OPEN", "code_shape", sizes, "three sizes")
        channels, height, width = (
            _integer("OPEN", "code_shape", size, 0xFFFF) for size in cast("list[object]", sizes)
        )
        shape = (channels, height, width)
        bits = _integer("OPEN", "code_bits", fields["code_bits"], 8)
        check_shape(shape, bits)
        coding = fields["coding"]
        return cls(
            model=_sha256("OPEN", "model", fields["model"]),
            code_shape=shape,
            code_bits=bits,
            t_max=_integer("OPEN", "t_max", fields["t_max"], MAX_TIMESTEPS),
            versions=_versions(fields["versions"]),
            coding=None if coding is None else _sha256("OPEN", "coding", coding),
            deadline_ms=_integer(
                "OPEN", "deadline_ms", fields["deadline_ms"], MAX_WAIT_MS, least=0
            ),
        )


@dataclass(frozen=True)
class Opened:
    """The cloud's answer to OPEN.

    Args:
        model: the same, of what it serves.
        classes: length of the running sums.
        t_max: most timesteps its tail takes.
        gain: the readout's gain.
        max_ahead: how many codes of a session may be unanswered at once.
    """

    model: str
    classes: int
    t_max: int
    gain: float
    max_ahead: int = 1

    def to_bytes(self) -> bytes:
        """The OPENED payload."""
        return _dump(
            {
                "model": self.model,
                "classes": self.classes,
                "t_max": self.t_max,
                "gain": self.gain,
                "max_ahead": self.max_ahead,
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Opened:
        """Read an OPENED payload; `ProtocolError` names the first field that is wrong."""
        fields = _load(payload, "OPENED", set(cls.__dataclass_fields__))
        gain = fields["gain"]
        if isinstance(gain, bool) or not isinstance(gain, (int, float)):
            _wrong("OPENED", "gain", gain, "a number")
        # Compared before it becomes a float: a whole number in JSON may be too long for one.
        if not 0 < gain <= sys.float_info.max:
            _wrong("OPENED", "gain", gain, "a positive number")
        return cls(
            model=_sha256("OPENED", "model", fields["model"]),
            classes=_integer("OPENED", "classes", fields["classes"], MAX_CLASSES),
            t_max=_integer("OPENED", "t_max", fields["t_max"], MAX_TIMESTEPS),
            gain=float(gain),
            max_ahead=_integer("OPENED", "max_ahead", fields["max_ahead"], MAX_TIMESTEPS),
        )


@dataclass(frozen=True)
class Drain:
    """The cloud wants to go: finish the running sample, then open a session elsewhere, or later.

    Args:
        message: one line.
        retry_after_ms: when the same server may be there again, in milliseconds.
    """

    message: str
    retry_after_ms: int

    def to_bytes(self) -> bytes:
        """The DRAIN payload."""
        message = _one_line(self.message)
        return _dump({"message": message, "retry_after_ms": self.retry_after_ms})

    @classmethod
    def from_bytes(cls, payload: bytes) -> Drain:
        """Read a DRAIN payload; `ProtocolError` names the first field that is wrong."""
        fields = _load(payload, "DRAIN", set(cls.__dataclass_fields__))
        message = fields["message"]
        if not isinstance(message, str):
            _wrong("DRAIN", "message", message, "a text")
        wait = _integer("DRAIN", "retry_after_ms", fields["retry_after_ms"], MAX_WAIT_MS, least=0)
        return cls(_one_line(message), wait)


@dataclass(frozen=True)
class Refusal:
    """Why the cloud ends the session.

    Args:
        type: the error's class name.
        message: one line.
        hint: one line, or empty.
        status: name of the gRPC status that the call ends with.
    """

    type: str
    message: str
    hint: str
    status: str = "INVALID_ARGUMENT"

    @classmethod
    def of(cls, error: NeucodexError) -> Refusal:
        """What an edge is told of an error; without a status it is the edge's own mistake."""
        status = error.status if isinstance(error, BridgeError) else ""
        given = [status] if status else []
        return cls(type(error).__name__, error.message, error.hint, *given)

    def to_bytes(self) -> bytes:
        """The ERROR payload; long or many-lined texts are made to fit."""
        texts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _dump({name: _one_line(text) for name, text in texts.items()})

    @classmethod
    def from_bytes(cls, payload: bytes) -> Refusal:
        """Read an ERROR payload; what a stranger wrote is made printable before anyone sees it."""
        texts: dict[str, str] = {}
        for name, value in _load(payload, "ERROR", set(cls.__dataclass_fields__)).items():
            if not isinstance(value, str):
                _wrong("ERROR", name, value, "a text")
            texts[name] = _one_line(value)
        if not _STATUS.fullmatch(texts["status"]):
            _wrong("ERROR", "status", texts["status"], "a gRPC status")
        return cls(**texts)

    def error(self) -> BridgeError:
        """The error to raise at the edge."""
        kind = ProtocolError if self.type == ProtocolError.__name__ else BridgeError
        return kind(self.message, self.hint, self.status)


def short(model: str) -> str:
    """The first digits of a sha256, enough to tell bundles apart in a message."""
    return model[:_SHORT_SHA]


def _dump(fields: dict[str, object]) -> bytes:
    payload = json.dumps(fields, separators=(",", ":")).encode()
    if len(payload) > MAX_JSON_BYTES:
        raise ProtocolError(f"handshake of {len(payload)} bytes, the limit is {MAX_JSON_BYTES}")
    return payload


def _load(payload: bytes, kind: str, names: set[str]) -> dict[str, object]:
    if len(payload) > MAX_JSON_BYTES:
        raise ProtocolError(f"{kind} of {len(payload)} bytes, the limit is {MAX_JSON_BYTES}")
    try:
        value: Any = json.loads(
            payload.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{kind} is not valid JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"{kind} is not a JSON object")
    fields = cast("dict[str, object]", value)
    if missing := sorted(names - fields.keys()):
        raise ProtocolError(f"{kind} lacks the field {missing[0]}")
    if unknown := sorted(fields.keys() - names):
        raise ProtocolError(f"{kind} has an unknown field {ascii(unknown[0])[:40]}")
    return fields


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field occurs twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _wrong(kind: str, field: str, value: object, expected: str) -> NoReturn:
    # Containers are not shown: a stranger may have nested them as deep as the parser lets him.
    shown = type(value).__name__ if isinstance(value, (list, dict)) else ascii(value)[:40]
    raise ProtocolError(f"{kind}: {field} is {shown}, expected {expected}")


def _integer(kind: str, field: str, value: object, most: int, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        _wrong(kind, field, value, f"a whole number {least}..{most}")
    return value


def _sha256(kind: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        _wrong(kind, field, value, "a sha256 of 64 hex digits")
    return value


def _versions(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(cast("dict[str, object]", value)) > _MAX_VERSIONS:
        _wrong("OPEN", "versions", value, f"at most {_MAX_VERSIONS} names and versions")
    versions: dict[str, str] = {}
    for name, version in cast("dict[str, object]", value).items():
        if not isinstance(version, str):
            _wrong("OPEN", "versions", version, "texts")
        versions[_one_line(name)] = _one_line(version)
    return versions


def _one_line(text: str) -> str:
    # ASCII only, so that its JSON cannot outgrow the limit and nothing can steer a terminal.
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:_MAX_TEXT])
    return printable.strip()
