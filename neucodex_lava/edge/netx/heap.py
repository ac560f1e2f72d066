"""Variable-length strings of an HDF5 file, read without HDF5.

lava-dl stores a neuron's type as a variable-length string. HDF5 keeps those in a global heap, and its
own reader loops for ever on a damaged one, so the few bytes are followed here: a 16-byte reference
(length, address, index) to an object of a collection ("GCOL"). Source: HDF5 File Format
Specification 3.0, sections III.E "Global Heap" and IV.A.2.d "Datatype" (variable-length).
"""

from __future__ import annotations

import struct
from pathlib import Path

REFERENCE = struct.Struct("<IQI")
COLLECTION = struct.Struct("<4sB3xQ")
OBJECT = struct.Struct("<HHIQ")
COLLECTION_LIMIT_BYTES = 1 << 20


def variable_string(path: Path, offset: int, limit_bytes: int) -> bytes:
    """The variable-length string whose reference lies at `offset` of the file.

    Raises:
        ValueError: when the reference or the heap it leads to is damaged.
        OSError: when the file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(offset)
        reference = file.read(REFERENCE.size)
        if len(reference) < REFERENCE.size:
            raise ValueError("string reference beyond the end of the file")
        length, address, wanted = REFERENCE.unpack(reference)
        if length > limit_bytes:
            raise ValueError(f"a string of {length} bytes, the limit is {limit_bytes}")
        if address >= 1 << 63:
            raise ValueError("a string without a place")
        file.seek(address)
        head = file.read(COLLECTION.size)
        if len(head) < COLLECTION.size or not head.startswith(b"GCOL\x01"):
            raise ValueError("no string heap where one should be")
        size = min(COLLECTION.unpack(head)[2], COLLECTION_LIMIT_BYTES)
        heap = file.read(max(size - COLLECTION.size, 0))
    at = 0
    while at + OBJECT.size <= len(heap):
        index, _, _, stored = OBJECT.unpack_from(heap, at)
        at += OBJECT.size
        if index == 0:
            break
        if index == wanted:
            if length > stored or at + length > len(heap):
                break
            return heap[at : at + length]
        at += (stored + 7) // 8 * 8
    raise ValueError("the string is not in its heap")
