"""Run the benchmarks of a source checkout: each measures a ratio against its baseline in one run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neucodex_lava.errors import ConfigError, MissingDependencyError
from neucodex_lava.progress import Progress, silent

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def run_bench(name: str, progress: Progress = silent, cases: Sequence[str] = ()) -> dict[str, Any]:
    """Run ``benchmarks/<name>.py``.

    Args:
        name: ``sim``, ``executor``, ``codec``, ``bridge``, ``train`` or ``exits``.
        progress: told how far the benchmark is.
        cases: only these cases, where the benchmark has some; all when empty.

    Returns:
        ``{"name", "cases": [{"case", "ours_s", "baseline", "baseline_s", "ratio", ...}]}`` with
        ratio = baseline / ours: above 1 we are faster.

    Raises:
        MissingDependencyError: installed without the benchmarks.
        ConfigError: no such case.
    """
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        raise MissingDependencyError(
            f"the benchmark '{name}' is not installed: '{path}' is missing",
            "run it from a source checkout",
        )
    if str(FOLDER.parent) not in sys.path:
        sys.path.append(str(FOLDER.parent))
    module = importlib.import_module(f"{FOLDER.name}.{name}")
    if hasattr(module, "CASES"):
        result: dict[str, Any] = module.run(cases=cases or tuple(module.CASES), progress=progress)
        return result
    if cases:
        raise ConfigError(f"the benchmark '{name}' has no cases to choose from", "leave out --case")
    progress(f"bench {name}", 0, 1)
    result = module.run()
    progress(f"bench {name}", 1, 1)
    return result


def bench_table(result: dict[str, Any]) -> Any:
    """A rich table of the cases."""
    from rich.table import Table

    table = Table(title=f"bench {result['name']} (measured; ratio = baseline / ours)")
    for column in ("case", "ours", "baseline", "takes", "ratio"):
        table.add_column(column, justify="left" if column in ("case", "baseline") else "right")
    skipped = result.get("skipped", [])
    if skipped:
        table.caption = "; ".join(
            f"{s['case']} left out: {s['why']} ({s['hint']})" for s in skipped
        )
    for case in result["cases"]:
        table.add_row(
            case["case"],
            f"{1e3 * case['ours_s']:.3f} ms",
            case["baseline"],
            f"{1e3 * case['baseline_s']:.3f} ms",
            f"{case['ratio']:.2f}x",
        )
    return table
