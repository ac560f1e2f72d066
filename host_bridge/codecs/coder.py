"""The edge's end: a coder that chooses a codec for each frame.

`auto` chooses what is soonest at the other end, or with no rate given what is smallest:

    seconds to encode + 8 * bytes / rate

Sizes are known before anything is coded (plain packing and addresses by arithmetic, entropy coding
by counting); only zstd has to be tried. A frame that would come out longer than packed is packed.
"""

from __future__ import annotations

import math
import time
from typing import Final

import numpy as np

from host_bridge.codecs import ans
from host_bridge.codecs.addresses import address_bytes, pack_addresses
from host_bridge.codecs.code import Code, Shape, check_code, check_shape, packed_bytes
from host_bridge.codecs.table import ADDRESSES, ANS, CODECS, CONDITIONED, ZSTD, codec_for
from host_bridge.codecs.tables import NO_TABLES_HINT, Tables
from host_bridge.codecs.zstd import plain_zstd
from neucodex_lava.errors import ConfigError, ProtocolError

AUTO: Final = "auto"
CHOICES: Final = (AUTO, "packed", "zstd", "ans", "ans-conditioned", "addresses")
"""What a `Coder` can be told to use."""

_LEAST_FRAME_BYTES: Final = 8
"""zstd's headers alone take six."""
_TRIAL_ACTIVITY, _TRIALS = 0.1, 3


