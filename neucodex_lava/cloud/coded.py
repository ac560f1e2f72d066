"""What codes take on the link when they are coded, worked out from counts without coding them.

Of each frame, the smallest that the codec `auto` knows of before it codes anything: packed, as
addresses, or entropy coded under the bundle's tables, per channel or by the timestep before. What it
really sends is within 3 bytes of that, or less where zstd finds something that repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_bridge.codecs import Tables, packed_bits
from host_bridge.codecs.addresses import address_bytes
from host_bridge.codecs.ans import coded_bytes, histogram, histogram_given
from neucodex_lava.integer_net import IntegerNet


def codes_at(
    net: IntegerNet, cut: int, inputs: NDArray[np.uint8], spikes: dict[str, NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """What crosses a cut, uint8 (N, T, C, H, W).

    Args:
        net: the network.
        cut: nodes before it.
        inputs, spikes: of a run of these samples, (N, C, H, W, T).
    """
    source = inputs if cut == 0 else spikes[net.output_at(cut)]
    return np.ascontiguousarray(np.moveaxis(source, -1, 1))


@dataclass(frozen=True, eq=False)
class CodedFrames:
    """Bits of each frame, (N, T).

    Attributes:
        coded: in whole bytes, as the smallest codec would send it (modelled).
        entropy: its cross-entropy under the bundle's tables (the smaller one, per channel or by the
            timestep before); without tables its own entropy, channel by channel.
    """

    coded: NDArray[np.int64]
    entropy: NDArray[np.float64]

    @classmethod
    def of(cls, codes: NDArray[np.uint8], bits: int, tables: Tables | None) -> CodedFrames:
        """Of codes (N, T, C, H, W) of so many bits a value."""
        priced = [
            [
                _price(code, sample[t - 1] if t else None, bits, tables)
                for t, code in enumerate(sample)
            ]
            for sample in codes
        ]
        found = np.array(priced).reshape(*codes.shape[:2], 2)
        return cls(found[..., 0].astype(np.int64), found[..., 1])

    @staticmethod
    def concatenate(parts: Sequence[CodedFrames]) -> CodedFrames:
        """One after the other along the samples."""
        return CodedFrames(
            np.concatenate([part.coded for part in parts]),
            np.concatenate([part.entropy for part in parts]),
        )

    def until(self, timesteps: NDArray[np.int64]) -> tuple[float, float]:
        """Mean bits per sample, coded and entropy, of samples that ran so many timesteps (N,)."""
        ran = np.arange(self.coded.shape[1]) < timesteps[:, None]
        means = ((bits * ran).sum(axis=1).mean() for bits in (self.coded, self.entropy))
        coded, entropy = map(float, means)
        return coded, entropy


def _price(
    code: NDArray[np.uint8], previous: NDArray[np.uint8] | None, bits: int, tables: Tables | None
) -> tuple[int, float]:
    counts = histogram(code, bits)
    spikes = code.size - int(counts[:, 0].sum())
    c, h, w = code.shape
    sizes = [packed_bits((c, h, w), bits) // 8, address_bytes(spikes, code.size, bits)]
    if tables is None:
        return 8 * min(sizes), _own_entropy_bits(counts)
    costs = [float((counts * tables.cost_bits).sum())]
    if previous is not None and tables.given is not None:
        costs.append(float((histogram_given(code, previous) * tables.cost_bits_given).sum()))
    return 8 * min(*sizes, coded_bytes(min(costs))), min(costs)


def _own_entropy_bits(counts: NDArray[np.int64]) -> float:
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(counts * logs).sum())
