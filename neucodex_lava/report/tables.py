"""Tables for the terminal: two of at most 100 columns; in a narrower one, more and narrower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from neucodex_lava.report.columns import (
    EXIT_COLUMNS,
    KINDS,
    LAYER_COLUMNS,
    LINK_COLUMNS,
    Column,
    Kind,
    answer_columns,
    by_split,
    exit_rows,
    layer_total,
    pipeline_columns,
    row_name,
)
from neucodex_lava.report.exit_heads import structural_table
from neucodex_lava.report.results import LayerRow, Results, Row
from neucodex_lava.report.si import DASH, si
from neucodex_lava.report.summary import best_row, exit_notes, vain_exits

_STYLES: dict[Kind, str] = {"measured": "green", "simulated": "cyan", "modelled": "yellow"}
NO_CUT = "no cut"
_UNBOUNDED = 10_000


def results_table(results: Results) -> RenderableType:
    """All rows by split point: answers and energy, pipeline, link and time, then a legend."""
    pipeline = pipeline_columns(results)
    return Group(
        _Rows(results, "Accuracy and edge energy, per sample", answer_columns(results)),
        Text(),
        *_exits(results),
        *([structural, Text()] if (structural := structural_table(results)) else []),
        *([_Rows(results, "Pipeline, per sample", pipeline)] if pipeline else []),
        *([Text(f"{vain_exits(results)}\n")] if pipeline else []),
        _Rows(results, "Link and time, per sample", LINK_COLUMNS),
        Text(),
        legend(),
    )


def _exits(results: Results) -> list[RenderableType]:
    """What exits cost and how far they are from the oracle's; nothing in tables of older versions."""
    rows = [r for r in exit_rows(results) if r.oct is not None]
    if not rows:
        return []
    table = _Rows(results, "Exits, per sample", EXIT_COLUMNS, tuple(rows))
    return [table, Text(), *(Text(f"{note}\n") for note in exit_notes(results))]


def legend() -> Text:
    """What measured, simulated and modelled mean, a line each."""
    text = Text()
    for index, (kind, meaning) in enumerate(KINDS.items()):
        text.append("\n" if index else "")
        text.append(f"{kind:<9}", style=_STYLES[kind])
        text.append(f"  {meaning}")
    return text


def ledger_table(
    layers: Sequence[LayerRow], title: str = "Counts, means per sample (simulated)"
) -> Table:
    """Counts per layer, edge and cloud apart, each with its total; all are simulated."""
    table = _table(title)
    table.add_column("layer", no_wrap=True)
    for column in LAYER_COLUMNS:
        table.add_column(_heading(column.heading), justify="right", overflow="fold")
    for side in ("edge", "cloud"):
        part = [x for x in layers if (x.side == "cloud") is (side == "cloud")]
        if not part:
            continue
        for layer in part:
            table.add_row(Text(layer.name), *(c.show(layer) for c in LAYER_COLUMNS))
        table.add_section()
        total = layer_total(part)
        cells = [c.show(total) if c.key != "firing_rate" else "" for c in LAYER_COLUMNS]
        table.add_row(f"{side} total", *cells, style="bold")
        table.add_section()
    return table


def energy_table(
    models: Mapping[str, Mapping[str, float]], title: str = "Energy per sample"
) -> Table:
    """Energy by part (rows) under each model (columns), with totals.

    Args:
        models: model name to part name (``synaptic operations``, ``neuron updates``, ...) to
            joules.
        title: over the table.
    """
    table = _table(title)
    table.add_column("part", overflow="fold")
    for name in models:
        table.add_column(_heading(name, "modelled"), justify="right")
    for part in dict.fromkeys(part for parts in models.values() for part in parts):
        table.add_row(Text(part), *(si(parts.get(part), "J") for parts in models.values()))
    table.add_section()
    totals = (si(sum(parts.values()), "J") for parts in models.values())
    table.add_row("total", *totals, style="bold")
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="",
    )


def _heading(words: str, kind: Kind | None = None) -> Text:
    text = Text(words, style="bold")
    if kind is not None:
        text.append(f"\n{kind}", style=f"not bold {_STYLES[kind]}")
    return text


@dataclass(frozen=True)
class _Rows:
    """Rows by split point, in as many tables side by side as the width asks for."""

    results: Results
    title: str
    columns: tuple[Column, ...]
    some: tuple[Row, ...] = ()

    @property
    def rows(self) -> Sequence[Row]:
        """Those shown: all, unless only some are to be."""
        return self.some or self.results.rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Columns in which no row has a figure (times where no bridge ran) would only take width.
        left = [c for c in self.columns if any(text != DASH for text in self._cells(c))]
        title = self.title
        unbounded = options.update(width=_UNBOUNDED)
        while left:
            fitting = len(left)
            table = self._table(title, left)
            while (
                fitting > 1
                and console.measure(table, options=unbounded).maximum > options.max_width
            ):
                fitting -= 1
                table = self._table(title, left[:fitting])
            yield table
            left, title = left[fitting:], f"{self.title} (continued)"

    def _cells(self, column: Column) -> list[str]:
        return [column.show(self.results, row) for row in self.rows]

    def _table(self, title: str, columns: list[Column]) -> Table:
        table = _table(title)
        table.add_column("", overflow="fold")
        for column in columns:
            heading = _heading(column.heading, column.kind)
            table.add_column(heading, justify="right", no_wrap=True, overflow="fold")
        best = best_row(self.results)
        for split, rows in by_split(self.rows).items():
            table.add_row(Text(split or NO_CUT, style="bold"))
            for row in rows:
                cells = (c.show(self.results, row) for c in columns)
                style = "bold" if row is best else ""
                name = row_name(self.results, row)
                table.add_row(Text(f" {name}"), *cells, style=style)
            table.add_section()
        return table