class Coder:
    """Writes the codes of one session; for one thread at a time.

    Args:
        shape: (C, H, W) of the codes.
        bits: bits a value, 1..8.
        tables: the bundle's; None for none.
        codec: one of `CHOICES`. `ans-conditioned` writes the first timestep of a sample as `ans`.
        link_rate_bps: of the link, in bits a second: `auto` then weighs time against size, with
            times measured here when the coder is made; None: by size alone, the same anywhere.

    Raises:
        ConfigError: an unknown codec, one that needs tables there are none of, tables of other
            codes, or a rate that is no positive number.
        ProtocolError: a shape that no session may carry.
    """

    def __init__(
        self,
        shape: Shape,
        bits: int = 1,
        tables: Tables | None = None,
        codec: str = AUTO,
        link_rate_bps: float | None = None,
    ) -> None:
        check_shape(shape, bits)
        if codec not in CHOICES:
            raise ConfigError(f"unknown codec '{codec}'", f"choose one of {', '.join(CHOICES)}")
        if tables is not None:
            tables.check_fit(shape, bits)
        if codec.startswith("ans"):
            if tables is None:
                raise ConfigError(
                    f"codec {codec} needs coding tables, and the bundle has none", NO_TABLES_HINT
                )
            if codec == CODECS[CONDITIONED].name and tables.given is None:
                raise ConfigError("codec ans-conditioned is for binary codes", "use ans or auto")
        if link_rate_bps is not None and not (math.isfinite(link_rate_bps) and link_rate_bps > 0):
            raise ConfigError(f"link rate {link_rate_bps}, expected a positive number of bit/s")
        self.shape, self.bits, self.tables, self.codec = shape, bits, tables, codec
        self._plain = codec_for(bits)
        self._packed_bytes = packed_bytes(shape, bits)
        self._zstd = tables.zstd if tables is not None else plain_zstd()
        self._s_per_byte = 8 / link_rate_bps if link_rate_bps else 0.0
        self._encode_s = dict.fromkeys(CODECS, 0.0)
        if link_rate_bps and codec == AUTO:
            self._encode_s = self._measured()

    def encode(self, code: Code, previous: Code | None = None) -> tuple[int, bytes]:
        """Write one timestep.

        Args:
            code: uint8, shape (C, H, W), values 0..2^bits-1.
            previous: the code of the timestep before of the same sample; None at the first.

        Returns:
            The codec's number and the payload, never longer than the packed code.

        Raises:
            ProtocolError: a code of another type, shape or range.
        """
        if self.codec == "packed":
            self._check_shape(code)
            return self._plain.id, self._plain.pack(code, self.bits)
        code, previous = self._checked(code, previous)
        codec_id, payload, _ = self._chosen(code, previous)
        if payload is None:
            payload = self._written(codec_id, code, previous)
        if len(payload) > self._packed_bytes:
            return self._plain.id, self._plain.pack(code, self.bits)
        return codec_id, payload

    def expected_bytes(self, code: Code, previous: Code | None = None) -> int:
        """What `auto` expects a timestep to take, from counting alone; off by 3 bytes at most.

        Args:
            code, previous: as `encode` takes them.

        Raises:
            ProtocolError: as `encode`.
        """
        return self._soonest(*self._checked(code, previous))[2]

    def _check_shape(self, code: Code) -> None:
        if code.shape != self.shape:
            raise ProtocolError(f"code of shape {code.shape}, the session has {self.shape}")

    def _checked(self, code: Code, previous: Code | None) -> tuple[Code, Code | None]:
        self._check_shape(code)
        check_code(code, self.bits)
        if previous is None:
            return np.ascontiguousarray(code), None
        if previous.shape != self.shape:
            raise ProtocolError(f"previous code of shape {previous.shape}, expected {self.shape}")
        return np.ascontiguousarray(code), np.ascontiguousarray(previous)

    def _chosen(self, code: Code, previous: Code | None) -> tuple[int, bytes | None, int]:
        """Which codec, its payload where that had to be made to know, and its expected bytes."""
        if self.codec == AUTO:
            return self._soonest(code, previous)
        wanted = next(c.id for c in CODECS.values() if c.name == self.codec)
        return (ANS if wanted == CONDITIONED and previous is None else wanted), None, 0

    def _soonest(self, code: Code, previous: Code | None) -> tuple[int, bytes | None, int]:
        sizes = {self._plain.id: self._packed_bytes}
        spikes = int(np.count_nonzero(code))
        sizes[ADDRESSES] = address_bytes(spikes, code.size, self.bits)
        if self.tables is not None:
            sizes[ANS] = ans.coded_bytes(ans.cost_bits(code, self.tables))
            if previous is not None and self.tables.given is not None:
                cost = ans.cost_bits_given(code, previous, self.tables)
                sizes[CONDITIONED] = ans.coded_bytes(cost)
        # At equal cost the first, which is the one that takes less work.
        best = min(sizes, key=lambda codec_id: self._cost_s(codec_id, sizes[codec_id]))
        least = self._cost_s(best, sizes[best])
        if sizes[best] > _LEAST_FRAME_BYTES and self._cost_s(ZSTD, _LEAST_FRAME_BYTES) < least:
            frame = self._written(ZSTD, code, previous)
            if self._cost_s(ZSTD, len(frame)) < least:
                return ZSTD, frame, len(frame)
        return best, None, sizes[best]

    def _cost_s(self, codec_id: int, size_bytes: int) -> float:
        """Seconds until it is sent; without a rate the bytes."""
        if not self._s_per_byte:
            return size_bytes
        return self._encode_s[codec_id] + size_bytes * self._s_per_byte

    def _written(self, codec_id: int, code: Code, previous: Code | None) -> bytes:
        if codec_id == ADDRESSES:
            return pack_addresses(code, self.bits)
        if codec_id == ZSTD:
            return self._zstd.compress(self._plain.pack(code, self.bits))
        if codec_id in (ANS, CONDITIONED):
            assert self.tables is not None
            if codec_id == ANS:
                return ans.pack_ans(code, self.tables)
            assert previous is not None
            return ans.pack_conditioned(code, previous, self.tables)
        return self._plain.pack(code, self.bits)

    def _measured(self) -> dict[int, float]:
        """Seconds that each codec takes here for one frame, of a sparse code."""
        draw = np.random.default_rng(0)
        frames = [(draw.random(self.shape) < _TRIAL_ACTIVITY).astype(np.uint8) for _ in range(2)]
        usable = {self._plain.id, ZSTD, ADDRESSES}
        if self.tables is not None:
            usable |= {ANS} if self.tables.given is None else {ANS, CONDITIONED}
        times = dict.fromkeys(CODECS, math.inf)
        for codec_id in usable:
            for _ in range(_TRIALS):
                start = time.perf_counter()
                self._written(codec_id, *frames)
                times[codec_id] = min(times[codec_id], time.perf_counter() - start)
        return times
