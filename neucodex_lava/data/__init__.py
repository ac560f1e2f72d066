"""Datasets and encodings: images or events in, spikes (N, C, H, W, T) out; imports numpy only."""

from neucodex_lava.data.datasets import load
from neucodex_lava.data.encodings import bernoulli, deterministic, direct, direct_bits, encode
from neucodex_lava.data.sets import EventSet, ImageSet, SampleSet
from neucodex_lava.data.splits import split_off

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
