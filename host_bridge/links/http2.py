"""Finds the payload of HTTP/2's DATA frames in a stream of bytes, to damage messages and not frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PREFACE_BYTES: Final = 24  # RFC 9113, section 3.4: what a client sends first

_HEADER_BYTES: Final = 9  # RFC 9113, section 4.1: length 3, type 1, flags 1, stream 4
_DATA: Final = 0


class DataFrames:
    """Follows one direction of a connection.

    Args:
        skip: bytes before the first frame: `PREFACE_BYTES` from a client, 0 from a server.
        pick: called for each DATA frame with its payload's length; the place of the byte to damage and
            the bits to flip in it, or None to leave the frame alone.
    """

    def __init__(self, skip: int, pick: Callable[[int], tuple[int, int] | None]) -> None:
        self._skip = skip
        self._pick = pick
        self._header = bytearray()
        self._left = 0
        self._damage: tuple[int, int] | None = None

    def pass_on(self, chunk: bytes) -> bytes:
        """The chunk, damaged where it was picked."""
        out = bytearray(chunk)
        at = min(self._skip, len(out))
        self._skip -= at
        while at < len(out):
            if self._left == 0:
                at = self._read_header(out, at)
                continue
            here = min(self._left, len(out) - at)
            if self._damage is not None:
                place, bits = self._damage
                if place < here:
                    out[at + place] ^= bits
                    self._damage = None
                else:
                    self._damage = (place - here, bits)
            self._left -= here
            at += here
        return bytes(out)

    def _read_header(self, out: bytearray, at: int) -> int:
        wanted = _HEADER_BYTES - len(self._header)
        self._header += out[at : at + wanted]
        if len(self._header) == _HEADER_BYTES:
            self._left = int.from_bytes(self._header[:3], "big")
            if self._header[3] == _DATA and self._left:
                self._damage = self._pick(self._left)
            self._header.clear()
        return min(at + wanted, len(out))
