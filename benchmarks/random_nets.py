"""Integer networks with seeded random weights, made without any training code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.integer_net import (
    INPUT,
    READOUT,
    Connection,
    IntegerNet,
    Neuron,
    Node,
    Shape,
)


class _Builder:
    """Random residual networks whose layers fire at a moderate rate."""

    def __init__(self, input_shape: Shape, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shapes: dict[str, Shape] = {INPUT: input_shape}
        self.nodes: list[Node] = []

    def conv(self, source: str, out: int, kernel: int, stride: int = 1) -> Connection:
        weight = self.rng.normal(0, 14, (out, self.shapes[source][0], kernel, kernel))
        even = 2 * np.clip(np.rint(weight), -128, 127).astype(np.int16)
        pad = kernel // 2
        return Connection(source, "conv", even, 0, (stride, stride), (pad, pad))

    def add(self, name: str, *connections: Connection) -> str:
        shape = connections[0].output_shape(self.shapes[connections[0].source])
        assert shape is not None
        # Threshold about the spread of the sums at a tenth of the inputs firing.
        inputs = sum(c.weight[0].size for c in connections if c.kind == "conv")
        threshold = int(28 * np.sqrt(0.1 * inputs) * 1.2)
        neuron = Neuron(voltage_decay=2048, threshold=threshold)
        bias = self.rng.integers(0, threshold // 3, shape[0])
        self.nodes.append(Node(name, shape, neuron, bias, connections))
        self.shapes[name] = shape
        return name

    def block(self, source: str, name: str, width: int, stride: int) -> str:
        inner = self.add(f"{name}.a", self.conv(source, width, 3, stride))
        same = self.shapes[source] == self.shapes[inner]
        shortcut = (
            Connection(source, "identity", np.array(120))
            if same
            else self.conv(source, width, 1, stride)
        )
        return self.add(f"{name}.b", self.conv(inner, width, 3), shortcut)

    def readout(self, source: str, classes: int) -> None:
        weight = 2 * self.rng.integers(-40, 41, (classes, int(np.prod(self.shapes[source]))))
        link = Connection(source, "dense", weight)
        bias = np.zeros(classes, int)
        self.nodes.append(Node("readout", (classes, 1, 1), READOUT, bias, (link,)))

    def net(self, timesteps: int) -> IntegerNet:
        nodes = tuple(self.nodes)
        return IntegerNet(self.shapes[INPUT], nodes, len(nodes), timesteps)


def small_resnet(seed: int) -> IntegerNet:
    """The demo's size: 8x8 digits, widths 16, 32, 64, one block each, cut after the readout."""
    builder = _Builder((1, 8, 8), seed)
    at = builder.add("stem", builder.conv(INPUT, 16, 3))
    for name, width, stride in (("r1", 16, 1), ("r2", 32, 2), ("r3", 64, 2)):
        at = builder.block(at, name, width, stride)
    builder.readout(at, 10)
    return builder.net(timesteps=4)


def random_spikes(
    net: IntegerNet, rate: float, samples: int, timesteps: int, seed: int
) -> NDArray[np.uint8]:
    """Spikes (N, C, H, W, T) of a mean rate, each with its own chance."""
    rng = np.random.default_rng(seed)
    return (rng.random((samples, *net.input_shape, timesteps)) < rate).astype(np.uint8)


PILOTNET_INPUT: Shape = (3, 66, 200)
PILOTNET_CONVS = (
    (24, (2, 2), (0, 0)),
    (36, (2, 2), (0, 0)),
    (48, (2, 2), (0, 0)),
    (64, (2, 1), (1, 0)),
    (64, (1, 1), (0, 0)),
)
"""Channels, stride and padding (y, x) of its 3x3 convolutions."""
PILOTNET_DENSE = (100, 50, 10, 1)
PILOTNET_NEURON = Neuron(voltage_decay=1024)
PILOTNET_INPUT_RATE = 0.89
PILOTNET_RATES = (0.09, 0.10, 0.12, 0.11, 0.11, 0.09, 0.04, 0.03, 0.03)
"""Mean firing rates that lava-dl 0.6.0 records for its own trained PilotNet-LIF (the ground truth of
its tests); its last neuron integrates, ours spikes so that there is something to compare."""


def pilotnet(seed: int, timesteps: int) -> IntegerNet:
    """PilotNet-LIF's geometry and neurons (lava-dl's ``network.net``), random weights.

    Each layer's threshold is the one at which it fires at about `PILOTNET_RATES`.
    """
    rng = np.random.default_rng(seed)
    nodes: list[Node] = []
    source, shape = INPUT, PILOTNET_INPUT
    links: list[tuple[Shape, Connection]] = []
    for i, (out, stride, padding) in enumerate(PILOTNET_CONVS):
        weight = _even(rng, (out, shape[0], 3, 3))
        link = Connection(source, "conv", weight, stride=stride, padding=padding)
        found = link.output_shape(shape)
        assert found is not None
        links.append((found, link))
        source, shape = f"conv{i}", found
    for i, out in enumerate(PILOTNET_DENSE):
        weight = _even(rng, (out, int(np.prod(shape))))
        links.append(((out, 1, 1), Connection(source, "dense", weight)))
        source, shape = f"fc{i}", (out, 1, 1)
    names = [*(f"conv{i}" for i in range(5)), *(f"fc{i}" for i in range(4))]
    seen: NDArray[np.uint8] | None = None
    for name, (shape, link), rate in zip(names, links, PILOTNET_RATES):
        alone = Node(name, shape, PILOTNET_NEURON, np.zeros(shape[0], int), (link,))
        if seen is None:
            first = IntegerNet(PILOTNET_INPUT, (alone,), 1, timesteps)
            seen = random_spikes(first, PILOTNET_INPUT_RATE, 2, timesteps, seed)
        node, seen = _at_rate(alone, seen, rate)
        nodes.append(node)
    return IntegerNet(PILOTNET_INPUT, tuple(nodes), len(nodes), timesteps)


def _even(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int16]:
    return 2 * np.clip(np.rint(rng.normal(0, 6, shape)), -128, 127).astype(np.int16)


def _at_rate(node: Node, x: NDArray[np.uint8], rate: float) -> tuple[Node, NDArray[np.uint8]]:
    """The node with the threshold at which it fires at this mean rate for `x`, and its spikes."""
    link = replace(node.connections[0], source=INPUT)
    low, high = 0, 20_000
    while True:
        middle = (low + high) // 2
        neuron = replace(node.neuron, threshold=middle)
        one = replace(node, neuron=neuron, connections=(link,))
        net = IntegerNet(tuple(x.shape[1:4]), (one,), 1, x.shape[-1])
        out = run_twin(Executor(net), x, count=False).output
        if high - low <= 1:
            return replace(node, neuron=neuron), out
        low, high = (middle, high) if out.mean() > rate else (low, middle)
