"""What one timestep costs on the link. No torch: the edge needs it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_bridge.codecs import codec_for
from host_bridge.messages import Kind, Message, encode, pack_logits, wire_bytes
from neucodex_lava.integer_net import IntegerNet

FLOAT_BITS = 32
"""The paper sends its uncompressed spikes as about one 32-bit float each (docs/science.md)."""


@dataclass(frozen=True)
class LinkCost:
    """What one timestep costs on the link.

    Attributes:
        raw_bits: one 32-bit float per value of the code (modelled, as the paper counts).
        packed_bits: the bits of the code.
        payload_bits: as the codec sends them, in whole bytes.
        step_wire_bytes: both messages with the framing of each (modelled from their sizes).
        end_wire_bytes: the message that ends a sample.
    """

    raw_bits: int
    packed_bits: int
    payload_bits: int
    step_wire_bytes: int
    end_wire_bytes: int

    def wire_bytes(self, timesteps: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes on the wire of samples that ran so many timesteps, (N,)."""
        return self.step_wire_bytes * timesteps + self.end_wire_bytes

    @classmethod
    def of(cls, net: IntegerNet) -> LinkCost:
        """For what crosses the net's cut; nothing for an edge-only net."""
        if net.cut == len(net.nodes):
            return cls(0, 0, 0, 0, 0)
        values = int(np.prod(net.code_shape))
        codec = codec_for(net.code_bits)
        payload = codec.pack(np.zeros(net.code_shape, np.uint8), net.code_bits)
        code = encode(Message(Kind.CODE, 0, payload=payload))
        sums = np.zeros(net.nodes[-1].size, np.int64)
        reply = encode(Message(Kind.LOGITS, 0, payload=pack_logits(sums, 0.0)))
        return cls(
            raw_bits=FLOAT_BITS * values,
            packed_bits=values * net.code_bits,
            payload_bits=8 * len(payload),
            step_wire_bytes=wire_bytes(len(code)) + wire_bytes(len(reply)),
            end_wire_bytes=wire_bytes(len(encode(Message(Kind.END_SAMPLE, 0)))),
        )
