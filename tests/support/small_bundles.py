"""Small bundles of networks that nobody trained. Tests only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from plain import load_join_net, run_plain

from neucodex_lava.bundle import (
    Bundle,
    Golden,
    digest_potentials,
    write_bundle,
)
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def tail_net(seed: int) -> IntegerNet:
    """A cut net with a join, exponents, groups and a transposed convolution after the cut."""
    rng = np.random.default_rng(seed)

    def even(*shape: int) -> np.ndarray:
        return 2 * rng.integers(-128, 128, shape, dtype=np.int16)

    def bias(n: int) -> np.ndarray:
        return rng.integers(-99, 99, n)

    bits = int(rng.integers(1, 5))
    exponent = int(rng.integers(0, 3))
    stride = (int(rng.integers(1, 3)), 2)
    stem = Connection("input", "conv", even(4, 2, 3, 3), 0, (1, 1), (1, 1))
    code = Connection("stem", "conv", even(2, 4, 1, 2), 0, (2, 1))
    up = Connection("code é", "conv_transpose", even(2, 3, 2, 3), exponent, stride, groups=2)
    up = replace(up, output_padding=(stride[0] - 1, 1))
    code_shape = code.output_shape((4, 5, 4))
    assert code_shape is not None
    wide = up.output_shape(code_shape)
    assert wide is not None
    lif = Neuron(4096, 2048, int(rng.integers(1, 900)))
    mix = Connection("up", "conv", even(6, 2, 1, 1), groups=3)
    size = int(np.prod(wide))
    nodes = (
        Node("stem", (4, 5, 4), lif, bias(4), (stem,)),
        Node("code é", code_shape, lif, bias(2), (code,)),
        Node("up", wide, lif, bias(6), (up,), sum_bound=4000),
        Node("mix", wide, lif, bias(6), (mix, Connection("up", "identity", even(), exponent))),
        Node(
            "out", (3, 1, 1), READOUT, bias(3), (Connection("mix", "dense", even(3, size)),), 9000
        ),
    )
    return IntegerNet((2, 5, 4), nodes, 2, int(rng.integers(1, 4)), bits)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record(net: IntegerNet, samples: int = 2) -> Golden:
    rng = np.random.default_rng(1)
    shape = (samples, *net.input_shape, net.timesteps)
    inputs = rng.integers(0, 1 << net.input_bits, shape).astype(np.uint8)
    spikes, potential, ledger = run_plain(net, inputs)
    last = net.nodes[-1]
    sums = (potential[last.name] >> 6).reshape(samples, last.size, net.timesteps)
    after = {n: np.where(spikes[n], 0, v).astype(np.int32) for n, v in potential.items()}
    return Golden(
        inputs,
        spikes,
        sums,
        ledger,
        {n: digest_potentials(v) for n, v in after.items()},
        {node.name: node.fingerprint() for node in net.nodes},
        2.5,
    )


FIELDS: dict[str, Any] = {
    "architecture": "resnet-small",
    "dataset": "digits",
    "encoding": {"name": "deterministic", "seed": 3},
    "model": {"widths": (8, 16)},
    "data": {"dataset": "digits"},
    "accuracy": {"test": {"correct": 355, "samples": 360}},
    "command": "neucodex train",
    "seed": 7,
    "versions": {"numpy": "1.26.4"},
    "created": "2026-01-02T03:04:05+00:00",
}


BASE_FIELDS: dict[str, Any] = FIELDS | {
    "kind": "base",
    "split": None,
    "bottleneck": None,
    "base": None,
    "gains": {"readout": 64.0, "stem": 50.5},
    "split_points": {"SP1": 1, "SP2": 3},
}


def write_base(folder: Path, **changes: Any) -> Bundle:
    net, _, _ = load_join_net(5)
    return write_bundle(folder, net, golden=record(net), **(BASE_FIELDS | changes))


def write_split(folder: Path, base: str, cut: int = 3, **changes: Any) -> Bundle:
    net, _, _ = load_join_net(cut)
    fields = FIELDS | {
        "kind": "split",
        "split": "SP3",
        "bottleneck": {"channels": 2},
        "base": base,
        "gains": {"readout": 64.0},
        "split_points": {},
    }
    return write_bundle(folder, net, golden=record(net), **(fields | changes))
