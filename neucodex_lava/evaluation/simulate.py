"""Simulate a bundle's edge part on test samples, on any backend."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from energy.ledger import Ledger
from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor, run_twin
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.layers import layer_rows
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import LayerRow


@dataclass(frozen=True, eq=False)
class Simulation:
    """Counts of a simulation.

    Attributes:
        samples, backend, schedule: what was run.
        seconds: wall time of the run, without building it (measured).
        layers: mean counts per sample.
        ledger: all counts.
    """

    samples: int
    backend: str
    schedule: str
    seconds: float
    layers: list[LayerRow]
    ledger: Ledger

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "samples": self.samples,
            "backend": self.backend,
            "schedule": self.schedule,
            "seconds": self.seconds,
            "layers": [asdict(layer) for layer in self.layers],
            "relay": asdict(self.ledger.relay),
            "outside_window": asdict(self.ledger.outside_window),
        }


def simulate_bundle(
    folder: Path,
    *,
    backend: Literal["fused", "reference", "twin"] = "fused",
    schedule: Literal["gated", "pipelined"] | None = None,
    samples: int = 10,
    split: str | None = None,
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Simulation:
    """Run the edge part over whole samples (no early exit) and count.

    Args:
        folder: a bundle.
        backend: ``fused``, ``reference`` or ``twin`` (the torch executor).
        schedule: by default ``gated``, for ``reference`` ``pipelined``.
        samples: test samples, 0 for all.
        split: cut a base bundle there; by default it runs as a whole.
        dataset, data_root: as `load_samples`.
        progress: called as samples finish.

    Raises:
        NeucodexError: a bundle, dataset, backend or schedule that is not possible.
    """
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split) if split is not None else bundle.net
    if schedule is None:
        schedule = "pipelined" if backend == "reference" else "gated"
    if backend == "twin" and schedule != "gated":
        raise ConfigError(
            "the executor has no pipeline", "use --backend fused for the pipelined schedule"
        )
    inputs, _ = load_samples(bundle, samples, data_root=data_root, dataset=dataset)

    def show(done: int, total: int) -> None:
        progress(f"simulate {backend}", done, total)

    if backend == "twin":
        started = time.perf_counter()
        ledger = run_twin(Executor(net, stop=net.cut), inputs, progress=show).ledger
        seconds = time.perf_counter() - started
    else:
        result = simulate(net, inputs, backend=backend, schedule=schedule, progress=show)
        ledger, seconds = result.ledger, result.seconds
    layers = layer_rows(ledger, "edge")
    return Simulation(len(inputs), backend, schedule, seconds, layers, ledger)
