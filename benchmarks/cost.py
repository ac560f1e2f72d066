"""Cost per timestep against SynOps: `fused` in Lava, networks of several sizes at many activities.

``python -m benchmarks.cost`` draws ``docs/cost.svg``; ``neucodex bench sim --case cost`` measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import Spec, build, images_for
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.progress import Progress, progress_bars

SIZES = {
    "ResNet-18, SP3": Spec("resnet18", timesteps=2, split=3, stride=2),
    "ResNet-18, SP7": Spec("resnet18", timesteps=2, split=7),
    "ResNet-18, quarter width, SP3": Spec("resnet18", timesteps=2, split=3, stride=2, width=0.25),
}
ACTIVITIES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors on the firing rates of a trained network."""
SAMPLES, BEST_OF = 24, 3
FLOOR_S = 1e-3
"""What the floor must stay under, per timestep."""


def cost(seed: int, progress: Progress) -> dict[str, Any]:
    """Measure all points and fit seconds per timestep = floor + slope * SynOps, per size."""
    points: list[dict[str, Any]] = []
    images = ""
    for size, spec in SIZES.items():
        for activity in ACTIVITIES:
            net = build(spec, activity=activity).net.edge_part()
            inputs, images = images_for(spec, SAMPLES)
            runs = [simulate(net, inputs, backend="fused") for _ in range(BEST_OF)]
            steps = SAMPLES * spec.timesteps
            points.append(
                {
                    "size": size,
                    "activity": activity,
                    "neurons": sum(n.size for n in net.nodes),
                    "syn_ops": runs[0].ledger.total("syn_ops") / steps,
                    "seconds": min(r.seconds for r in runs) / steps,
                }
            )
            progress("cost", len(points), len(SIZES) * len(ACTIVITIES))
    fits = {size: fit([p for p in points if p["size"] == size]) for size in SIZES}
    worst = max(f["floor_s"] for f in fits.values())
    return {
        "case": "cost",
        "ours": "fixed floor of the costliest size, per timestep",
        "ours_s": worst,
        "baseline": "required floor",
        "baseline_s": FLOOR_S,
        "ratio": FLOOR_S / worst,
        "fits": fits,
        "points": points,
        "input": f"{images}, rate-coded",
    }


def fit(points: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Least squares: floor in seconds per timestep, nanoseconds per SynOp, R squared."""
    x = np.array([p["syn_ops"] for p in points])
    y = np.array([p["seconds"] for p in points])
    slope, floor = np.polyfit(x, y, 1)
    rest = y - (floor + slope * x)
    r2 = 1 - float((rest**2).sum() / ((y - y.mean()) ** 2).sum())
    return {"floor_s": float(floor), "ns_per_synop": float(slope * 1e9), "r2": r2}


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
        line = 1e3 * found["floor_s"] + found["ns_per_synop"] * ends
        axes.plot(
            ends,
            line,
            color=dots.get_color(),
            linewidth=1,
            label=f"{size}: {1e3 * found['floor_s']:.2f} ms + {found['ns_per_synop']:.2f} ns/SynOp,"
            f" R² = {found['r2']:.4f}",
        )
    axes.set_xlabel("million SynOps per timestep")
    axes.set_ylabel("ms per timestep, fused in Lava")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
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
    for size, found in row["fits"].items():
        print(size, found, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
