"""The valid files that the fuzzer damages: ours of every kind, and lava-dl's. Run as a script."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from exit_nets import exit_net
from foreign_files import NEURON, conv, dense, even, write_foreign
from plain import delayed_net, load_join_net, random_net

from neucodex_lava.edge.netx import write_netx
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node


def write(folder: Path) -> None:
    """Write them into a new folder."""
    folder.mkdir()
    write_netx(load_join_net(5)[0], folder / "ours-join.net")
    write_netx(delayed_net()[0], folder / "ours-delays.net")
    write_netx(exit_net(0)[0].with_cut(5), folder / "ours-exits.net")
    for seed in (1, 4):
        net = random_net(seed)[0]
        write_netx(replace(net, cut=len(net.nodes)), folder / f"ours-random{seed}.net")
    lava_dl(folder / "theirs-input.net", block=True, variable=True)
    lava_dl(folder / "theirs-spikes.net", block=False, variable=True)
    lava_dl(folder / "theirs-fixed.net", block=False, variable=False)
    square(folder / "theirs-square.net")


def lava_dl(path: Path, block: bool, variable: bool) -> None:
    """A chain of all that lava-dl writes and reads, in HDF5's oldest format."""
    rng = np.random.default_rng(5)
    first = (
        {"weight": np.float32([64]), "bias": np.float32([-8]), "neuron": NEURON} if block else {}
    )
    write_foreign(
        path,
        {"type": "input", "shape": (2, 6, 5)} | first,
        conv(
            even(rng, 4, 1, 3, 2), (4, 3, 6), stride=(2, 1), padding=(1, 1), groups=2, inChannels=2,
            outChannels=4, kernelSize=(3, 2), bias=even(rng, 4),
        ),
        {"type": "flatten", "shape": (72, 1, 1)},
        dense(even(rng, 7, 72), delay=rng.integers(0, 4, 7).astype(np.float32)),
        dense(even(rng, 5, 7)),
    )  # fmt: skip
    if not variable:
        with h5py.File(path, "r+") as file:
            for name in [f"layer/{i}/neuron/type" for i in (0, 1, 3, 4)]:
                if name in file:
                    del file[name]
                    file[name] = np.bytes_(b"CUBA")


def square(path: Path, neurons: int = 512) -> None:
    """As many outputs as inputs: any number of further layers may be the same one, by links."""
    weight = 2 * np.random.default_rng(6).integers(-3, 4, (neurons, neurons))
    net = IntegerNet(
        (neurons, 1, 1),
        (Node("a", (neurons, 1, 1), Neuron(), np.zeros(neurons, int),
              (Connection("input", "dense", weight),)),),
        1,
        2,
    )  # fmt: skip
    write_netx(net, path)
    with h5py.File(path, "r+") as file:
        del file["neucodex"]


if __name__ == "__main__":
    write(Path(sys.argv[1]) / "pristine")
