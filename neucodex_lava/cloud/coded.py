"""What codes take on the link when the codec `auto` chooses by size, worked out from counts.

Nothing is entropy coded for it: sizes are known from counting, to 3 bytes a frame; zstd alone is
tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host_bridge.codecs import Coder, Tables
from host_bridge.codecs.ans import cost_bits, cost_bits_given, histogram
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
        coded: in whole bytes, as `auto` would send it (modelled).
        entropy: its cross-entropy under the bundle's tables (the smaller one, per channel or by the
            timestep before); without tables its own entropy, channel by channel.
    """

    coded: NDArray[np.int64]
    entropy: NDArray[np.float64]

    @classmethod
    def of(cls, codes: NDArray[np.uint8], bits: int, tables: Tables | None) -> CodedFrames:
        """Of codes (N, T, C, H, W) of so many bits a value."""
        _, _, c, h, w = codes.shape
        coder = Coder((c, h, w), bits, tables)
        priced = [
            [_price(coder, code, sample[t - 1] if t else None) for t, code in enumerate(sample)]
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
    coder: Coder, code: NDArray[np.uint8], previous: NDArray[np.uint8] | None
) -> list[float]:
    tables = coder.tables
    if tables is None:
        return [8 * coder.expected_bytes(code, previous), own_entropy_bits(code, coder.bits)]
    entropy = cost_bits(code, tables)
    if previous is not None and tables.given is not None:
        entropy = min(entropy, cost_bits_given(code, previous, tables))
    return [8 * coder.expected_bytes(code, previous), entropy]


def own_entropy_bits(code: NDArray[np.uint8], bits: int) -> float:
    """Entropy of a frame under its own rates, channel by channel; telling the rates not counted.

    Args:
        code: uint8, shape (C, H, W).
        bits: bits a value.
    """
    counts = histogram(code, bits)
    shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(counts * logs).sum())
