"""The cloud's end: a decoder that takes any codec's payload, from anyone."""

from __future__ import annotations

from collections.abc import Callable

from host_bridge.codecs import ans
from host_bridge.codecs.addresses import unpack_addresses
from host_bridge.codecs.code import Code, Shape, check_shape, packed_bytes
from host_bridge.codecs.table import (
    ADDRESSES,
    ANS,
    BIT_PACKED,
    CODECS,
    CONDITIONED,
    GRADED,
    ZSTD,
    check_codec,
    codec_for,
    unpack,
)
from host_bridge.codecs.tables import NO_TABLES_HINT, Tables
from host_bridge.codecs.zstd import plain_zstd
from neucodex_lava.errors import ProtocolError


class Decoder:
    """Reads codes, from anyone; keeps nothing, so sessions and threads may share one.

    Args:
        shape: (C, H, W) of the codes.
        bits: bits a value, 1..8.
        tables: the bundle's; None for none.

    Raises:
        ConfigError: tables of other codes.
        ProtocolError: a shape that no session may carry.
    """

    def __init__(self, shape: Shape, bits: int = 1, tables: Tables | None = None) -> None:
        check_shape(shape, bits)
        if tables is not None:
            tables.check_fit(shape, bits)
        self.shape, self.bits, self.tables = shape, bits, tables
        self._packed_bytes = packed_bytes(shape, bits)
        self._read: dict[int, Callable[[bytes, Code | None], Code]] = {
            BIT_PACKED: lambda payload, _: unpack(payload, shape, bits, BIT_PACKED),
            GRADED: lambda payload, _: unpack(payload, shape, bits, GRADED),
            ADDRESSES: lambda payload, _: unpack_addresses(payload, shape, bits),
            ZSTD: self._zstd,
            ANS: lambda payload, _: ans.unpack_ans(payload, shape, self._tables(ANS)),
            CONDITIONED: self._conditioned,
        }

    def decode(self, codec_id: int, payload: bytes, previous: Code | None = None) -> Code:
        """Read one timestep: uint8 (C, H, W).

        Args:
            codec_id: from the message header.
            payload: whatever came with it.
            previous: the code of the timestep before of the same sample; None at the first.

        Raises:
            ProtocolError: an unknown codec, one that needs tables or a timestep there is none of, a
                payload longer than the packed code, or one that no `Coder` writes.
        """
        check_codec(codec_id)
        if len(payload) > self._packed_bytes:
            raise ProtocolError(
                f"code of {len(payload)} bytes, shape {self.shape} at {self.bits} bit takes"
                f" {self._packed_bytes} at most"
            )
        return self._read[codec_id](payload, previous)

    def _zstd(self, frame: bytes, _: Code | None) -> Code:
        zstd = self.tables.zstd if self.tables is not None else plain_zstd()
        packed = zstd.decompress(frame, self._packed_bytes)
        return codec_for(self.bits).unpack(packed, self.shape, self.bits)

    def _conditioned(self, payload: bytes, previous: Code | None) -> Code:
        tables = self._tables(CONDITIONED)
        if tables.given is None:
            raise ProtocolError("codec ans-conditioned is for binary codes")
        if previous is None:
            raise ProtocolError("codec ans-conditioned at the first timestep of a sample")
        return ans.unpack_conditioned(payload, previous, tables)

    def _tables(self, codec_id: int) -> Tables:
        if self.tables is None:
            raise ProtocolError(
                f"codec {CODECS[codec_id].name} needs coding tables, and this side's bundle has none",
                NO_TABLES_HINT,
                status="FAILED_PRECONDITION",
            )
        return self.tables
