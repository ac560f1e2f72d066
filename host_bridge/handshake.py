"""The JSON payloads: OPEN, OPENED and ERROR. Small, limited in length, checked field by field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from host_bridge.codecs import Shape, check_shape
from host_bridge.messages import MAX_CLASSES, MAX_JSON_BYTES, MAX_TIMESTEPS
from neucodex_lava.errors import BridgeError, ProtocolError

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
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
    """

    model: str
    code_shape: Shape
    code_bits: int
    t_max: int
    versions: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The OPEN payload."""
        return _dump(
            {
                "model": self.model,
                "code_shape": list(self.code_shape),
                "code_bits": self.code_bits,
                "t_max": self.t_max,
                "versions": dict(self.versions),
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Open:
        """Read an OPEN payload; `ProtocolError` names the first field that is wrong."""
        fields = _load(payload, "OPEN", {"model", "code_shape", "code_bits", "t_max", "versions"})
        sizes = fields["code_shape"]
        if not isinstance(sizes, list) or len(cast("list[object]", sizes)) != 3:
            _wrong("OPEN", "code_shape", sizes, "three sizes")
        channels, height, width = (
            _integer("OPEN", "code_shape", size, 0xFFFF) for size in cast("list[object]", sizes)
        )
        shape = (channels, height, width)
        bits = _integer("OPEN", "code_bits", fields["code_bits"], 8)
        check_shape(shape, bits)
        return cls(
            model=_sha256("OPEN", fields["model"]),
            code_shape=shape,
            code_bits=bits,
            t_max=_integer("OPEN", "t_max", fields["t_max"], MAX_TIMESTEPS),
            versions=_versions(fields["versions"]),
        )


@dataclass(frozen=True)
class Opened:
    """The cloud's answer to OPEN.

    Args:
        model: the same, of what it serves.
        classes: length of the running sums.
        t_max: most timesteps its tail takes.
        gain: the readout's gain.
    """

    model: str
    classes: int
    t_max: int
    gain: float

    def to_bytes(self) -> bytes:
        """The OPENED payload."""
        return _dump(
            {
                "model": self.model,
                "classes": self.classes,
                "t_max": self.t_max,
                "gain": self.gain,
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Opened:
        """Read an OPENED payload; `ProtocolError` names the first field that is wrong."""
        fields = _load(payload, "OPENED", {"model", "classes", "t_max", "gain"})
        gain = fields["gain"]
        if isinstance(gain, bool) or not isinstance(gain, (int, float)):
            _wrong("OPENED", "gain", gain, "a number")
        # Compared before it becomes a float: a whole number in JSON may be too long for one.
        if not 0 < gain <= sys.float_info.max:
            _wrong("OPENED", "gain", gain, "a positive number")
        return cls(
            model=_sha256("OPENED", fields["model"]),
            classes=_integer("OPENED", "classes", fields["classes"], MAX_CLASSES),
            t_max=_integer("OPENED", "t_max", fields["t_max"], MAX_TIMESTEPS),
            gain=float(gain),
        )


@dataclass(frozen=True)
class Refusal:
    """Why the cloud ends the session.

    Args:
        type: the error's class name.
        message: one line.
        hint: one line, or empty.
    """

    type: str
    message: str
    hint: str

    def to_bytes(self) -> bytes:
        """The ERROR payload; long or many-lined texts are made to fit."""
        return _dump(
            {
                "type": _one_line(self.type),
                "message": _one_line(self.message),
                "hint": _one_line(self.hint),
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Refusal:
        """Read an ERROR payload; what a stranger wrote is made printable before anyone sees it."""
        fields = _load(payload, "ERROR", {"type", "message", "hint"})
        texts: dict[str, str] = {}
        for name, value in fields.items():
            if not isinstance(value, str):
                _wrong("ERROR", name, value, "a text")
            texts[name] = _one_line(value)
        return cls(texts["type"], texts["message"], texts["hint"])

    def error(self) -> BridgeError:
        """The error to raise at the edge."""
        kind = ProtocolError if self.type == ProtocolError.__name__ else BridgeError
        return kind(self.message, self.hint)


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


def _integer(kind: str, field: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        _wrong(kind, field, value, f"a whole number 1..{most}")
    return value


def _sha256(kind: str, value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        _wrong(kind, "model", value, "a sha256 of 64 hex digits")
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
