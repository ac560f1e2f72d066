"""Our Lava backend against stock Lava: seconds per Lava step on the same network and input, in one run.

``python -m benchmarks.sim`` prints the JSON; ``neucodex bench sim`` calls `run`. In each case spikes
and counts of both sides are compared with ``==`` as well; a case that differs fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cost import cost
from benchmarks.kernel import engine_seconds, kernel
from benchmarks.networks import Spec, build, images_for
from benchmarks.random_nets import (
    PILOTNET_CONVS,
    PILOTNET_INPUT_RATE,
    pilotnet,
    random_spikes,
    small_resnet,
)
from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.netx import write_netx
from neucodex_lava.edge.simulation import SimulationResult, simulate
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.progress import Progress, progress_bars, silent
from neucodex_lava.stock_netx import run_stock_netx

Row = dict[str, Any]
Case = Callable[[int, Progress], Row]
BEST_OF = 3
"""Runs of which the fastest counts: others may keep the machine busy."""


def _small_resnet(seed: int, progress: Progress) -> Row:
    net = small_resnet(seed)
    inputs = random_spikes(net, 0.4, samples=64, timesteps=net.timesteps, seed=seed + 1)
    return _against_reference("small_resnet", net, inputs, 4, progress)


def _resnet18_sp7(seed: int, progress: Progress) -> Row:
    """ResNet-18 of full width to SP7 with its encoder, T = 2; stock Lava runs the first image only."""
    spec = Spec("resnet18", timesteps=2, split=7, seed=seed)
    built = build(spec)
    inputs, images = images_for(spec, 24)
    row = _against_reference("resnet18_sp7", built.net.edge_part(), inputs, 1, progress)
    return row | {"input": f"{images}, rate-coded"}


def _pilotnet_lif(seed: int, progress: Progress) -> Row:
    """lava-dl's own NetX on the same file; a longer run less a shorter one leaves out its start."""
    timesteps = 16
    net = pilotnet(seed, timesteps)
    timed = random_spikes(net, PILOTNET_INPUT_RATE, 40, timesteps, seed + 1)
    inputs = timed[:5]
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pilotnet.net"
        write_netx(net, path)
        for samples in (1, len(inputs)):
            began = time.perf_counter()
            stock, _ = run_stock_netx(path, net, inputs[:samples])
            seconds.append(time.perf_counter() - began)
            progress("pilotnet_lif: stock NetX", len(seconds), 2)
        # Its last node is one neuron: the output of the last convolution says more.
        head = net.with_cut(len(PILOTNET_CONVS)).edge_part()
        write_netx(head, path)
        maps, _ = run_stock_netx(path, head, inputs[:1])
    baseline_s = (seconds[1] - seconds[0]) / ((len(inputs) - 1) * timesteps)
    ours = simulate(net, inputs, backend="fused", record=True)
    twin = run_twin(Executor(net), inputs, record=True)
    assert ours.spikes is not None
    assert twin.spikes is not None
    same = _same("pilotnet_lif", ours.spikes, twin.spikes, ours.ledger, twin.ledger)
    last_map = ours.spikes[head.nodes[-1].name][:1]
    if not (np.array_equal(ours.output, stock) and np.array_equal(last_map, maps)):
        raise AssertionError("pilotnet_lif: fused and stock NetX give different spikes")
    fast = _fastest(net, timed)
    return _row("pilotnet_lif", net, inputs, fast, "stock NetX, pipelined", baseline_s) | {
        "input": f"random spikes, rate {PILOTNET_INPUT_RATE}",
        "compared_with_stock": stock.size + maps.size,
        "spikes_among_them": int(stock.sum() + maps.sum()),
        "compared_with": "twin",
        **same,
    }


