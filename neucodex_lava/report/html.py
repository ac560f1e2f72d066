"""One offline HTML page from results."""

from __future__ import annotations

import dataclasses
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from neucodex_lava.errors import ConfigError, MissingDependencyError
from neucodex_lava.report import exit_heads, plots, policy_plots, svg
from neucodex_lava.report.columns import (
    EXIT_COLUMNS,
    KINDS,
    LAYER_COLUMNS,
    LINK_COLUMNS,
    answer_columns,
    by_split,
    edge_only,
    exit_rows,
    layer_total,
    of_policy,
    pipeline_columns,
    policies,
    row_name,
)
from neucodex_lava.report.results import Results, Row
from neucodex_lava.report.si import DASH, times
from neucodex_lava.report.summary import best_row, notes, summary


def render_html(results: Results) -> str:
    """The page as text, the same for the same results; it asks for nothing from outside.

    Raises:
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise MissingDependencyError("the HTML report needs jinja2", svg.INSTALL) from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("neucodex_lava.report").joinpath("template.html.j2").read_text("utf-8")
    one = of_policy(results, policies(results)[:1])
    made = [plots.accuracy_energy(one), plots.accuracy_payload(one)]
    made.append(plots.exit_histogram(results))
    made += policy_plots.accuracy_timesteps(results)
    made += [exit_heads.exits_by_class(row) for row in exit_heads.structural_rows(results)]
    made += [exit_heads.exits_by_class(row) for row in exit_rows(one) if not row.exits]
    layered = [plots.layers(r) for r in one.rows if r.configuration == "D+B"]
    # Only what `svg.render` made, with every name escaped, is passed on as markup.
    figures, layer_figures = (
        [(plot.title, Markup(plot.svg)) for plot in part if plot] for part in (made, layered)
    )
    return environment.from_string(source).render(
        title=f"neucodex-lava: {results.architecture} on {results.dataset}",
        summary=summary(results),
        facts=_facts(results),
        groups=[_group(results, split, rows) for split, rows in by_split(results.rows).items()],
        figures=figures,
        layer_figures=layer_figures,
        layer_tables=[_layer_table(results, r) for r in one.rows if r.layers],
        layer_columns=LAYER_COLUMNS,
        kinds=KINDS,
        notes=notes(results),
        palette=list(svg.PALETTE.values()),
    )


def write_report(results: Results, folder: Path) -> Path:
    """Write ``report.html`` and ``results.json`` into a folder, which is made if need be.

    Each file appears whole or not at all. The JSON is what ``--json`` prints, with ``report`` set
    to the page.

    Returns:
        The page's absolute path.

    Raises:
        ConfigError: the folder cannot be made or written.
        FormatError: a figure is not a finite number.
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    folder = folder.absolute()
    page = folder / "report.html"
    results = dataclasses.replace(results, report=str(page))
    html, text = render_html(results), results.to_json()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "results.json", text)
        _write(page, html)
    except OSError as error:
        raise ConfigError(
            f"cannot write a report into {folder}: {error.strerror}", "choose another folder"
        ) from error
    return page


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _facts(results: Results) -> list[tuple[str, str]]:
    samples = sorted({r.samples for r in results.rows})
    named = {
        "dataset": results.dataset,
        "samples": " / ".join(f"{n:,}" for n in samples) or "none",
        "architecture": results.architecture,
        "encoding": results.encoding,
        "seed": str(results.seed),
        "T_max": f"{results.t_max} timesteps",
        "exit policy": results.policy,
        "alpha": f"{results.alpha:g}",
        "backend": results.backend,
        "schedule": results.schedule,
        "energy model": results.energy_model,
        "versions": ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        "command": results.command,
    }
    return [(name, value) for name, value in named.items() if value]


def _group(results: Results, split: str | None, rows: list[Row]) -> dict[str, Any]:
    exits = [c for c in EXIT_COLUMNS if c.key != "timesteps" and any(r.oct for r in rows)]
    every = (*answer_columns(results), *exits, *pipeline_columns(results), *LINK_COLUMNS)
    columns = [c for c in every if any(c.show(results, row) != DASH for row in rows)]
    best = best_row(results)
    shown = rows
    base = edge_only(results)
    if split is not None and base is not None:
        shown = [base, *rows]
    factors = list(dict.fromkeys(name for row in rows for name in row.reductions))
    return {
        "name": "Without a cut" if split is None else f"Split point {split}",
        "columns": columns,
        "rows": [
            (
                row_name(results, row),
                row is best,
                row is base,
                [c.show(results, row) for c in columns],
            )
            for row in shown
        ],
        "factors": factors,
        "reductions": [
            (
                row_name(results, row),
                [f"{times(row.reductions[f])}×" if f in row.reductions else DASH for f in factors],
            )
            for row in rows
            if row.reductions
        ],
    }


def _layer_table(results: Results, row: Row) -> dict[str, Any]:
    name = f"{row.split or ''} {row_name(results, row)}".strip()
    parts: list[tuple[str, list[tuple[str, list[str]]], list[str]]] = []
    for side in ("edge", "cloud"):
        part = [x for x in row.layers if (x.side == "cloud") is (side == "cloud")]
        if part:
            total = layer_total(part)
            cells = [c.show(total) if c.key != "firing_rate" else "" for c in LAYER_COLUMNS]
            lines = [(x.name, [c.show(x) for c in LAYER_COLUMNS]) for x in part]
            parts.append((side, lines, cells))
    return {"name": name, "parts": parts}
