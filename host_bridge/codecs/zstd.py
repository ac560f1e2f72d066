"""The packed code in one frame of Zstandard, with a dictionary where the coding tables have one.

A frame has neither magic number nor length, checksum or dictionary id: both sides know the length,
the message carries a CRC32, and the session has agreed on the dictionary. Every version of the
library reads it; the bytes that it writes may differ between versions.
"""

from __future__ import annotations

import threading
from functools import cache

import zstandard

from neucodex_lava.errors import ProtocolError

LEVEL = 3
"""Level 9 gained 1 to 3 % on codes and took 5 to 10 times as long."""

_SMALLEST_WINDOW = 1 << 10  # RFC 8878, section 3.1.1.1.2


class Zstd:
    """Packs and unpacks frames; may be shared between threads, which then wait for each other.

    Args:
        dictionary: from `zstandard.train_dictionary`; empty for none.
    """

    def __init__(self, dictionary: bytes = b"") -> None:
        shared = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL,
            dict_size=len(dictionary),
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
        )
        self._dictionary_bytes = len(dictionary)
        # One of each for all sessions: a decompressor takes about 150 KB.
        self._lock = threading.Lock()
        self._compressor = zstandard.ZstdCompressor(dict_data=shared, compression_params=parameters)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=shared)

    def compress(self, packed: bytes) -> bytes:
        """One frame of these bytes."""
        with self._lock:
            return self._compressor.compress(packed)[len(zstandard.FRAME_HEADER) :]

    def decompress(self, frame: bytes, length: int) -> bytes:
        """The bytes of one frame from anyone, which must be `length` of them.

        Raises:
            ProtocolError: no frame, one with fields of its own, or one of another length.
        """
        self._check_header(frame, length)
        try:
            with self._lock:
                packed = self._decompressor.decompress(
                    zstandard.FRAME_HEADER + frame, max_output_size=length, allow_extra_data=False
                )
        except zstandard.ZstdError as error:
            raise ProtocolError("the code is no frame of Zstandard, or a damaged one") from error
        if len(packed) != length:
            raise ProtocolError(f"a frame of {len(packed)} bytes, the code has {length}")
        return packed

    def _check_header(self, frame: bytes, length: int) -> None:
        """A header that asks for much memory, or says a length of its own, is none of ours."""
        if len(frame) < 2 or frame[0]:
            raise ProtocolError("the code is a frame of Zstandard with fields of its own")
        window = (1 << 10 + (frame[1] >> 3)) // 8 * (8 + (frame[1] & 7))
        most = max(_SMALLEST_WINDOW, 2 * (length + self._dictionary_bytes))
        if window > most:
            raise ProtocolError(f"a frame with a window of {window} bytes, the limit is {most}")


@cache
def plain_zstd() -> Zstd:
    """Without a dictionary."""
    return Zstd()
