"""The table of what was verified: networks, inputs, T, split points, schedules and backends.

``python -m benchmarks.verified`` runs the cases that have no result yet, one JSON file each, and
writes ``docs/verified.md`` from all results; interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verified_cases import STOCK, Case, Expected, cases
from benchmarks.verified_table import differences, table
from energy.ledger import ALL_COUNTS
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.progress import Progress, progress_bars
from neucodex_lava.versions import versions

RESULTS = Path("runs/verified")
TABLE = Path("docs/verified.md")


def run_case(case: Case, backends: Sequence[str], file: Path, progress: Progress) -> None:
    """Run those of the case's backends that the result file does not hold yet.

    The file is written after each of them, so that several runs may share a folder.
    """
    result: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    done = result.setdefault("checks", {})
    missing = [b for b in case.backends if b in backends and b not in done]
    if not missing:
        return
    began = time.perf_counter()
    net, inputs, expected, facts = case.prepare()
    if result.get("net", net.fingerprint()) != net.fingerprint():
        raise AssertionError(f"{file} holds results of another network: delete it")
    result |= facts | {
        "case": case.name,
        "oracle": case.oracle,
        "oracle_s": time.perf_counter() - began,
        "net": net.fingerprint(),
        "timesteps": inputs.shape[-1],
        "samples": len(inputs),
        "edge_nodes": net.cut,
        "syn_ops": expected.ledger.total("syn_ops") + expected.ledger.total("macs"),
        "versions": versions(),
    }
    for i, backend in enumerate(missing):
        watch = [n.name for n in net.edge_nodes] if case.oracle != "slayer" else []
        done[backend] = check(backend, net, inputs, expected, watch)
        date = datetime.now(timezone.utc).date().isoformat()
        done[backend] |= {"date": date, "commit": _commit()}
        _save(result, file)
        progress(case.name, i + 1, len(missing))


def _save(result: dict[str, Any], file: Path) -> None:
    """Write a result, with what another run of the same case has put there meanwhile."""
    if file.is_file():
        for backend, found in json.loads(file.read_text())["checks"].items():
            result["checks"].setdefault(backend, found)
    new = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    new.write_text(json.dumps(result, indent=1))
    new.replace(file)


def check(
    backend: str,
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    expected: Expected,
    watch: Sequence[str] = (),
) -> dict[str, Any]:
    """Run one backend and compare everything that it shows with ``==``.

    Args:
        backend: ``twin``, or a Lava backend and its schedule.
        net, inputs: what it runs; Lava runs the part before the cut.
        expected: what is right.
        watch: nodes whose potentials stock Lava is to show; it is slower then.
    """
    began = time.perf_counter()
    if backend == "twin":
        seen = run_twin(Executor(net), inputs, batch_size=1, record=True)
    else:
        kind, schedule = backend.split()
        seen = simulate(
            net,
            inputs,
            backend=kind,  # type: ignore[arg-type]
            schedule=schedule,  # type: ignore[arg-type]
            record=True,
            watch=watch if kind == "reference" else (),
        )
    seconds = time.perf_counter() - began
    assert seen.spikes is not None
    pairs = {"spikes": [(s, expected.spikes[n]) for n, s in seen.spikes.items()]}
    potentials = seen.potentials or {}
    pairs["potentials"] = [(v, expected.potentials[n]) for n, v in potentials.items()]
    if seen.sums is not None and expected.sums is not None:
        pairs["spikes"].append((seen.sums, expected.sums))
    ledger = expected.ledger.select(tuple(seen.spikes))
    result: dict[str, Any] = {"nodes": len(seen.spikes), "seconds": seconds}
    for what, arrays in pairs.items():
        result[f"{what}_compared"] = sum(right.size for _, right in arrays)
        result[f"{what}_differ"] = sum(int((mine != right).sum()) for mine, right in arrays)
    result["counts_compared"] = sum(getattr(ledger, c).size for c in ALL_COUNTS)
    result["counts_differ"] = seen.ledger.differences(ledger)
    return result


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 1 when anything differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verified", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table, Markdown")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--backends", nargs="+", choices=STOCK, default=STOCK)
    parser.add_argument("--table", action="store_true", help="write the table, run nothing")
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.table:
        with progress_bars() as progress:
            for case in cases():
                if options.only in case.name:
                    file = options.results / f"{case.name}.json"
                    run_case(case, options.backends, file, progress)
    found = [json.loads(p.read_text()) for p in sorted(options.results.glob("*.json"))]
    options.out.write_text(table(found))
    wrong = sum(differences(check) for r in found for check in r["checks"].values())
    print(f"{options.out}: {len(found)} cases, {wrong} differences", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
