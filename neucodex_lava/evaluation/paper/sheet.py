"""A table of a paper for the terminal, and as Markdown, CSV and an HTML page."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neucodex_lava.files import replacing

LEFT = 2
"""The first columns are names and stand to the left."""


@dataclass(frozen=True)
class SheetGroup:
    """Rows under one title.

    Attributes:
        title: one line.
        rows: cells as they are shown, as many as there are columns.
        remarks: lines below.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """A whole table as it is shown.

    Attributes:
        name: of its files.
        head: title.
        columns: headings.
        groups: rows by network.
        notes: what goes for all.
        records: the rows once more as plain values by name, for CSV; all of the same names.
    """

    name: str
    head: str
    columns: tuple[str, ...]
    groups: tuple[SheetGroup, ...]
    notes: tuple[str, ...]
    records: tuple[Mapping[str, Any], ...]


def terminal(sheet: Sheet) -> Any:
    """For rich's console."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for group in sheet.groups:
        made = Table(title=Text(group.title), title_justify="left", box=box.SIMPLE_HEAD)
        for i, name in enumerate(sheet.columns):
            made.add_column(name, justify="right" if i >= LEFT else "left", overflow="fold")
        for row in group.rows:
            made.add_row(*map(Text, row))
        parts += [made, Text("\n".join([*group.remarks, ""]))]
    return Group(*parts, *map(Text, sheet.notes))


def markdown(sheet: Sheet) -> str:
    """As a Markdown document."""
    lines = [f"# {sheet.head}", ""]
    for group in sheet.groups:
        lines += [f"## {group.title}", "", *markdown_rows(sheet.columns, group), ""]
        for remark in group.remarks:
            lines += [f"{remark}.", ""]
    return "\n".join([*lines, *(f"* {note}" for note in sheet.notes), ""])


def markdown_rows(columns: tuple[str, ...], group: SheetGroup) -> list[str]:
    """One group as a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in group.rows]


def comma_separated(sheet: Sheet) -> str:
    """As CSV with plain numbers, one line for each record; nothing for what is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sheet.records[0] if sheet.records else ())
    writer.writerows([_plain(value) for value in record.values()] for record in sheet.records)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return "" if value is None else value


def page(sheet: Sheet) -> str:
    """As one offline HTML page."""
    head = html.escape(sheet.head)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{head}</title>",
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem}"
        "table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .7rem;text-align:right;"
        "border-bottom:1px solid #ddd}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"
        "p{color:#444;margin:.2rem 0}h2{font-size:1.1rem;margin:2rem 0 0}</style>",
        f"<h1>{head}</h1>",
    ]
    for group in sheet.groups:
        names = "".join(f"<th>{html.escape(name)}" for name in sheet.columns)
        parts.append(f"<h2>{html.escape(group.title)}</h2><table><tr>{names}")
        parts += ["<tr>" + "".join(f"<td>{html.escape(c)}" for c in row) for row in group.rows]
        parts.append("</table>")
        parts += [f"<p>{html.escape(remark)}" for remark in group.remarks]
    parts += ["<h2>Notes</h2><ul>", *(f"<li>{html.escape(note)}" for note in sheet.notes)]
    return "\n".join([*parts, "</ul></html>", ""])


def write_sheet(sheet: Sheet, folder: Path) -> dict[str, str]:
    """Write Markdown, CSV and HTML.

    Returns:
        Their absolute paths by kind.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {"md": markdown(sheet), "csv": comma_separated(sheet), "html": page(sheet)}
    for kind, text in made.items():
        with replacing(folder / f"{sheet.name}.{kind}") as file:
            file.write(text.encode())
    return {kind: str((folder / f"{sheet.name}.{kind}").resolve()) for kind in made}
