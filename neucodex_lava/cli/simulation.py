"""verify, simulate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot
from neucodex_lava.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Verify(Command):
    """Check that all backends agree with the bundle's golden record, spike for spike.

    The torch executor, Lava fused (gated and pipelined), Lava reference (stock processes), lava-dl's
    NetX where the edge part is a chain, and, with --run, SLAYER itself. Exit status 1 when anything
    differs: the first difference is named.
    """

    bundle: Positional[Path]
    """Folder of a bundle."""
    source: Annotated[Path | None, tyro.conf.arg(name="run", metavar="DIR")] = None
    """Training run of this bundle: SLAYER then runs from its checkpoint as well."""
    backends: tuple[str, ...] = ()
    """Backends to compare: slayer, twin, fused, reference, netx; by default all that can run."""

    def run(self) -> int:
        """Verify."""
        from neucodex_lava.bundle import load_bundle
        from neucodex_lava.verify import verify

        bundle = load_bundle(self.bundle)
        with self.progress() as progress:
            report = verify(
                bundle, run=self.source, backends=self.backends or None, progress=progress
            )
        self.output(report.to_dict(), report.table())
        return 0 if report.exact else 1


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
