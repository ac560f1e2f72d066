"""Datasets and spike encodings: images in, spikes (N, C, H, W, T) out. Needs numpy only to import."""

from neucodex_lava.data.datasets import ImageSet, load, split_off
from neucodex_lava.data.encodings import bernoulli, deterministic, direct, direct_bits, encode

__all__ = [
    "ImageSet",
    "bernoulli",
    "deterministic",
    "direct",
    "direct_bits",
    "encode",
    "load",
    "split_off",
]
