"""Reading JSON objects that others wrote: every field is checked when it is taken.

Files come from anywhere, so a missing key, a wrong type or a number out of range must become one
clear line that names the place, never a traceback or a huge allocation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neucodex_lava.errors import FormatError

TEXT_LIMIT = 4096
"""Characters in a text field, unless told otherwise."""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key given twice: two readers could take two different values."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key '{twice}' is given twice")
    return result


@dataclass(frozen=True)
class Fields:
    """A JSON object whose fields are checked as they are read.

    Attributes:
        values: the object.
        where: what it is, for messages: a file, a node.
        error: the class of exception raised.
    """

    values: Mapping[str, Any]
    where: str
    error: type[FormatError] = FormatError

    @classmethod
    def parse(
        cls, text: bytes, where: str, limit_bytes: int, error: type[FormatError] = FormatError
    ) -> Fields:
        """The JSON object in UTF-8 `text`, of at most `limit_bytes`.

        Raises:
            FormatError: (or `error`) when it is too long, not JSON, or not an object.
        """
        if len(text) > limit_bytes:
            raise error(f"{where}: {len(text)} bytes of JSON, the limit is {limit_bytes}")
        try:
            values = json.loads(
                text.decode("utf-8"),
                parse_constant=_reject_constant,
                object_pairs_hook=_unique,
            )
        except (ValueError, RecursionError) as problem:
            raise error(f"{where}: not JSON ({problem})") from problem
        if not isinstance(values, dict):
            raise error(f"{where}: not a JSON object")
        return cls(values, where, error)

    def fail(self, problem: str, hint: str = "") -> FormatError:
        """The exception to raise for a problem at this place."""
        return self.error(f"{self.where}: {problem}", hint)

    def only(self, *keys: str) -> Fields:
        """This object, or an error when it has other keys than these."""
        for key in self.values:
            if key not in keys:
                raise self.fail(f"unknown key '{key[:80]}'")
        return self

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise self.fail(f"'{key}' is missing")
        return self.values[key]

    def _integer(self, value: Any, what: str, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(f"{what} is {_short(value)}, it must be an integer")
        if not low <= value <= high:
            raise self.fail(f"{what} is {_short(value)}, outside [{low}, {high}]")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return self._integer(self._get(key), f"'{key}'", low, high)

    def integers(self, key: str, count: int | None, low: int, high: int) -> tuple[int, ...]:
        """A list of `count` integers in [low, high]; None: up to 8 of them."""
        value = self._get(key)
        fits = isinstance(value, list) and (len(value) == count if count else len(value) <= 8)
        if not fits:
            raise self.fail(f"'{key}' is {_short(value)}, it must be {count or 'some'} integers")
        return tuple(self._integer(item, f"'{key}'", low, high) for item in value)

    def number(self, key: str) -> float:
        """A finite number."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(f"'{key}' is {_short(value)}, it must be a number")
        try:
            result = float(value)
        except OverflowError:
            result = math.inf
        if not math.isfinite(result):
            raise self.fail(f"'{key}' is {_short(value)}, it must be a finite number")
        return result

    def text(self, key: str, limit: int = TEXT_LIMIT) -> str:
        """A string of at most `limit` characters."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self.fail(f"'{key}' is {_short(value)}, it must be a string")
        if len(value) > limit:
            raise self.fail(f"'{key}' has {len(value)} characters, the limit is {limit}")
        return value

    def texts(self, key: str, count: int, limit: int = TEXT_LIMIT) -> tuple[str, ...]:
        """A list of `count` strings of at most `limit` characters each."""
        value = self._get(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.fail(f"'{key}' is {_short(value)}, it must be {count} strings")
        for item in value:
            if not isinstance(item, str) or len(item) > limit:
                raise self.fail(f"'{key}' holds {_short(item)}, it must be short strings")
        return tuple(value)

    def optional_text(self, key: str) -> str | None:
        """A string or null."""
        return None if self._get(key) is None else self.text(key)

    def mapping(self, key: str) -> dict[str, Any]:
        """A JSON object as it is, its values unchecked."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.fail(f"'{key}' is {_short(value)}, it must be an object")
        return dict(value)

    def optional_mapping(self, key: str) -> dict[str, Any] | None:
        """A JSON object or null."""
        return None if self._get(key) is None else self.mapping(key)

    def inside(self, key: str) -> Fields:
        """A JSON object, to read its own fields."""
        return Fields(self.mapping(key), f"{self.where}: {key}", self.error)

    def children(self, key: str, limit: int) -> Iterator[Fields]:
        """The JSON objects of a list of at most `limit`."""
        value = self._get(key)
        if not isinstance(value, list):
            raise self.fail(f"'{key}' is {_short(value)}, it must be a list")
        if len(value) > limit:
            raise self.fail(f"'{key}' has {len(value)} items, the limit is {limit}")
        for i, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.fail(f"{key}[{i}] is {_short(item)}, it must be an object")
            yield Fields(item, f"{self.where}: {key}[{i}]", self.error)


def _short(value: Any) -> str:
    """A value for a message, never longer than a few words."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge integer"
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."
