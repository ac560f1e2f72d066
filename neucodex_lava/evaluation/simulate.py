"""Simulate the edge part of a bundle, or a lone NetX file, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from energy.ledger import Ledger
from neucodex_lava.bundle import load_bundle
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.dataset_run import confirm, random_subset, run_dataset
from neucodex_lava.evaluation.input_file import read_inputs
from neucodex_lava.evaluation.layers import layer_rows
from neucodex_lava.evaluation.net_file import check_run, load_net_target, random_inputs
from neucodex_lava.evaluation.samples import GivenSamples, Samples, open_samples
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.integer_net import IntegerNet, Shape
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import LayerRow

BackendName = Literal["fused", "reference", "twin"]
ScheduleName = Literal["gated", "pipelined"]


@dataclass(frozen=True)
class SimulateOptions:
    """How to run.

    Attributes:
        backend: ``fused``, ``reference`` or ``twin`` (the torch executor).
        schedule: by default ``gated``, for ``reference`` ``pipelined``.
        confirm: `twin`: so many random samples run in Lava ``fused`` as well and must give the same.
        seed: chooses them.
        batch_size: `twin`: samples at a time; by default what suits the device.
        device: `twin`: torch device.
        out: `twin`: folder that keeps finished samples; the same run goes on from them.

    Raises:
        ConfigError: options that do not go together, or outside of what is possible.
    """

    backend: BackendName = "fused"
    schedule: ScheduleName | None = None
    confirm: int = 0
    seed: int = 0
    batch_size: int | None = None
    device: str = "cpu"
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.confirm < 0:
            raise ConfigError(f"{self.confirm} samples to confirm, at least 0 is possible")
        if self.backend == "twin":
            if self.schedule == "pipelined":
                raise ConfigError(
                    "the executor has no pipeline",
                    "use --backend fused for the pipelined schedule",
                )
            return
        given = {
            "--confirm": self.confirm > 0,
            "--batch-size": self.batch_size is not None,
            "--device": self.device != "cpu",
            "--out": self.out is not None,
        }
        for option, is_given in given.items():
            if is_given:
                raise ConfigError(f"{option} goes with --backend twin, not with {self.backend}")


@dataclass(frozen=True, eq=False)
class Simulation:
    """Counts of a simulation.

    Attributes:
        samples, backend, schedule: what was run.
        ran: samples that each backend ran.
        seconds: wall time of each, without building it (measured).
        resumed: of the samples, those that an earlier command had run.
        confirmed: numbers of the samples that Lava gave the same for, spike, sum and count.
        layers: mean counts per sample.
        ledger: all counts.
    """

    samples: int
    backend: str
    schedule: str
    ran: Mapping[str, int]
    seconds: Mapping[str, float]
    resumed: int
    confirmed: list[int]
    layers: list[LayerRow]
    ledger: Ledger

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "samples": self.samples,
            "backend": self.backend,
            "schedule": self.schedule,
            "ran": dict(self.ran),
            "seconds": dict(self.seconds),
            "resumed": self.resumed,
            "confirmed": self.confirmed,
            "layers": [asdict(layer) for layer in self.layers],
            "relay": asdict(self.ledger.relay),
            "outside_window": asdict(self.ledger.outside_window),
        }

    def summary(self) -> str:
        """Which backend ran how many samples, in how long."""
        parts = [
            f"{self.ran[name]} on {name} in {seconds:.2f} s (measured)"
            for name, seconds in self.seconds.items()
        ]
        before = f", {self.resumed} of them by an earlier command" if self.resumed else ""
        n = len(self.confirmed)
        same = f"; these {n} agree in every spike of the code, sum and count" if n else ""
        return f"{self.samples} samples, {self.schedule}: {', '.join(parts)}{before}{same}"


def simulate_bundle(
    folder: Path,
    options: SimulateOptions,
    *,
    samples: int = 10,
    split: str | None = None,
    dataset: str | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Simulation:
    """Run the edge part over whole samples (no early exit) and count.

    Args:
        folder: a bundle.
        options: how.
        samples: test samples, 0 for all.
        split: cut a base bundle there; by default it runs as a whole.
        dataset, data_root: as `open_samples`.
        progress: called as samples finish.

    Raises:
        NeucodexError: a bundle, dataset, backend or schedule that is not possible.
    """
    bundle = load_bundle(folder)
    net = cut_bundle(bundle, split) if split is not None else bundle.net
    seen = open_samples(bundle, samples, data_root=data_root, dataset=dataset)
    return _simulate(net, seen, options, progress)


def simulate_file(
    path: Path,
    options: SimulateOptions,
    *,
    inputs: Path | None = None,
    samples: int | None = None,
    rate: float | None = None,
    timesteps: int | None = None,
    input_shape: Shape | None = None,
    input_bits: int | None = None,
    skip_layers: int = 0,
    num_layers: int | None = None,
    progress: Progress = silent,
) -> Simulation:
    """Run a lone NetX file as a whole and count.

    Args:
        path: a file of ours or of lava-dl.
        options: how; its seed is also that of random input.
        inputs: a ``.npy`` file of samples; by default they are random.
        samples, rate: of random input, as `random_inputs`.
        timesteps: as `load_net_target`; by default those of `inputs`.
        input_shape, input_bits, skip_layers, num_layers: as `load_net_target`.
        progress: called as samples finish.

    Raises:
        NeucodexError: a file, input, backend or schedule that is not possible.
    """
    for name, value in (("samples", samples), ("rate", rate)):
        if inputs is not None and value is not None:
            raise ConfigError(f"--{name} is for random input, --input brings its own")
    given = None if inputs is None else read_inputs(inputs)
    if given is not None and timesteps is None:
        timesteps = int(given.shape[-1])
    net = load_net_target(
        path,
        timesteps=timesteps,
        input_shape=input_shape,
        input_bits=input_bits,
        skip_layers=skip_layers,
        num_layers=num_layers,
    )
    count = len(given) if given is not None else 10 if samples is None else samples
    check_run(net, count)
    if given is None:
        given = random_inputs(net, count, 0.2 if rate is None else rate, options.seed)
    return _simulate(net, GivenSamples(given), options, progress)


def _simulate(
    net: IntegerNet, samples: Samples, options: SimulateOptions, progress: Progress
) -> Simulation:
    backend, total = options.backend, len(samples)
    schedule: ScheduleName = options.schedule or (
        "pipelined" if backend == "reference" else "gated"
    )
    ran, seconds = {backend: total}, {}
    resumed, chosen = 0, random_subset(total, min(options.confirm, total), options.seed)

    def show(done: int, all_of_them: int) -> None:
        progress(f"simulate {backend}", done, all_of_them)

    if backend == "twin":
        found = run_dataset(
            net,
            samples,
            batch_size=options.batch_size,
            device=options.device,
            folder=options.out,
            progress=show,
        )
        ledger, resumed, seconds[backend] = found.all.ledger, found.resumed, found.seconds
        if chosen.size:
            ran["fused"] = len(chosen)
            seconds["fused"] = confirm(
                net,
                samples,
                found.all,
                chosen,
                lambda done, some: progress("confirm in Lava", done, some),
            )
    else:
        result = simulate(net, samples.take(), backend=backend, schedule=schedule, progress=show)
        ledger, seconds[backend] = result.ledger, result.seconds
    return Simulation(
        samples=total,
        backend=backend,
        schedule=schedule,
        ran=ran,
        seconds=seconds,
        resumed=resumed,
        confirmed=chosen.tolist(),
        layers=layer_rows(ledger, "edge"),
        ledger=ledger,
    )
