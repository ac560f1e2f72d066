"""Cost per timestep against SynOps: `fused` in Lava, networks of several sizes at many activities.

Cost is wall time, the fastest of many short runs, and beside it CPU time of all processes together,
which also holds on a busy machine.

``python -m benchmarks.cost`` draws ``docs/cost.svg``; ``neucodex bench sim --case cost`` measures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import Spec, build, images_for
from energy.ledger import CONNECTION_COUNTS
from neucodex_lava.edge.fused import FusedRun
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.progress import Progress, progress_bars

SIZES = {
    "ResNet-18, SP3": Spec("resnet18", timesteps=2, split=3, stride=2),
    "ResNet-18, SP7": Spec("resnet18", timesteps=2, split=7),
    "ResNet-18, quarter width, SP3": Spec("resnet18", timesteps=2, split=3, stride=2, width=0.25),
}
ACTIVITIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors on the firing rates of a trained network."""
SAMPLES = 24
BLOCK_S, BLOCKS = 0.3, 5
"""CPU seconds that each block of runs takes at least, and blocks; the cheapest block counts."""
SYN_OPS = CONNECTION_COUNTS.index("syn_ops")
FLOOR_S = 1e-3
"""What the floor must stay under, per timestep."""


def cost(seed: int, progress: Progress) -> dict[str, Any]:
    """Measure all points and fit seconds per timestep = intercept + slope * SynOps, per size.

    Beside the intercept stands what a timestep takes in which no neuron fires, only the input. The
    intercept lies above it where the first spikes cost more than later ones: cost is then no line.
    """
    points: list[dict[str, Any]] = []
    images = ""
    for size, spec in SIZES.items():
        for activity in ACTIVITIES:
            net = build(spec, activity=activity).net.edge_part()
            inputs, images = images_for(spec, SAMPLES)
            points.append(
                {
                    "size": size,
                    "activity": activity,
                    "neurons": sum(n.size for n in net.nodes),
                    **_measure(net, inputs),
                }
            )
            progress("cost", len(points), len(SIZES) * len(ACTIVITIES))
    fits = {size: fit([p for p in points if p["size"] == size]) for size in SIZES}
    cpu = {size: fit([p for p in points if p["size"] == size], "cpu_s") for size in SIZES}
    silent = [p for p in points if p["activity"] == 0]
    for p in silent:
        fits[p["size"]]["silent_s"] = p["seconds"]
        cpu[p["size"]]["silent_s"] = p["cpu_s"]
    worst = max(found["intercept_s"] for found in fits.values())
    return {
        "case": "cost",
        "ours": "intercept of the straight line, costliest size, per timestep",
        "ours_s": worst,
        "baseline": "required floor",
        "baseline_s": FLOOR_S,
        "ratio": FLOOR_S / worst,
        "silent_s": max(p["seconds"] for p in silent),
        "worst_r2": min(found["r2"] for found in fits.values()),
        "fits": fits,
        "cpu_fits": cpu,
        "points": points,
        "input": f"{images}, rate-coded",
    }


def _measure(net: IntegerNet, inputs: NDArray[np.uint8]) -> dict[str, float]:
    """SynOps, wall seconds and CPU seconds, each per timestep."""
    timesteps = inputs.shape[-1]
    frames = [(inputs[n, ..., t], t == 0) for n in range(len(inputs)) for t in range(timesteps)]
    with FusedRun(Wiring.of(net, "gated", timesteps)) as run:

        def once() -> tuple[float, int]:
            began, syn_ops, sent = time.perf_counter(), 0, 0
            for _ in frames:
                while sent < len(frames) and run.room:
                    run.send(frames[sent][0], start=frames[sent][1])
                    sent += 1
                syn_ops += int(run.receive().links[:, SYN_OPS].sum())
            return time.perf_counter() - began, syn_ops

        _, syn_ops = once()
        wall = cpu = float("inf")
        for _ in range(BLOCKS):
            began, runs = _cpu_seconds(run.pids), 0
            while (used := _cpu_seconds(run.pids) - began) < BLOCK_S:
                wall = min(wall, once()[0])
                runs += 1
            cpu = min(cpu, used / runs)
    steps = len(frames)
    return {"syn_ops": syn_ops / steps, "seconds": wall / steps, "cpu_s": cpu / steps}


def _cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time so far of this process and these, which the kernel counts in ticks of 10 ms."""
    total = time.process_time()
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def fit(points: Sequence[dict[str, Any]], of: str = "seconds") -> dict[str, float]:
    """Least squares: intercept in seconds per timestep, nanoseconds per SynOp, R squared."""
    x = np.array([p["syn_ops"] for p in points])
    y = np.array([p[of] for p in points])
    slope, intercept = np.polyfit(x, y, 1)
    rest = y - (intercept + slope * x)
    r2 = 1 - float((rest**2).sum() / ((y - y.mean()) ** 2).sum())
    return {"intercept_s": float(intercept), "ns_per_synop": float(slope * 1e9), "r2": r2}


def plot(row: dict[str, Any], out: Path) -> None:
    """Draw points and fits as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "neucodex"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for size, found in row["fits"].items():
        chosen = [p for p in row["points"] if p["size"] == size]
        x = np.array([p["syn_ops"] for p in chosen]) / 1e6
        dots = axes.plot(x, [1e3 * p["seconds"] for p in chosen], "o", markersize=5)[0]
        ends = np.array([0, x.max()])
        line = 1e3 * found["intercept_s"] + found["ns_per_synop"] * ends
        axes.plot(
            ends,
            line,
            color=dots.get_color(),
            linewidth=1,
            label=f"{size}: {1e3 * found['intercept_s']:.2f} ms +"
            f" {1e3 * found['ns_per_synop']:.0f} ms per G SynOps, R² = {found['r2']:.2f};"
            f" silent {1e3 * found['silent_s']:.2f} ms",
        )
    axes.set_xlabel("million SynOps per timestep")
    axes.set_ylabel("ms per timestep, fused in Lava")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/cost.svg"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with progress_bars() as progress:
        row = cost(options.seed, progress)
    plot(row, options.out)
    for what in ("fits", "cpu_fits"):
        for size, found in row[what].items():
            print(what, size, found, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
