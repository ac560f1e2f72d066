"""Run the benchmarks of a source checkout: each measures a ratio against its baseline in one run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from neucodex_lava.errors import MissingDependencyError
from neucodex_lava.progress import Progress, silent

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def run_bench(name: str, progress: Progress = silent) -> dict[str, Any]:
    """Run ``benchmarks/<name>.py``.

    Args:
        name: ``sim`` or ``bridge``.
        progress: told when the benchmark starts and ends.

    Returns:
        ``{"name", "cases": [{"case", "ours_s", "baseline", "baseline_s", "ratio", ...}]}`` with
        ratio = baseline / ours: above 1 we are faster.

    Raises:
        MissingDependencyError: installed without the benchmarks.
    """
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"neucodex_bench_{name}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise MissingDependencyError(
            f"the benchmark '{name}' is not installed: '{path}' is missing",
            "run it from a source checkout",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    progress(f"bench {name}", 0, 1)
    result: dict[str, Any] = module.run()
    progress(f"bench {name}", 1, 1)
    return result


def bench_table(result: dict[str, Any]) -> Any:
    """A rich table of the cases."""
    from rich.table import Table

    table = Table(title=f"bench {result['name']} (measured; ratio = baseline / ours)")
    for column in ("case", "ours", "baseline", "takes", "ratio"):
        table.add_column(column, justify="left" if column in ("case", "baseline") else "right")
    for case in result["cases"]:
        table.add_row(
            case["case"],
            f"{1e3 * case['ours_s']:.3f} ms",
            case["baseline"],
            f"{1e3 * case['baseline_s']:.3f} ms",
            f"{case['ratio']:.2f}x",
        )
    return table
