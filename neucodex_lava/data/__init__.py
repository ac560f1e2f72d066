"""Datasets and spike encodings: images in, spikes (N, C, H, W, T) out. Needs numpy only to import."""

from neucodex_lava.data.datasets import load, split_off
from neucodex_lava.data.encodings import bernoulli, deterministic, direct, direct_bits, encode
from neucodex_lava.data.sets import EventSet, ImageSet, SampleSet

__all__ = [
    "EventSet",
    "ImageSet",
    "SampleSet",
    "bernoulli",
    "deterministic",
    "direct",
    "direct_bits",
    "encode",
    "load",
    "split_off",
]
