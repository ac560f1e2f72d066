"""Ledgers in files."""

from __future__ import annotations

import os
from pathlib import Path

from energy.ledger import Ledger
from neucodex_lava.errors import FormatError

LEDGER_BYTES_MAX = 256 * 1024 * 1024
"""Largest ledger file read; 10,000 samples of 30 connections and 8 timesteps are about 50 MB."""


def read_ledger(path: Path | str, max_bytes: int = LEDGER_BYTES_MAX) -> Ledger:
    """The ledger in a file written by `write_ledger`.

    Args:
        path: of the file.
        max_bytes: refuse a larger file.

    Raises:
        FormatError: no such file, too large, or no ledger.
    """
    path = Path(path)
    hint = "pass a ledger written by `neucodex simulate`"
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise FormatError(f"ledger '{path}': {error.strerror or error}", hint) from error
    if len(raw) > max_bytes:
        raise FormatError(f"ledger '{path}' is larger than {max_bytes:,} bytes", hint)
    try:
        return Ledger.from_json(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"ledger '{path}': it is not text", hint) from error
    except FormatError as error:
        raise FormatError(f"ledger '{path}': {error.message}", error.hint or hint) from error


def write_ledger(ledger: Ledger, path: Path | str) -> None:
    """Write a ledger as JSON, whole or not at all: it is renamed into place when complete.

    Raises:
        FormatError: the file cannot be written there.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(ledger.to_json(), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise FormatError(
            f"ledger '{path}' cannot be written: {error.strerror or error}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
