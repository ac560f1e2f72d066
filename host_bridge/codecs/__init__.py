"""How the spikes of one timestep become bytes, and back."""

from host_bridge.codecs.code import Code, Shape, check_shape, packed_bits, raw_bits
from host_bridge.codecs.coder import AUTO, CHOICES, Coder
from host_bridge.codecs.decoder import Decoder
from host_bridge.codecs.table import (
    ADDRESSES,
    ANS,
    BIT_PACKED,
    CODECS,
    CONDITIONED,
    GRADED,
    ZSTD,
    Codec,
    PlainCodec,
    codec_for,
    limit_bytes,
    pack,
    unpack,
)
from host_bridge.codecs.tables import Tables
from host_bridge.codecs.training import TableTraining

__all__ = [
    "Coder",
    "Decoder",
    "Tables",
    "TableTraining",
    "AUTO",
    "CHOICES",
    "ADDRESSES",
    "ANS",
    "BIT_PACKED",
    "CODECS",
    "CONDITIONED",
    "GRADED",
    "ZSTD",
    "Code",
    "Codec",
    "PlainCodec",
    "Shape",
    "check_shape",
    "codec_for",
    "limit_bytes",
    "pack",
    "packed_bits",
    "raw_bits",
    "unpack",
]
