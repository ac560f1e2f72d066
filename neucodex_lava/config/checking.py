"""How configurations check themselves, and how they go to JSON and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from neucodex_lava.errors import ConfigError

T = TypeVar("T")


def require(condition: bool, message: str, hint: str = "") -> None:
    """Raise ConfigError(message, hint) unless the condition holds."""
    if not condition:
        raise ConfigError(message, hint)


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values; `from_dict` reads it back."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], raw: Mapping[str, Any]) -> T:
    """A configuration from plain JSON values.

    Raises:
        ConfigError: an unknown or missing field, or a value of the wrong type.
    """
    name = cls.__name__
    require(isinstance(raw, Mapping), f"{name}: expected an object, found {type(raw).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(raw) - known)
    require(not unknown, f"{name}: unknown field '{unknown[0] if unknown else ''}'")
    values = {key: _convert(hints[key], value, f"{name}.{key}") for key, value in raw.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        require(value in args, f"{where}: '{value}' is not one of {', '.join(map(str, args))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        return _convert(_kind_of(value, kinds), value, where)
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where}: expected a list")
        inner = args[:1] * len(value) if args[-1] is Ellipsis else args
        require(len(inner) == len(value), f"{where}: expected {len(inner)} values")
        return tuple(_convert(a, v, where) for a, v in zip(inner, value))
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type):
        good = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
        require(good, f"{where}: expected {hint.__name__}, found {value!r}")
    return value


def _kind_of(value: Any, kinds: list[Any]) -> Any:
    """Of several configurations the first that has all of the value's fields, else the first."""

    def fits(kind: Any) -> bool:
        return dataclasses.is_dataclass(kind) and set(value) <= {
            f.name for f in dataclasses.fields(kind)
        }

    return next((k for k in kinds if isinstance(value, Mapping) and fits(k)), kinds[0])
