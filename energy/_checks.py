"""Checks on ledger JSON that anyone may have written: every value is looked at before it is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import FormatError

COUNT_MAX = 2**53
"""Largest count: beyond it JSON readers that use doubles would change it."""
SIZE_MAX = 10_000_000
"""Most samples times timesteps: a few bytes of JSON must not ask for memory without end."""


def names(raw: Any, what: str) -> tuple[str, ...]:
    """Distinct texts."""
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        raise FormatError(f"ledger: {what} must be a list of names")
    if len(set(raw)) != len(raw):
        raise FormatError(f"ledger: {what} has a name twice")
    return tuple(raw)


def links(raw: Any, nodes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs (node, source) that lead to these nodes."""
    if not isinstance(raw, list):
        raise FormatError("ledger: connections must be a list")
    result: list[tuple[str, str]] = []
    for pair in raw:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(n, str) for n in pair)
        ):
            raise FormatError("ledger: a connection must be [node, source]")
        if pair[0] not in nodes:
            raise FormatError(f"ledger: a connection leads to '{pair[0]}', which is no node of it")
        result.append((pair[0], pair[1]))
    return tuple(result)


def kinds(raw: Any, connections: int) -> tuple[str, ...]:
    """One text per connection, or none at all."""
    if not isinstance(raw, list) or not all(isinstance(kind, str) for kind in raw):
        raise FormatError("ledger: kinds must be a list of texts")
    if len(raw) not in (0, connections):
        raise FormatError(f"ledger: {len(raw)} kinds for {connections} connections")
    return tuple(raw)


def sizes(samples: Any, timesteps: Any) -> tuple[int, int]:
    """Numbers of samples and timesteps."""
    n, t = integer(samples, "samples", SIZE_MAX), integer(timesteps, "timesteps", SIZE_MAX)
    if n * t > SIZE_MAX:
        raise FormatError(f"ledger: {n} samples of {t} timesteps are more than {SIZE_MAX} rows")
    return n, t


def integer(raw: Any, what: str, largest: int = COUNT_MAX) -> int:
    """An integer from 0."""
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= largest:
        shown = repr(raw)[:40]
        raise FormatError(f"ledger: {what} is {shown}, expected an integer in [0, {largest}]")
    return raw


def counts(raw: Any, what: str, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Counts from 0 of exactly this shape."""
    try:
        array = np.asarray(raw)
    except ValueError as error:  # rows of different lengths
        raise FormatError(f"ledger: '{what}' is not an array: {error}") from error
    # An empty list says nothing about the other axes: `[]` stands for (0, nodes, timesteps).
    if array.size == 0 and 0 in shape:
        return np.zeros(shape, np.int64)
    if array.shape != shape:
        raise FormatError(f"ledger: '{what}' has shape {array.shape}, expected {shape}")
    # Floats, texts and integers beyond 64 bits would all be converted without a word.
    if array.dtype.kind != "i":
        raise FormatError(f"ledger: '{what}' holds {array.dtype} values, expected integers")
    if array.min() < 0 or array.max() > COUNT_MAX:
        raise FormatError(f"ledger: '{what}' holds a count outside [0, {COUNT_MAX}]")
    return array.astype(np.int64)


def overhead(raw: Any, what: str, fields: Iterable[str]) -> dict[str, int]:
    """Totals of a run by name."""
    if not isinstance(raw, dict) or set(raw) != set(fields):
        raise FormatError(f"ledger: '{what}' must hold {', '.join(fields)}")
    return {name: integer(value, f"{what}.{name}") for name, value in raw.items()}