def _against_reference(
    name: str, net: IntegerNet, inputs: NDArray[np.uint8], both: int, progress: Progress
) -> Row:
    """Both run the first `both` samples, and must agree; `fused` is timed on all of them."""
    timed, inputs = inputs, inputs[:both]
    steps = f"{name}: stock Lava"
    baseline = simulate(
        net,
        inputs,
        backend="reference",
        schedule="pipelined",
        record=True,
        progress=lambda done, total: progress(steps, done, total),
    )
    ours = simulate(net, inputs, backend="fused", record=True)
    assert baseline.spikes is not None
    assert ours.spikes is not None
    same = _same(name, ours.spikes, baseline.spikes, ours.ledger, baseline.ledger)
    if ours.sums is not None and not np.array_equal(ours.sums, baseline.sums):
        raise AssertionError(f"{name}: the running sums differ")
    fast = _fastest(net, timed)
    baseline_s = baseline.seconds / baseline.steps
    return _row(name, net, timed[:4], fast, "reference, pipelined", baseline_s) | same


def _fastest(net: IntegerNet, inputs: NDArray[np.uint8]) -> SimulationResult:
    runs = [simulate(net, inputs, backend="fused") for _ in range(BEST_OF)]
    return min(runs, key=lambda r: r.seconds)


def _same(
    name: str,
    ours: dict[str, NDArray[np.uint8]],
    theirs: dict[str, NDArray[np.uint8]],
    our_ledger: Ledger,
    their_ledger: Ledger,
) -> Row:
    for node, spikes in theirs.items():
        if not np.array_equal(ours[node], spikes):
            raise AssertionError(f"{name}: the spikes of node '{node}' differ")
    if our_ledger.differences(their_ledger):
        raise AssertionError(f"{name}: the counts differ")
    return {
        "spikes_compared": sum(s.size for s in theirs.values()),
        "counts_compared": sum(getattr(their_ledger, c).size for c in ALL_COUNTS),
        "differences": 0,
    }


def _row(
    name: str,
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    ours: SimulationResult,
    baseline: str,
    baseline_s: float,
) -> Row:
    steps = ours.ledger.samples * ours.ledger.timesteps
    syn_ops = ours.ledger.total("syn_ops") / steps
    ours_s = ours.seconds / ours.steps
    kernel_s = engine_seconds(net, inputs) / (inputs.shape[0] * inputs.shape[-1])
    neurons = sum(node.size for node in net.edge_nodes)
    return {
        "case": name,
        "ours": "fused, gated",
        "ours_s": ours_s,
        "baseline": baseline,
        "baseline_s": baseline_s,
        "ratio": baseline_s / ours_s,
        "synops_per_s": syn_ops / ours_s,
        "kernel_s": kernel_s,
        "kernel_synops_per_s": syn_ops / kernel_s,
        "syn_ops_per_timestep": syn_ops,
        "neurons": neurons,
        "firing_rate": ours.ledger.total("axon_out") / steps / neurons,
    }


CASES: dict[str, Case] = {
    "small_resnet": _small_resnet,
    "resnet18_sp7": _resnet18_sp7,
    "pilotnet_lif": _pilotnet_lif,
    "kernel": kernel,
    "cost": cost,
}


def run(
    *, cases: Sequence[str] = tuple(CASES), seed: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Time cases, by default all.

    Returns:
        ``{"name": "sim", "cases": [...]}``; ``ours_s`` and ``baseline_s`` are seconds per Lava step,
        each a timestep of the whole network; ``synops_per_s`` holds for the whole run in Lava,
        ``kernel_synops_per_s`` for the engine alone, neurons included.

    Raises:
        ConfigError: an unknown case.
        AssertionError: the two sides of a case do not agree.
    """
    for name in cases:
        if name not in CASES:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
    rows: list[Row] = []
    for name in cases:
        progress("bench sim", len(rows), len(cases))
        rows.append(CASES[name](seed, progress))
    progress("bench sim", len(rows), len(cases))
    return {"name": "sim", "cases": rows}


if __name__ == "__main__":
    with progress_bars() as bars:
        result = run(cases=sys.argv[1:] or tuple(CASES), progress=bars)
    print(json.dumps(result, indent=1))
