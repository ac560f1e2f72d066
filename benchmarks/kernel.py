"""The engine's kernels on one core: G SynOps/s per layer of a full-width head, and what bounds them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.networks import Spec, build, images_for
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.engine.gather import add_64
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import (
    DECAY_ONE,
    INPUT,
    THRESHOLD_MAX,
    Connection,
    IntegerNet,
    Neuron,
    Node,
)
from neucodex_lava.progress import Progress

ROUNDS = 7
"""The fastest of so many counts."""
SILENT = Neuron(voltage_decay=DECAY_ONE, threshold=THRESHOLD_MAX)
L1_BYTES = 16 << 10
NOISE_S = 5e-6
"""A difference of two times below this says nothing."""


def engine_seconds(net: IntegerNet, inputs: NDArray[np.uint8], rounds: int = ROUNDS) -> float:
    """CPU seconds that the engine alone, without Lava, takes for all samples.

    CPU time, because others may keep the machine busy; it adds up threads, and so is one core's.

    Args:
        net: whose part before the cut runs.
        inputs: (N, C, H, W, T).
        rounds: the fastest counts.
    """
    engine = FusedEngine(Wiring.of(net, "gated", inputs.shape[-1]))
    links, nodes = engine.zero_counts(1)
    frames = np.ascontiguousarray(inputs.transpose(0, 4, 3, 2, 1))
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for sample in frames:
            for t, frame in enumerate(sample):
                engine.step(frame, t == 0, links[0], nodes[0])
        best = min(best, time.process_time() - began)
    return best


def kernel(seed: int, progress: Progress) -> dict[str, Any]:
    """ResNet-18 of full width to SP7 with its encoder, T = 2, real activity: whole and per layer.

    A layer's time is that of its synapses alone: a run with its spikes less one without any.
    """
    spec = Spec("resnet18", timesteps=2, split=7, seed=seed)
    net = build(spec).net.edge_part()
    inputs, images = images_for(spec, 4)
    steps = inputs.shape[0] * inputs.shape[-1]
    twin = run_twin(Executor(net), inputs, record=True)
    assert twin.spikes is not None
    values = {INPUT: inputs, **twin.spikes}
    total_s = engine_seconds(net, inputs) / steps
    layers: list[dict[str, Any]] = []
    for row, (node, link) in enumerate(net.connections()):
        source = values[link.source]
        syn_ops = int(twin.ledger.syn_ops[:, row].sum()) / steps
        synapse_s, neuron_s = (s / steps for s in _layer_seconds(node, link, source))
        layers.append(
            {
                "layer": f"{link.source} -> {node.name}",
                "kind": link.kind,
                "from": list(net.shape_of(link.source)),
                "to": list(node.shape),
                "kernel": list(link.weight.shape[2:]),
                "input_rate": float(source.mean()),
                "syn_ops_per_timestep": syn_ops,
                "synapse_s": synapse_s,
                "synops_per_s": syn_ops / synapse_s if synapse_s > NOISE_S else None,
                "neuron_s": neuron_s,
            }
        )
        progress("kernel", row + 1, sum(1 for _ in net.connections()))
    syn_ops = sum(layer["syn_ops_per_timestep"] for layer in layers)
    synapse_s = sum(layer["synapse_s"] for layer in layers)
    limit_s = syn_ops / _limit()
    return {
        "case": "kernel",
        "ours": "engine, one core, neurons included",
        "ours_s": total_s,
        "baseline": "limit: innermost loop alone, weights in L1",
        "baseline_s": limit_s,
        "ratio": limit_s / total_s,
        "synops_per_s": syn_ops / synapse_s,
        "kernel_synops_per_s": syn_ops / total_s,
        "synapse_s": synapse_s,
        "neuron_s": sum({x["layer"].split()[-1]: x["neuron_s"] for x in layers}.values()),
        "limit_synops_per_s": syn_ops / limit_s,
        "syn_ops_per_timestep": syn_ops,
        "input": f"{images}, rate-coded",
        "layers": layers,
    }


def _layer_seconds(node: Node, link: Connection, spikes: NDArray[np.uint8]) -> tuple[float, float]:
    """Seconds of the connection's synapses, and of the node's neurons with the engine's own cost."""
    alone = replace(link, source=INPUT)
    bias = np.zeros(node.shape[0], np.int32)
    one = Node(node.name, node.shape, SILENT, bias, (alone,))
    net = IntegerNet(tuple(spikes.shape[1:4]), (one,), 1, spikes.shape[-1])
    without = engine_seconds(net, np.zeros_like(spikes))
    return max(engine_seconds(net, spikes) - without, 0.0), without


@njit
def _only_adds(weight: Any, line: Any, index: Any, part: Any, times: int) -> None:
    for _ in range(times):
        add_64(weight, 0, line, index, 0, index.size, part)


def _limit() -> float:
    """SynOps/s of the gathering kernel's innermost loop alone, its weights in the first-level cache."""
    rows, lanes = L1_BYTES // 64, 64
    weight = np.zeros(rows * lanes, np.int8)
    index = np.arange(rows, dtype=np.int32)
    line, part = np.zeros(rows, np.uint8), np.zeros(lanes, np.int16)
    times = (1 << 28) // weight.size
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        _only_adds(weight, line, index, part, times)
        best = min(best, time.process_time() - began)
    return times * weight.size / best
