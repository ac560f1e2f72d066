"""Where samples were answered: shares of all of them, and of each class (SPARQ's figure)."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from neucodex_lava.report import svg
from neucodex_lava.report.plots import share_bars
from neucodex_lava.report.results import Results, Row
from neucodex_lava.report.si import percent

_MAX_CLASSES = 100


def structural_rows(results: Results) -> list[Row]:
    """Rows whose samples were answered at exit heads."""
    return [row for row in results.rows if row.exits and sum(row.exit_histogram)]


def structural_table(results: Results) -> Table | None:
    """Share of samples that each exit answered, a row for each policy; None without exit heads."""
    rows = structural_rows(results)
    if not rows:
        return None
    title = Text("Answered at exit, share of samples (measured)", style="bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("policy")
    for name in rows[0].exits:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in rows:
        shares = (count / sum(row.exit_histogram) for count in row.exit_histogram)
        table.add_row(Text(row.policy), *map(percent, shares))
    return table


@svg.drawn
def exits_by_class(row: Row) -> svg.Plot | None:
    """Share of each class's samples that each exit, or timestep, answered, a bar for each class."""
    classes = row.exit_histogram_by_class[:_MAX_CLASSES]
    if not classes:
        return None
    names = [f"class {number}" for number in range(len(classes))]
    timesteps = [f"{t + 1}" for t in range(len(row.exit_histogram))]
    legend = "answered at exit" if row.exits else "stopped after timestep"
    fig = share_bars(names, classes, row.exits or timesteps, legend)
    spoken = "; ".join(f"{name}: {counts}" for name, counts in zip(names, classes))
    where = " ".join(part for part in (row.split, row.configuration, row.policy) if part)
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in where)
    title = f"Exits by class, {where}"
    return svg.render(fig, f"exits-by-class-{letters}", title, spoken)
