"""Accuracy under outage: 0 to 100 % of the exchanges lost, over a real socket, by whose answer it was.

    python -m benchmarks.outage netx_exports/resnet-small-digits/sp1 --out outage.svg
    python -m benchmarks.outage BASE --split SP2 --samples 180 --json

The edge runs in Lava, the tail on a server of this process, a proxy between them. An exchange is lost
with the given probability: nothing passes until the sample's deadline is over. Every sample ends with
one result (`host_bridge.client.ladder`): the cloud's at the timestep where the policy stopped, its
latest before, the exit head's on the edge where the bundle has one before the cut, or none. A result of
nobody counts as wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host_bridge import serving
from host_bridge.client.ladder import Source
from host_bridge.links import FaultProxy, Faults
from neucodex_lava.bundle import load_bundle
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.live import LiveOptions, run_live
from neucodex_lava.evaluation.measured import LinkUse, connect
from neucodex_lava.evaluation.policies import OWN, choose_policy
from neucodex_lava.evaluation.samples import load_indexed_samples
from neucodex_lava.evaluation.serve import cut_bundle, open_tail
from neucodex_lava.exits.policy import Action, ExitPolicy
from neucodex_lava.files import replacing

LOSSES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STALLED, CLEAR = Faults(stalled=True), Faults()


@dataclass(frozen=True)
class Weather:
    """The policy, and dice that decide before each timestep whether its exchange is lost."""

    policy: ExitPolicy
    proxy: FaultProxy
    loss: float
    dice: random.Random

    @property
    def t_max(self) -> int:
        return self.policy.t_max

    def start(self) -> Any:
        self._throw()
        return self.policy.start()

    def step(self, state: Any, t: int, sums: Any) -> tuple[Any, Action]:
        state, action = self.policy.step(state, t, sums)
        if action is Action.CONTINUE:
            self._throw()
        return state, action

    def actions(self, sums: Any) -> Any:
        return self.policy.actions(sums)

    def _throw(self) -> None:
        self.proxy.faults = STALLED if self.dice.random() < self.loss else CLEAR


def run(
    folder: Path,
    *,
    split: str | None = None,
    policy: str = "confidence",
    samples: int = 60,
    deadline_s: float = 0.25,
    losses: tuple[float, ...] = LOSSES,
    seed: int = 0,
) -> dict[str, Any]:
    """Run the samples once for every share of loss."""
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split)
    choice = choose_policy(bundle, policy, OWN)
    inputs, labels, _ = load_indexed_samples(
        bundle, samples, leave_out=[choice.half] if choice.half else []
    )
    configuration = Configuration("outage", split, bundle, net, dynamic=True)
    rows: list[dict[str, Any]] = []
    # Lava forks, so it starts before anything of gRPC does.
    with EdgeSession(net, keep_ledger=True) as session:
        session.start_sample()
        with serving(open_tail(folder, split=split)) as server:
            for loss in losses:
                proxy = FaultProxy(server, seed=seed)
                with proxy as address:
                    weather = Weather(choice.policy, proxy, loss, random.Random(f"{seed}:{loss}"))
                    # Opened by `run_live`, in fair weather: the dice are thrown from then on.
                    with closing(connect(configuration, address, LinkUse())) as client:
                        started = time.perf_counter()
                        options = LiveOptions(deadline_s)
                        live = run_live(inputs, weather, session, client, options)
                        took_s = time.perf_counter() - started
                rows.append(_row(loss, live.samples, labels, took_s))
                print(f"{loss:.0%}: {rows[-1]}", file=sys.stderr)
    return {
        "name": "outage",
        "bundle": str(folder),
        "network": f"{bundle.manifest.architecture} on {bundle.manifest.dataset}",
        "split": split or bundle.manifest.split,
        "policy": policy,
        "samples": len(labels),
        "deadline_s": deadline_s,
        "basis": "measured: Lava on the edge, a real server, losses made by a proxy",
        "rows": rows,
    }


def _row(loss: float, samples: list[Any], labels: Any, took_s: float) -> dict[str, Any]:
    right = np.array([one.prediction == label for one, label in zip(samples, labels, strict=True)])
    found = [one.verdict.source for one in samples]
    row: dict[str, Any] = {"loss": loss, "accuracy": float(right.mean()), "seconds": took_s}
    for source in Source:
        mine = np.array([one is source for one in found])
        row[f"{source.value}_share"] = float(mine.mean())
        row[f"{source.value}_accuracy"] = float(right[mine].mean()) if mine.any() else None
    row["mean_timesteps"] = float(np.mean([one.timesteps for one in samples]))
    return row


def plot(report: dict[str, Any], path: Path) -> None:
    """Accuracy, and whose the answers were, against loss."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = report["rows"]
    loss = [100 * row["loss"] for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.stackplot(
        loss,
        [[100 * row[f"{source.value}_share"] for row in rows] for source in Source],
        labels=[
            "the cloud's, as the policy stopped",
            "the cloud's latest before",
            "the edge's own",
            "none",
        ],
        colors=["#9ecae1", "#c6dbef", "#fdd0a2", "#eeeeee"],
    )
    axes.plot(
        loss, [100 * row["accuracy"] for row in rows], "o-", color="#222222", label="accuracy"
    )
    axes.plot(
        loss,
        [100 * _right_of_cloud(row) for row in rows],
        "--",
        color="#222222",
        label="accuracy without the edge's own",
    )
    axes.set(xlabel="exchanges lost (%)", ylabel="% of samples", xlim=(0, 100), ylim=(0, 100))
    axes.set_title(
        f"{report['network']}, cut at {report['split']}, {report['samples']} samples, "
        f"{1e3 * report['deadline_s']:.0f} ms each (measured)",
        fontsize=10,
    )
    axes.legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    with replacing(path) as file:
        pyplot.savefig(file, format=path.suffix.removeprefix(".") or "svg")
    pyplot.close(figure)


def _right_of_cloud(row: dict[str, Any]) -> float:
    """Share of all samples that the cloud answered rightly."""
    names = [source.value for source in (Source.CLOUD, Source.EARLIER)]
    return sum(row[f"{name}_share"] * (row[f"{name}_accuracy"] or 0.0) for name in names)


def main() -> None:
    """Run, plot, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--policy", default="confidence")
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--deadline-ms", type=float, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="an SVG or PNG of the curve")
    arguments = parser.parse_args()
    report = run(
        arguments.bundle,
        split=arguments.split,
        policy=arguments.policy,
        samples=arguments.samples,
        deadline_s=arguments.deadline_ms / 1e3,
        seed=arguments.seed,
    )
    if arguments.out:
        plot(report, arguments.out)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
