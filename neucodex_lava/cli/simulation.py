"""verify, simulate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line
from neucodex_lava.errors import ConfigError

if TYPE_CHECKING:
    from neucodex_lava.evaluation.simulate import SimulateOptions, Simulation
    from neucodex_lava.verify import VerifyReport


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Check that all backends agree, spike for spike, on a bundle or on a lone NetX file.

    The torch executor, Lava fused (gated and pipelined), Lava reference (stock processes), lava-dl's
    NetX where the edge part is a chain, and, with --run, SLAYER itself. A bundle has a golden record; a
    file, ours or one that lava-dl wrote, runs random input, and the executor is the yardstick. Exit
    status 1 when anything differs: the first difference is named.
    """

    target: Positional[Path]
    """Folder of a bundle, or a NetX file."""
    source: Annotated[Path | None, tyro.conf.arg(name="run", metavar="DIR")] = None
    """Training run of this bundle: SLAYER then runs from its checkpoint as well."""
    backends: tuple[str, ...] = ()
    """Backends to compare: slayer, twin, fused, reference, netx; by default all that can run."""
    dataset_samples: int | None = None
    """Bundle, with --run: so many test samples (0 for all) also run in SLAYER and in the executor, and
    every sum must be the same."""
    data_root: DataRoot = None
    """Bundle: folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    record: bool = False
    """Bundle: keep in its manifest that SLAYER and the executor agreed on the test samples."""
    timesteps: int | None = None
    """File: timesteps of a sample; a file of lava-dl does not say."""
    input_shape: tuple[int, int, int] | None = None
    """File: channels, height and width of the input, where a file of lava-dl does not say."""
    input_bits: int | None = None
    """File: bits of the values an input block of lava-dl takes; 8 by default."""
    skip_layers: int | None = None
    """File: leave out so many first layers of a file of lava-dl; 1 drops an input block."""
    num_layers: int | None = None
    """File: stop after so many layers of a file of lava-dl."""
    samples: int | None = None
    """File: random samples to run; 10 by default."""
    rate: float | None = None
    """File: share of the random input that is not 0; 0.2 by default."""
    seed: int | None = None
    """File: seed of the random input; 0 by default."""

    def run(self) -> int:
        """Verify."""
        from neucodex_lava.evaluation.net_file import is_net_file

        report = self._file() if is_net_file(self.target) else self._bundle()
        self.output(report.to_dict(), report.table())
        return 0 if report.exact else 1

    def _bundle(self) -> VerifyReport:
        from neucodex_lava.bundle import load_bundle
        from neucodex_lava.verify import verify

        if given := self._of_a_file():
            raise ConfigError(f"{_option(given)} is for a lone NetX file, '{self.target}' is none")
        bundle = load_bundle(self.target)
        wanted = self.dataset_samples
        if wanted is None:
            if self.record:
                raise ConfigError("--record keeps what --dataset-samples found", "pass both")
        elif self.source is None:
            raise ConfigError(
                "--dataset-samples runs SLAYER from the training run", "pass --run DIR"
            )
        with self.progress() as progress:
            report = verify(
                bundle, run=self.source, backends=self.backends or None, progress=progress
            )
            if wanted is None or self.source is None:
                return report
            from neucodex_lava.verify.on_dataset import record_dataset, verify_on_dataset

            dataset = verify_on_dataset(
                bundle, self.source, wanted, data_root=self.data_root, progress=progress
            )
        if self.record and report.exact and dataset.exact:
            record_dataset(bundle, dataset, command_line())
        return replace(report, dataset=dataset)

    def _file(self) -> VerifyReport:
        from neucodex_lava.verify.on_file import verify_net

        if given := _given(self, ("dataset_samples", "data_root")):
            raise ConfigError(f"{_option(given)} is for a bundle, '{self.target}' is a lone file")
        if self.source is not None or self.record:
            name = "--record" if self.record else "--run"
            raise ConfigError(f"{name} is for a bundle, '{self.target}' is a lone file")
        with self.progress() as progress:
            return verify_net(
                self.target,
                backends=self.backends or None,
                progress=progress,
                **self._of_a_file(),
            )

    def _of_a_file(self) -> dict[str, Any]:
        names = (
            "timesteps", "input_shape", "input_bits", "skip_layers", "num_layers", "samples", "rate",
            "seed",
        )  # fmt: skip
        return _given(self, names)


@dataclass(frozen=True, kw_only=True)
class Simulate(Command):
    """Run the edge part of a bundle, or a lone NetX file, and print what was counted.

    A bundle runs on its test images; a file, ours or one that lava-dl wrote, on random input or on
    --input.
    """

    target: Positional[Path]
    """Folder of a bundle, or a NetX file."""
    backend: Literal["fused", "reference", "twin"] = "fused"
    """fused: our Lava process; reference: stock Lava processes; twin: the torch executor, in batches on
    all cores or a GPU."""
    schedule: Literal["gated", "pipelined"] | None = None
    """gated (default; needs gated neurons) or pipelined (default of reference)."""
    samples: int | None = None
    """Test or random samples to run, 10 by default; 0 for all test samples."""
    confirm: int = 0
    """twin: so many samples, chosen at random, also run in Lava fused and must give the same, in every
    spike of the code, every sum and every count."""
    seed: int = 0
    """Chooses the samples to confirm; also of the random input of a file."""
    batch_size: int | None = None
    """twin: samples at a time; by default what suits the caches or the GPU."""
    device: str = "cpu"
    """twin: torch device, such as cuda."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """twin: keep finished samples in this folder; the same command goes on from there."""
    ledger: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all counts per sample, connection and timestep to this JSON file."""
    split: str | None = None
    """Bundle: cut a base at this split point; by default it runs as a whole (edge-only)."""
    dataset: str | None = None
    """Bundle: another dataset of the same shape and classes instead of its own."""
    data_root: DataRoot = None
    """Bundle: folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    inputs: Annotated[Path | None, tyro.conf.arg(name="input", metavar="FILE.npy")] = None
    """File: samples saved by numpy, uint8 of axes N C H W T, instead of random ones."""
    rate: float | None = None
    """File: share of the random input that is not 0; 0.2 by default."""
    timesteps: int | None = None
    """File: timesteps of a sample; a file of lava-dl does not say. By default those of --input."""
    input_shape: tuple[int, int, int] | None = None
    """File: channels, height and width of the input, where a file of lava-dl does not say."""
    input_bits: int | None = None
    """File: bits of the values an input block of lava-dl takes; 8 by default."""
    skip_layers: int | None = None
    """File: leave out so many first layers of a file of lava-dl; 1 drops an input block."""
    num_layers: int | None = None
    """File: stop after so many layers of a file of lava-dl."""

    def run(self) -> int:
        """Simulate."""
        if self.ledger is not None and not self.ledger.parent.is_dir():
            raise ConfigError(f"'{self.ledger.parent}' is no folder to write a ledger to")
        from neucodex_lava.evaluation.net_file import is_net_file
        from neucodex_lava.report.tables import ledger_table

        try:
            found = self._file() if is_net_file(self.target) else self._bundle()
        except KeyboardInterrupt:
            if self.out is not None:
                sys.stderr.write(
                    f"neucodex: what was finished is kept in '{self.out}', the same command goes on"
                    " from there\n"
                )
            raise
        if self.ledger is not None:
            from energy import write_ledger

            write_ledger(found.ledger, self.ledger)
        title = f"Counts, means per sample (simulated). {found.summary()}"
        result = found.to_dict() | {"ledger": str(self.ledger) if self.ledger else None}
        self.output(result, ledger_table(found.layers, title=title))
        if self.ledger is not None:
            self.say(f"ledger written; next: neucodex energy {self.ledger}")
        return 0

    def _options(self) -> SimulateOptions:
        from neucodex_lava.evaluation.simulate import SimulateOptions

        return SimulateOptions(
            backend=self.backend,
            schedule=self.schedule,
            confirm=self.confirm,
            seed=self.seed,
            batch_size=self.batch_size,
            device=self.device,
            out=self.out,
        )

    def _bundle(self) -> Simulation:
        from neucodex_lava.evaluation.simulate import simulate_bundle

        names = (
            "inputs", "rate", "timesteps", "input_shape", "input_bits", "skip_layers", "num_layers",
        )  # fmt: skip
        if given := _given(self, names):
            raise ConfigError(
                f"{_option(given)} is for a lone NetX file, '{self.target}' is none",
            )
        options = self._options()
        with self.progress() as progress:
            return simulate_bundle(
                self.target,
                options,
                progress=progress,
                **_given(self, ("samples", "split", "dataset", "data_root")),
            )

    def _file(self) -> Simulation:
        from neucodex_lava.evaluation.simulate import simulate_file

        if given := _given(self, ("split", "dataset", "data_root")):
            raise ConfigError(f"{_option(given)} is for a bundle, '{self.target}' is a lone file")
        names = (
            "inputs",
            "samples",
            "rate",
            "timesteps",
            "input_shape",
            "input_bits",
            "skip_layers",
            "num_layers",
        )
        options = self._options()
        with self.progress() as progress:
            return simulate_file(self.target, options, progress=progress, **_given(self, names))


def _given(command: Command, names: Sequence[str]) -> dict[str, Any]:
    values = {name: getattr(command, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _option(given: dict[str, Any]) -> str:
    name = next(iter(given))
    return "--" + ("input" if name == "inputs" else name.replace("_", "-"))
