"""verify, simulate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot
from neucodex_lava.errors import ConfigError

if TYPE_CHECKING:
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
    timesteps: int | None = None
    """File: timesteps of a sample; a file of lava-dl does not say."""
    input_shape: tuple[int, int, int] | None = None
    """File: channels, height and width of the input, where a file of lava-dl does not say."""
    input_bits: int | None = None
    """File: bits of the values an input block of lava-dl takes; 8 by default."""
    skip_layers: int | None = None
    """File: leave out so many first layers of a file of lava-dl; 1 drops an input block."""
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
            option = next(iter(given)).replace("_", "-")
            raise ConfigError(f"--{option} is for a lone NetX file, '{self.target}' is none")
        bundle = load_bundle(self.target)
        with self.progress() as progress:
            return verify(
                bundle, run=self.source, backends=self.backends or None, progress=progress
            )

    def _file(self) -> VerifyReport:
        from neucodex_lava.verify_net import verify_net

        if self.source is not None:
            raise ConfigError(f"--run is for a bundle, '{self.target}' is a lone file")
        with self.progress() as progress:
            return verify_net(
                self.target,
                backends=self.backends or None,
                progress=progress,
                **self._of_a_file(),
            )

    def _of_a_file(self) -> dict[str, Any]:
        names = (
            "timesteps", "input_shape", "input_bits", "skip_layers", "samples", "rate", "seed",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Simulate(Command):
    """Run the edge part of a bundle in Lava and print what was counted."""

    bundle: Positional[Path]
    """Folder of a bundle."""
    backend: Literal["fused", "reference", "twin"] = "fused"
    """fused: our Lava process; reference: stock Lava processes; twin: the torch executor."""
    schedule: Literal["gated", "pipelined"] | None = None
    """gated (default; needs gated neurons) or pipelined (default of reference)."""
    samples: int = 10
    """Test samples to run; 0 for all."""
    split: str | None = None
    """Cut a base bundle at this split point; by default it runs as a whole (edge-only)."""
    ledger: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all counts per sample, connection and timestep to this JSON file."""
    dataset: str | None = None
    """Another dataset of the same shape and classes instead of the bundle's own."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""

    def run(self) -> int:
        """Simulate."""
        if self.ledger is not None and not self.ledger.parent.is_dir():
            raise ConfigError(f"'{self.ledger.parent}' is no folder to write a ledger to")
        from neucodex_lava.evaluation.simulate import simulate_bundle
        from neucodex_lava.report.tables import ledger_table

        with self.progress() as progress:
            found = simulate_bundle(
                self.bundle,
                backend=self.backend,
                schedule=self.schedule,
                samples=self.samples,
                split=self.split,
                dataset=self.dataset,
                data_root=self.data_root,
                progress=progress,
            )
        if self.ledger is not None:
            from energy import write_ledger

            write_ledger(found.ledger, self.ledger)
        title = (
            f"Counts, means per sample (simulated): {found.samples} samples ran on {found.backend},"
            f" {found.schedule}, in {found.seconds:.2f} s (measured)"
        )
        result = found.to_dict() | {"ledger": str(self.ledger) if self.ledger else None}
        self.output(result, ledger_table(found.layers, title=title))
        if self.ledger is not None:
            self.say(f"ledger written; next: neucodex energy {self.ledger}")
        return 0
