"""Table I for the terminal, and as Markdown, CSV and an HTML page."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neucodex_lava.evaluation.paper.table1 import Table1, TableGroup, TableRow
from neucodex_lava.files import replacing
from neucodex_lava.report.si import DASH, count, interval, percent

NAME = "table1"
UNKNOWN = DASH
HEAD = "Table I of NeuCODEX: ours, and the paper's"
LEGEND = (
    "Accuracy: share of right test answers with its 95 % Wilson interval, or mean ± standard deviation"
    " over the seeds (measured). T: mean timesteps (measured). SynOps: of the edge part, a sample"
    " (simulated), and MACs where its input is graded. Bits: payload a sample, as sent (modelled from"
    " the codec). Paper: the paper's accuracy. Difference: ours less the paper's, in percentage"
    " points. – : not measured, or not known to us."
)


def _accuracy(row: TableRow) -> str:
    if row.accuracy_spread is not None:
        spread = 100 * row.accuracy_spread
        return f"{percent(row.accuracy, 2)} ± {spread:.2f} ({row.seeds} seeds)"
    if row.accuracy_interval is not None:
        return f"{percent(row.accuracy, 2)} ({interval(*row.accuracy_interval)})"
    return percent(row.accuracy, 2)


def _timesteps(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _split(row: TableRow) -> str:
    if row.split is None:
        return "uncut"
    if row.code_shape is None:
        return row.split
    return f"{row.split} {'x'.join(map(str, row.code_shape))}"


def _difference(row: TableRow) -> str:
    points = row.difference_points
    return UNKNOWN if points is None else f"{points:+.1f}".replace("-", "−")


COLUMNS: tuple[tuple[str, Callable[[TableRow], str]], ...] = (
    ("split, code", _split),
    ("", lambda r: r.configuration),
    ("accuracy", _accuracy),
    ("T", lambda r: _timesteps(r.mean_timesteps)),
    ("edge SynOps", lambda r: count(r.syn_ops)),
    ("MACs", lambda r: count(r.macs)),
    ("bits", lambda r: count(r.payload_bits)),
    (
        "paper",
        lambda r: UNKNOWN if r.paper_accuracy is None else percent(r.paper_accuracy),
    ),
    ("paper's T", lambda r: _timesteps(r.paper_timesteps)),
    ("difference", _difference),
)


def _conditions(group: TableGroup) -> str:
    if all(row.paper_accuracy is None for row in group.rows):
        return "No figure of the paper's is known to us for this network and dataset"
    return "Differs from the paper: " + "; ".join(group.differs)


def _source(group: TableGroup) -> str:
    samples = max(row.samples for row in group.rows)
    sources = "; ".join(dict.fromkeys(row.source for row in group.rows))
    return f"Bundles: {', '.join(group.folders)}; {samples:,} test samples; measured by {sources}"


def _notes(table: Table1) -> list[str]:
    paper = table.paper
    return [
        *table.missing,
        *table.notes,
        f"The paper: {paper.paper}. {paper.known}",
        f"Its conditions: {paper.conditions_source}.",
        f"It says of itself: {'; '.join(paper.claims)}.",
        LEGEND,
    ]


def terminal(table: Table1) -> Any:
    """For rich's console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for group in table.groups:
        made = Table(title=Text(group.title), title_justify="left", box=box.SIMPLE_HEAD)
        for i, (name, _) in enumerate(COLUMNS):
            made.add_column(name, justify="right" if i > 1 else "left", overflow="fold")
        for row in group.rows:
            made.add_row(*(Text(show(row)) for _, show in COLUMNS))
        parts += [made, Text(f"{_conditions(group)}\n{_source(group)}\n")]
    return Group(*parts, *(Text(note) for note in _notes(table)))


def markdown(table: Table1) -> str:
    """As a Markdown document."""
    lines = [f"# {HEAD}", ""]
    for group in table.groups:
        lines += [f"## {group.title}", "", *markdown_rows(group), ""]
        lines += [f"{_conditions(group)}.", "", f"{_source(group)}.", ""]
    return "\n".join([*lines, *(f"* {note}" for note in _notes(table)), ""])


def markdown_rows(group: TableGroup) -> list[str]:
    """One kind of network as a Markdown table."""
    lines = ["| " + " | ".join(name for name, _ in COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    return lines + ["| " + " | ".join(show(r) for _, show in COLUMNS) + " |" for r in group.rows]


def comma_separated(table: Table1) -> str:
    """As CSV with plain numbers, one line for each configuration."""
    out = io.StringIO()
    of_group = ("architecture", "width", "head", "dataset", "t_max", "coding")
    of_row = list(TableRow.__dataclass_fields__)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*of_group, "seed_numbers", *of_row])
    for group in table.groups:
        head = [getattr(group, name) for name in of_group]
        for row in group.rows:
            seeds = " ".join(map(str, group.seeds))
            writer.writerow([*head, seeds, *(_plain(getattr(row, name)) for name in of_row)])
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else value


def page(table: Table1) -> str:
    """As one offline HTML page."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{html.escape(HEAD)}</title>",
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem}"
        "table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .7rem;text-align:right;"
        "border-bottom:1px solid #ddd}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"
        "p{color:#444;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 0}</style>",
        f"<h1>{html.escape(HEAD)}</h1>",
    ]
    for group in table.groups:
        head = "".join(f"<th>{html.escape(name)}" for name, _ in COLUMNS)
        parts.append(f"<h2>{html.escape(group.title)}</h2><table><tr>{head}")
        for row in group.rows:
            cells = (html.escape(show(row)) for _, show in COLUMNS)
            parts.append("<tr>" + "".join(f"<td>{cell}" for cell in cells))
        parts.append("</table>")
        parts += [f"<p>{html.escape(text)}" for text in (_conditions(group), _source(group))]
    parts += ["<h2>Notes</h2><ul>"]
    parts += [f"<li>{html.escape(note)}" for note in _notes(table)]
    return "\n".join([*parts, "</ul></html>", ""])


def write_table(table: Table1, folder: Path) -> dict[str, str]:
    """Write Markdown, CSV and HTML.

    Returns:
        Their absolute paths by kind.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {"md": markdown(table), "csv": comma_separated(table), "html": page(table)}
    for kind, text in made.items():
        with replacing(folder / f"{NAME}.{kind}") as file:
            file.write(text.encode())
    return {kind: str((folder / f"{NAME}.{kind}").resolve()) for kind in made}
