"""Tables for the terminal; each fits 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from neucodex_lava.report.columns import (
    KINDS,
    LAYER_COLUMNS,
    LINK_COLUMNS,
    Column,
    Kind,
    answer_columns,
    by_split,
)
from neucodex_lava.report.results import LayerRow, Results
from neucodex_lava.report.si import si
from neucodex_lava.report.summary import best_row

_STYLES: dict[Kind, str] = {"measured": "green", "simulated": "cyan", "modelled": "yellow"}
NO_CUT = "no cut"


def results_table(results: Results) -> RenderableType:
    """All rows by split point: answers and energy, then link and time, then a legend."""
    return Group(
        _rows(results, "Accuracy and edge energy, per sample", answer_columns(results)),
        Text(),
        _rows(results, "Link and time, per sample", LINK_COLUMNS),
        Text(),
        legend(),
    )


def legend() -> Text:
    """What measured, simulated and modelled mean, a line each."""
    text = Text()
    for index, (kind, meaning) in enumerate(KINDS.items()):
        text.append("\n" if index else "")
        text.append(f"{kind:<9}", style=_STYLES[kind])
        text.append(f"  {meaning}")
    return text


def ledger_table(layers: Sequence[LayerRow], title: str = "Counts per sample") -> Table:
    """Counts per layer, with a total; `layers` in network order."""
    table = _table(title)
    table.add_column("layer", overflow="fold")
    for column in LAYER_COLUMNS:
        table.add_column(_heading(column.heading, "simulated"), justify="right")
    edge, cloud = ([x for x in layers if (x.side == "cloud") is side] for side in (False, True))
    for name, part in (("edge", edge), ("cloud", cloud)):
        for layer in part:
            table.add_row(Text(layer.name), *(c.show(layer) for c in LAYER_COLUMNS))
        if part:
            total = _total(part)
            cells = [c.show(total) if c.key in _SUMMED else "" for c in LAYER_COLUMNS]
            table.add_section()
            table.add_row(f"{name} total", *cells, style="bold")
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


_SUMMED = {"syn_ops", "syn_ops_nonzero", "macs", "dendrite_updates", "axon_out"}


def _total(layers: Sequence[LayerRow]) -> LayerRow:
    sums = {key: sum(getattr(x, key) for x in layers) for key in _SUMMED}
    return LayerRow(name="", side="", spikes_in=0.0, firing_rate=0.0, **sums)


def _table(title: str) -> Table:
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="",
    )


def _heading(words: str, kind: Kind | None) -> Text:
    text = Text(words, style="bold")
    if kind is not None:
        text.append(f"\n{kind}", style=f"not bold {_STYLES[kind]}")
    return text


def _rows(results: Results, title: str, columns: Sequence[Column]) -> Table:
    # Columns in which no row has a figure (times where no bridge ran) would only take width.
    shown = [c for c in columns if any(c.show(results, r) != "–" for r in results.rows)]
    table = _table(title)
    table.add_column("", overflow="fold")
    for column in shown:
        table.add_column(_heading(column.heading, column.kind), justify="right")
    best = best_row(results)
    for split, rows in by_split(results).items():
        table.add_row(Text(split or NO_CUT, style="bold"))
        for row in rows:
            name = Text(f" {row.configuration}")
            style = "bold" if row is best else ""
            table.add_row(name, *(c.show(results, row) for c in shown), style=style)
        table.add_section()
    return table
