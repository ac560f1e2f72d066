"""Entropy coding with asymmetric numeral systems, each channel by its own table.

J. Duda, "Asymmetric numeral systems", 2013 (arXiv 1311.2540); the coder is the library
`constriction`. A payload is the coder's 32-bit words, least significant byte first, without zero
bytes at the end: within 4 bytes of the cross-entropy of the code under the tables,

    bits = sum over channels c and values v of  n(c, v) * -log2 P(c, v)

which is known from counting alone, before anything is coded. Coding and decoding are inverses, word
for word, so whatever decodes to the coder's empty state is what the encoder wrote. A silent code takes
no bytes at all; the first spike coded takes 24 bits whatever its probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from host_bridge.codecs._constriction import AnsCoder
from host_bridge.codecs.code import Code, Shape
from host_bridge.codecs.tables import Tables
from neucodex_lava.errors import ProtocolError

_WORD = np.dtype("<u4")
_FIRST_SPIKE_BITS = 20
"""What the first spike coded takes more than it should, about."""


def histogram(code: Code, bits: int) -> npt.NDArray[np.int64]:
    """How often each value occurs in each channel, (C, 2^bits)."""
    rows = code.reshape(len(code), -1)
    if bits == 1:
        ones = rows.sum(axis=1, dtype=np.int64)
        return np.stack([rows.shape[1] - ones, ones], axis=1)
    width = 1 << bits
    places = rows + width * np.arange(len(rows))[:, None]
    return np.bincount(places.reshape(-1), minlength=width * len(rows)).reshape(-1, width)


def histogram_given(code: Code, previous: Code) -> npt.NDArray[np.int64]:
    """How often each value follows each in each channel of binary codes, (C, 2, 2)."""
    both = histogram(code & previous, 1)[:, 1]
    now, before = histogram(code, 1)[:, 1], histogram(previous, 1)[:, 1]
    neither = code[0].size - now - before + both
    return np.stack([neither, now - both, before - both, both], axis=1).reshape(-1, 2, 2)


def coded_bytes(cost: float) -> int:
    """What a code of such a cross-entropy, in bits, takes when coded; off by 2 bytes at most."""
    return math.ceil((cost + _FIRST_SPIKE_BITS) / 8)


def cost_bits(code: Code, tables: Tables) -> float:
    """Cross-entropy of a code under the tables, in bits."""
    return float((histogram(code, tables.bits) * tables.cost_bits).sum())


def cost_bits_given(code: Code, previous: Code, tables: Tables) -> float:
    """The same where each value is known from the timestep before."""
    return float((histogram_given(code, previous) * tables.cost_bits_given).sum())


def pack_ans(code: Code, tables: Tables) -> bytes:
    """Write a code, which must have been checked and fit the tables."""
    rows = code.reshape(len(code), -1).astype(np.int32)
    return _encode(list(rows), tables.models)


def unpack_ans(payload: bytes, shape: Shape, tables: Tables) -> Code:
    """The inverse; `ProtocolError` on anything that `pack_ans` never wrote."""
    sizes = [shape[1] * shape[2]] * shape[0]
    return _decode(payload, sizes, tables.models).reshape(shape)


def pack_conditioned(code: Code, previous: Code, tables: Tables) -> bytes:
    """Write a code, each value by what its neuron did in the timestep before."""
    flat, spiked = code.reshape(-1), previous.reshape(-1).view(np.bool_)
    symbols = np.concatenate([flat[~spiked], flat[spiked]]).astype(np.int32)
    ends = np.cumsum(_group_sizes(previous)).tolist()
    groups = [symbols[first:end] for first, end in zip([0, *ends], ends)]
    return _encode(groups, tables.models_given)


def unpack_conditioned(payload: bytes, previous: Code, tables: Tables) -> Code:
    """The inverse; `ProtocolError` on anything that `pack_conditioned` never wrote."""
    sizes = _group_sizes(previous)
    symbols = _decode(payload, sizes, tables.models_given)
    spiked = previous.reshape(-1).view(np.bool_)
    code = np.empty(previous.size, np.uint8)
    silent = previous.size - int(np.count_nonzero(spiked))
    code[~spiked], code[spiked] = symbols[:silent], symbols[silent:]
    return code.reshape(previous.shape)


def _group_sizes(previous: Code) -> list[int]:
    """Values of each channel that were 0 before, then of each that were 1."""
    return histogram(previous, 1).T.reshape(-1).tolist()


def _encode(groups: Sequence[npt.NDArray[np.int32]], models: Sequence[Any]) -> bytes:
    coder = AnsCoder()
    # A stack: what is coded last is decoded first.
    for group, model in zip(reversed(groups), reversed(models)):
        coder.encode_reverse(group, model)
    return coder.get_compressed().astype(_WORD).tobytes().rstrip(b"\x00")


def _decode(payload: bytes, sizes: Sequence[int], models: Sequence[Any]) -> npt.NDArray[np.uint8]:
    if payload.endswith(b"\x00"):
        raise ProtocolError("the coded bytes end in a zero, which is never written")
    words = np.frombuffer(payload + bytes(-len(payload) % 4), _WORD).astype(np.uint32)
    coder = AnsCoder(words)
    values = np.concatenate([coder.decode(model, size) for model, size in zip(models, sizes)])
    if not coder.is_empty():
        raise ProtocolError("the coded bytes hold more than the code")
    return values.astype(np.uint8)
