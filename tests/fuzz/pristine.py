"""The valid files that the fuzzer damages: ours of every kind, and lava-dl's. Run as a script."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from plain import delayed_net, load_join_net, random_net

from neucodex_lava.edge.netx import write_netx
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node


def write(folder: Path) -> None:
    """Write them into a new folder."""
    folder.mkdir()
    write_netx(load_join_net(5)[0], folder / "ours-join.net")
    write_netx(delayed_net()[0], folder / "ours-delays.net")
    for seed in (1, 4):
        net = random_net(seed)[0]
        write_netx(replace(net, cut=len(net.nodes)), folder / f"ours-random{seed}.net")
    lava_dl(folder / "theirs-input.net", block=True, variable=True)
    lava_dl(folder / "theirs-spikes.net", block=False, variable=True)
    lava_dl(folder / "theirs-fixed.net", block=False, variable=False)
    square(folder / "theirs-square.net")


def lava_dl(path: Path, block: bool, variable: bool) -> None:
    """A file with the keys and types that SLAYER's blocks export, in HDF5's oldest format.

    Written out, since importing SLAYER takes longer than hundreds of cases; test_foreign.py holds it
    against what SLAYER writes.
    """
    rng = np.random.default_rng(5)

    def even(*size: int) -> np.ndarray:
        return (2 * rng.integers(-20, 40, size)).astype(np.float32)

    with h5py.File(path, "w") as file:

        def put(layer: int, kind: str, **fields: object) -> None:
            group = file.create_group(f"layer/{layer}")
            group.create_dataset("type", (1,), "S10", [kind.encode("ascii")])
            for key, value in fields.items():
                group.create_dataset(key, data=value)

        def neuron(layer: int) -> None:
            fields = {
                "type": "CUBA" if variable else np.bytes_(b"CUBA"),
                "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False,
            }  # fmt: skip
            for key, value in fields.items():
                file.create_dataset(f"layer/{layer}/neuron/{key}", data=value)

        put(0, "input", shape=np.array([2, 6, 5]))
        if block:
            file.create_dataset("layer/0/weight", data=np.array([64.0], np.float32))
            file.create_dataset("layer/0/bias", data=np.array([-8.0], np.float32))
            neuron(0)
        put(
            1, "conv", shape=np.array([4, 3, 4]), inChannels=2, outChannels=4, kernelSize=(3, 2),
            stride=(2, 1), padding=(1, 0), dilation=(1, 1), groups=2, weight=even(4, 1, 3, 2),
            bias=even(4),
        )  # fmt: skip
        neuron(1)
        put(2, "flatten", shape=np.array([48, 1, 1]))
        put(3, "dense", shape=np.array([7]), inFeatures=48, outFeatures=7, weight=even(7, 48))
        file.create_dataset("layer/3/delay", data=rng.integers(0, 4, 7).astype(np.float32))
        neuron(3)
        put(4, "dense", shape=np.array([5]), inFeatures=7, outFeatures=5, weight=even(5, 7))
        neuron(4)


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
