"""evaluate, sweep, demo, energy, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line
from neucodex_lava.cli.link_options import LinkOptions
from neucodex_lava.cli.policy_options import PolicyOptions
from neucodex_lava.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neucodex_lava.bundle import Bundle
    from neucodex_lava.report.results import Results


@dataclass(frozen=True, kw_only=True)
class Evaluation(LinkOptions, PolicyOptions, Command):
    """Options of evaluate and sweep."""

    split: tuple[str, ...] = ()
    """Split points, e.g. --split SP1 SP3; by default all there are bundles for."""
    samples: int = 0
    """Test samples; 0 for all."""
    confirm: int = 100
    """Samples that also run for real, in Lava and over a socket, and must agree."""
    backend: Literal["twin", "fused"] = "twin"
    """twin: all samples in the torch executor, --confirm of them for real; fused: all for real."""
    schedule: Literal["gated", "pipelined"] = "gated"
    """Of the edge: gated (needs gated neurons) or pipelined (as stock neurons run)."""
    policy: tuple[str, ...] = ("confidence",)
    """Exit policies of the dynamic configurations, a row for each: confidence, entropy, patience,
    fixed, oracle (which knows the labels), and what neucodex calibrate keeps in the bundle; all for
    every one. confidence+patience stops when both do, confidence/patience when either does."""
    energy_model: str = "paper-23pJ"
    """Prices the edge's counts: paper-23pJ, loihi-davies2018, loihi-sanafe, horowitz-45nm or
    horowitz-45nm-fp32."""
    dataset: str | None = None
    """Another dataset of the same shape and classes instead of the bundle's own."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the report (HTML and JSON); by default out/<architecture>-<dataset>."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Run the executor on a Ray cluster: HOST:PORT from one of its nodes, ray://HOST:PORT from
    anywhere, or auto. The samples of --confirm run here all the same, and the rows are the same."""
    processes: int = 0
    """Run the executor in so many processes of this machine; 0: in threads of this one."""
    record: bool = False
    """Keep the table in the manifest of the bundle asked for, or of every bundle of a sweep."""

    def evaluate(self, base: Bundle, bundles: Sequence[Bundle], recorded: Sequence[Bundle]) -> int:
        """Evaluate, print the table, and keep it in these bundles if asked to."""
        from neucodex_lava.evaluation.fanout import fan_out
        from neucodex_lava.evaluation.record import record_table
        from neucodex_lava.evaluation.sweep import evaluate_bundles

        if self.record and self.policy != ("confidence",):
            raise ConfigError(
                "--record keeps the table of the confidence policy",
                "leave out --policy or --record",
            )
        if self.record and self.dataset is not None:
            raise ConfigError(
                "--record keeps what was measured on the bundle's own dataset",
                "leave out --dataset or --record",
            )
        with fan_out(self.ray, self.processes) as run, self.progress() as progress:
            results = evaluate_bundles(
                base,
                bundles,
                splits=self.split,
                samples=self.samples,
                confirm=self.confirm,
                backend=self.backend,
                schedule=self.schedule,
                policies=self.policy,
                numbers=self.numbers(),
                costs=self.costs(),
                energy_model=self.energy_model,
                dataset=self.dataset,
                data_root=self.data_root,
                out=self.out,
                command=command_line(),
                run=run,
                progress=progress,
            )
        if self.record:
            record_table(results, recorded)
        print_results(self, results)
        return 0


def print_results(command: Command, results: Results) -> None:
    """The table on the terminal and where the report lies, or the JSON."""
    from neucodex_lava.report.tables import results_table

    command.output(results.to_dict(), results_table(results), f"report: {results.report}")


@dataclass(frozen=True, kw_only=True)
class Evaluate(Evaluation):
    """Evaluate all configurations of one bundle: F-B, D-B, F+B, D+B, edge-only, cloud-only."""

    bundle: Positional[Path]
    """Folder of a split bundle, or of a base bundle (F-B and D-B at its split points)."""
    base: Annotated[Path | None, tyro.conf.arg(metavar="BUNDLE")] = None
    """Base of a split bundle; by default the sibling folder that fits."""

    def run(self) -> int:
        """Evaluate."""
        from neucodex_lava.evaluation.sweep import find_bundles

        base, bundles = find_bundles(self.bundle, base=self.base)
        return self.evaluate(base, bundles, bundles or [base])


@dataclass(frozen=True, kw_only=True)
class Sweep(Evaluation):
    """Evaluate every split point in a folder of bundles, in one report."""

    folder: Positional[Path] = Path("netx_exports/resnet-small-digits")
    """Folder that holds a base bundle and split bundles."""

    def run(self) -> int:
        """Sweep."""
        from neucodex_lava.evaluation.sweep import find_sweep

        base, bundles = find_sweep(self.folder)
        return self.evaluate(base, bundles, [base, *bundles])


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """The main job on real handwritten digits, offline, in a few minutes.

    Trains the small ResNet, inserts bottlenecks at three split points, exports and verifies the
    bundles, runs all test digits in the executor and 100 for real (Lava and a gRPC server on
    loopback), prints the table and writes the report.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out/demo")
    """Folder for runs, bundles and report; interrupted demos resume from it."""
    confirm: int = 100
    """Test digits that also run for real."""
    policy: tuple[str, ...] = ("confidence",)
    """Exit policies, a row for each: confidence, entropy, patience, fixed, oracle, and those that are
    calibrated first, on half of the test digits, as topk or guaranteed; all for every one; joined by
    + (all stop) or / (any stops), as in confidence+patience."""
    alpha: float = 0.9
    """Of the confidence policy: the confidence to reach, in (0, 1]."""
    seed: int = 0
    """Of the training."""

    def run(self) -> int:
        """Run the demo."""
        from neucodex_lava.demo import demo

        with self.progress() as progress:
            results = demo(
                self.out,
                confirm=self.confirm,
                policies=self.policy,
                alpha=self.alpha,
                seed=self.seed,
                command=command_line(),
                say=self.say,
                progress=progress,
            )
        print_results(self, results)
        return 0


@dataclass(frozen=True, kw_only=True)
class Energy(Command):
    """Price a ledger written by ``simulate --ledger`` (modelled joules)."""

    ledger: Positional[Path]
    """JSON file of counts."""
    model: str = "paper-23pJ"
    """Device model: paper-23pJ, loihi-davies2018, loihi-sanafe, horowitz-45nm or
    horowitz-45nm-fp32."""

    def run(self) -> int:
        """Price it."""
        from energy import price, read_ledger
        from neucodex_lava.report.tables import energy_table

        report = price(read_ledger(self.ledger), self.model)
        parts = {report.model.name: dict(report.by_event_j)}
        self.output(
            report.to_dict(), energy_table(parts, title=f"Energy per sample, {self.ledger}")
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write the HTML page again from the ``results.json`` of an evaluation."""

    results: Positional[Path]
    """File written by demo, evaluate or sweep."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the report; by default the file's own."""

    def run(self) -> int:
        """Render it."""
        from neucodex_lava.report.html import write_report
        from neucodex_lava.report.results import Results

        results = Results.read(self.results)
        page = write_report(results, self.out or self.results.parent)
        self.output({"report": str(page)}, f"report: {page}")
        return 0
