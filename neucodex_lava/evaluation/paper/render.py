"""Table I as it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from neucodex_lava.evaluation.paper.sheet import Sheet, SheetGroup
from neucodex_lava.evaluation.paper.table1 import Table1, TableGroup, TableRow
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

NAMES = tuple(name for name, _ in COLUMNS)


def _conditions(group: TableGroup) -> str:
    if all(row.paper_accuracy is None for row in group.rows):
        return "No figure of the paper's is known to us for this network and dataset"
    return "Differs from the paper: " + "; ".join(group.differs)


def _source(group: TableGroup) -> str:
    samples = max(row.samples for row in group.rows)
    sources = "; ".join(dict.fromkeys(row.source for row in group.rows))
    return f"Bundles: {', '.join(group.folders)}; {samples:,} test samples; measured by {sources}"


def _notes(table: Table1) -> tuple[str, ...]:
    paper = table.paper
    return (
        *table.missing,
        *table.notes,
        f"The paper: {paper.paper}. {paper.known}",
        f"Its conditions: {paper.conditions_source}.",
        f"It says of itself: {'; '.join(paper.claims)}.",
        LEGEND,
    )


def shown(group: TableGroup) -> SheetGroup:
    """One kind of network."""
    rows = tuple(tuple(show(row) for _, show in COLUMNS) for row in group.rows)
    return SheetGroup(group.title, rows, (_conditions(group), _source(group)))


def sheet(table: Table1) -> Sheet:
    """The whole table."""
    return Sheet(
        NAME,
        HEAD,
        NAMES,
        tuple(map(shown, table.groups)),
        _notes(table),
        tuple(record for group in table.groups for record in _records(group)),
    )


def _records(group: TableGroup) -> Iterator[dict[str, Any]]:
    of_group = ("architecture", "width", "head", "dataset", "t_max", "coding")
    head = {name: getattr(group, name) for name in of_group} | {"seed_numbers": group.seeds}
    for row in group.rows:
        yield head | vars(row)
