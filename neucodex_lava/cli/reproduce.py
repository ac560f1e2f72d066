"""reproduce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line
from neucodex_lava.errors import ConfigError

if TYPE_CHECKING:
    from neucodex_lava.evaluation.paper.cutoff_table import CutoffTable
    from neucodex_lava.evaluation.paper.sheet import Sheet
    from neucodex_lava.evaluation.paper.sparq_table import SparqTable
    from neucodex_lava.evaluation.paper.table1 import Table1
    from neucodex_lava.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Reproduce(Command):
    """A paper's table from our bundles, the paper's figures beside ours where they are known to us.

    Every family of bundles runs its test split in the integer executor; where its dataset is not
    there, what was kept stands in, or nothing, and the table says so.
    """

    what: Positional[Literal["table1", "sparq", "cutoff"]]
    """table1: F-B, D-B, F+B and D+B of every network (NeuCODEX, Table I); sparq: ANN, dynamic ANN, SNN,
    QSNN and QDSNN of MLP, LeNet-5 and AlexNet; cutoff: OCT and Top-K of every base network
    (SNNCutoff)."""
    exports: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("netx_exports")
    """Folder of families of bundles (a base and its splits each), or one family."""
    samples: int = 0
    """Test samples; 0 for all."""
    alpha: float | None = None
    """table1: confidence to reach, in (0, 1]; by default the bundles'."""
    runs: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """sparq: folder of runs, for the float networks, which no bundle holds; without it, what --record
    kept of them."""
    record: bool = False
    """sparq: keep what is measured in sparq.json beside the bundles."""
    recorded: bool = False
    """Run nothing: take what was kept."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write the table there, as Markdown, CSV and HTML."""

    def run(self) -> int:
        """Make the table."""
        from neucodex_lava.evaluation.paper.sheet import terminal, write_sheet
        from neucodex_lava.evaluation.sweep import require_writable

        if self.out is not None:
            require_writable(self.out)
        self._refuse_options_of_others()
        make = {"table1": self._table1, "sparq": self._sparq, "cutoff": self._cutoff}[self.what]
        with self.progress() as progress:
            table, sheet = make(progress)
        lines: list[str] = []
        if self.out is not None:
            table = replace(table, report=write_sheet(sheet, self.out))
            lines.append(f"written: {', '.join(table.report.values())}")
        self.output(table.to_dict(), terminal(sheet), *lines)
        return 0

    def _refuse_options_of_others(self) -> None:
        given = {
            "--alpha": (self.alpha is not None, "table1"),
            "--runs": (self.runs is not None, "sparq"),
            "--record": (self.record, "sparq"),
        }
        for option, (is_given, table) in given.items():
            if is_given and self.what != table:
                raise ConfigError(f"{option} has no effect on {self.what}", f"it is for {table}")

    def _table1(self, progress: Progress) -> tuple[Table1, Sheet]:
        from neucodex_lava.evaluation.paper.render import sheet
        from neucodex_lava.evaluation.paper.table1 import make_table1

        table = make_table1(
            self.exports,
            samples=self.samples,
            alpha=self.alpha,
            data_root=self.data_root,
            run=not self.recorded,
            command=command_line(),
            progress=progress,
        )
        return table, sheet(table)

    def _sparq(self, progress: Progress) -> tuple[SparqTable, Sheet]:
        from neucodex_lava.evaluation.paper.sparq import make_sparq

        table = make_sparq(
            self.exports,
            runs=self.runs,
            samples=self.samples,
            data_root=self.data_root,
            run=not self.recorded,
            record=self.record,
            command=command_line(),
            progress=progress,
        )
        return table, table.sheet()

    def _cutoff(self, progress: Progress) -> tuple[CutoffTable, Sheet]:
        from neucodex_lava.evaluation.paper.cutoff import make_cutoff

        if self.recorded:
            raise ConfigError(
                "SNNCutoff's table is not kept in any manifest: it has to be run",
                "leave out --recorded",
            )
        table = make_cutoff(
            self.exports,
            samples=self.samples,
            data_root=self.data_root,
            command=command_line(),
            progress=progress,
        )
        return table, table.sheet()
