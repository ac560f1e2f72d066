"""`fused` against `reference`: seconds per Lava step on the same network and input, in one run.

``python -m benchmarks.sim`` prints the JSON; ``neucodex bench sim`` calls `run`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neucodex_lava.edge.engine import FusedEngine
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import (
    INPUT,
    READOUT,
    Connection,
    IntegerNet,
    Neuron,
    Node,
    Shape,
)

REPEATS = 16
"""`fused` is so much faster that it runs the same input this often to be timed at all."""


@dataclass(frozen=True)
class Case:
    """A network and its input.

    Attributes:
        build: seed to network.
        rate: firing rate of the random input.
        samples: how many samples both backends run.
    """

    build: Callable[[int], IntegerNet]
    rate: float
    samples: int


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


CASES = {"small_resnet": Case(small_resnet, rate=0.4, samples=4)}


def run(*, cases: Sequence[str] = tuple(CASES), seed: int = 0) -> dict[str, Any]:
    """Time all cases.

    Returns:
        ``{"name": "sim", "cases": [...]}``; ``ours_s`` and ``baseline_s`` are seconds per Lava step,
        each a timestep of the whole network; ``synops_per_s`` holds for the whole run in Lava,
        ``kernel_synops_per_s`` for the engine alone.

    Raises:
        ConfigError: an unknown case.
    """
    for name in cases:
        if name not in CASES:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
    return {"name": "sim", "cases": [_time(name, CASES[name], seed) for name in cases]}


def _time(name: str, case: Case, seed: int) -> dict[str, Any]:
    net = case.build(seed)
    shape = (case.samples, *net.input_shape, net.timesteps)
    inputs = (np.random.default_rng(seed + 1).random(shape) < case.rate).astype(np.uint8)
    baseline = simulate(net, inputs, backend="reference", schedule="pipelined")
    ours = simulate(net, np.concatenate([inputs] * REPEATS), backend="fused")
    syn_ops = baseline.ledger.total("syn_ops")
    if ours.ledger.total("syn_ops") != REPEATS * syn_ops:
        raise AssertionError(f"{name}: the backends count differently")
    ours_s, baseline_s = ours.seconds / ours.steps, baseline.seconds / baseline.steps
    timesteps = case.samples * net.timesteps
    spikes = baseline.ledger.total("axon_out")
    kernel_s = _kernel_seconds(net, inputs) / timesteps
    return {
        "case": name,
        "ours": "fused, gated",
        "ours_s": ours_s,
        "baseline": "reference, pipelined",
        "baseline_s": baseline_s,
        "ratio": baseline_s / ours_s,
        "synops_per_s": syn_ops / timesteps / ours_s,
        "kernel_s": kernel_s,
        "kernel_synops_per_s": syn_ops / timesteps / kernel_s,
        "syn_ops_per_timestep": syn_ops / timesteps,
        "firing_rate": spikes / timesteps / sum(node.size for node in net.edge_nodes),
    }


def _kernel_seconds(net: IntegerNet, inputs: np.ndarray) -> float:
    engine = FusedEngine(Wiring.of(net, "gated", inputs.shape[-1]))
    links, nodes = engine.zero_counts(1)
    frames = np.ascontiguousarray(inputs.transpose(0, 4, 3, 2, 1))
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for sample in frames:
            for t, frame in enumerate(sample):
                engine.step(frame, t == 0, links[0], nodes[0])
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
