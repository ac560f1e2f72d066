"""reproduce."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line


@dataclass(frozen=True, kw_only=True)
class Reproduce(Command):
    """A table of the paper from our bundles, the paper's figures beside ours, differences marked.

    Every family of bundles runs its test split in the integer executor; where its dataset is not
    there, what its manifests keep stands in, and the table says so.
    """

    what: Positional[Literal["table1"]]
    """table1: F-B, D-B, F+B and D+B of every network (NeuCODEX, Table I)."""
    exports: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("netx_exports")
    """Folder of families of bundles (a base and its splits each), or one family."""
    samples: int = 0
    """Test samples; 0 for all."""
    alpha: float | None = None
    """Confidence to reach, in (0, 1]; by default the bundles'."""
    recorded: bool = False
    """Run nothing: take what the manifests keep."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write table1.md, table1.csv and table1.html there."""

    def run(self) -> int:
        """Make the table."""
        from neucodex_lava.evaluation.paper.render import sheet
        from neucodex_lava.evaluation.paper.sheet import terminal, write_sheet
        from neucodex_lava.evaluation.paper.table1 import make_table1
        from neucodex_lava.evaluation.sweep import require_writable

        if self.out is not None:
            require_writable(self.out)
        with self.progress() as progress:
            table = make_table1(
                self.exports,
                samples=self.samples,
                alpha=self.alpha,
                data_root=self.data_root,
                run=not self.recorded,
                command=command_line(),
                progress=progress,
            )
        lines: list[str] = []
        if self.out is not None:
            table = replace(table, report=write_sheet(sheet(table), self.out))
            lines.append(f"written: {', '.join(table.report.values())}")
        self.output(table.to_dict(), terminal(sheet(table)), *lines)
        return 0
