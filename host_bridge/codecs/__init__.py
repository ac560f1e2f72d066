"""How the spikes of one timestep become bytes, and back."""

from host_bridge.codecs.code import Code, Shape, check_shape, packed_bits, raw_bits
from host_bridge.codecs.table import (
    BIT_PACKED,
    CODECS,
    GRADED,
    Codec,
    codec_for,
    limit_bytes,
    pack,
    unpack,
)

__all__ = [
    "BIT_PACKED",
    "CODECS",
    "Code",
    "Codec",
    "GRADED",
    "Shape",
    "check_shape",
    "codec_for",
    "limit_bytes",
    "pack",
    "packed_bits",
    "raw_bits",
    "unpack",
]
