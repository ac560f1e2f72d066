"""Plain JSON values to dataclasses, trusting nothing: a saved file may come from anywhere."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
import unicodedata
from typing import Any, TypeVar

from neucodex_lava.errors import FormatError

T = TypeVar("T")

HINT = "pass a results.json written by evaluate, sweep or demo"
MAX_ITEMS = 4096
MAX_TEXT = 4000
# Wider than any count, bit or joule of a run; inside, no plot or SI prefix can overflow.
LARGEST, SMALLEST = 1e18, 1e-30


def fail(where: str, problem: str) -> typing.NoReturn:
    """Raise the one kind of error this module knows."""
    raise FormatError(f"results: {where}: {problem}", HINT)


def build(cls: type[T], raw: Any, where: str) -> T:
    """A dataclass from a JSON object; keys it does not know are left for newer versions.

    Raises:
        FormatError: a missing key, or a value of another type, size or range.
    """
    if not isinstance(raw, dict):
        fail(where, f"expected an object, found {_kind(raw)}")
    values = typing.cast("dict[str, Any]", raw)
    hints = typing.get_type_hints(cls)
    made: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast("Any", cls)):
        path = f"{where}.{field.name}"
        if field.name in values:
            made[field.name] = convert(hints[field.name], values[field.name], path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            fail(path, "is missing")
    return cls(**made)


def convert(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the type a field asks for.

    Raises:
        FormatError: it is something else.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return convert(next(a for a in args if a is not type(None)), value, where)
    if origin in (list, tuple):
        return _sequence(origin, args, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            fail(where, f"expected an object, found {_kind(value)}")
        items = typing.cast("dict[str, Any]", value)
        if len(items) > MAX_ITEMS:
            fail(where, f"{len(items)} entries, at most {MAX_ITEMS} are read")
        return {_text(k, where): convert(args[1], v, f"{where}.{k[:40]}") for k, v in items.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where)
    if hint is str:
        return _text(value, where)
    return _number(hint, value, where)


def _sequence(origin: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        fail(where, f"expected a list, found {_kind(value)}")
    items = typing.cast("list[Any]", value)
    if len(items) > MAX_ITEMS:
        fail(where, f"{len(items)} entries, at most {MAX_ITEMS} are read")
    if origin is tuple and len(items) != len(args):
        fail(where, f"expected {len(args)} values, found {len(items)}")
    inner = args if origin is tuple else args * len(items)
    return origin(convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(inner, items)))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        fail(where, f"expected text, found {_kind(value)}")
    if len(value) > MAX_TEXT:
        fail(where, f"text of {len(value)} characters, at most {MAX_TEXT} are read")
    # Control characters would reach a terminal as commands; half a surrogate cannot be written.
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in value):
        fail(where, "text holds control characters")
    return value


def _number(hint: Any, value: Any, where: str) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if hint is int and not whole:
        fail(where, f"expected a whole number, found {_kind(value)}")
    if not (whole or isinstance(value, float)):
        fail(where, f"expected a number, found {_kind(value)}")
    size = abs(value)
    if (isinstance(value, float) and not math.isfinite(value)) or size > LARGEST:
        fail(where, f"a number outside +-{LARGEST:g}")
    if 0 < size < SMALLEST:
        fail(where, f"a number below {SMALLEST:g}")
    return hint(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "nothing (null)" if value is None else names.get(type(value), "a number")
