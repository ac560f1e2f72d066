"""Thousands of damaged NetX files, loaded in worker processes: only clear errors, memory bounded.

    make fuzz                      # 10,000 cases
    python tests/fuzz/campaign.py --cases 300 --seed 7 --json
    python tests/fuzz/campaign.py --seed 7 --case 123    # one of them again; its file is kept here

Every case must end in a net or in a `NeucodexError` of one line; a worker that dies, hangs or asks for
more memory than its limit is reported with the number that makes its file again.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
GOOD = ("net", "FormatError", "NetError", "ConfigError")
SHARE = 50
"""Cases a worker gets at a time."""


def run(cases: int, seed: int, workers: int, only: int | None = None) -> dict[str, Any]:
    """Run the cases; the figures, and every case that ended otherwise than it may."""
    started = time.perf_counter()
    numbers = [only] if only is not None else list(range(cases))
    todo: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for i in range(0, len(numbers), SHARE):
        todo.put(numbers[i : i + SHARE])
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, FOLDER / "pristine.py", folder], check=True, env=_environ())
        threads = [
            threading.Thread(target=_serve, args=(i, seed, Path(folder), todo, results))
            for i in range(workers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if only is not None:
            shutil.copy(Path(folder) / "case-0.net", Path.cwd() / f"case-{only}.net")
    longest = max(results, key=lambda r: r["cpu_s"])
    hungriest = max(results, key=lambda r: r["extra_bytes"])
    return {
        "cases": len(results),
        "seed": seed,
        "outcomes": dict(Counter(r["outcome"] for r in results).most_common()),
        "peak_extra_bytes": hungriest["extra_bytes"],
        "peak_case": hungriest["case"],
        "longest_cpu_s": longest["cpu_s"],
        "longest_case": longest["case"],
        "seconds": time.perf_counter() - started,
        "damages": _by_damage(results),
        "bad": sorted((r for r in results if r["outcome"] not in GOOD), key=lambda r: r["case"]),
    }


def _by_damage(results: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, Counter[str]] = {}
    for result in results:
        for name in result["damage"].partition(": ")[2].split(", "):
            table.setdefault(name, Counter())[result["outcome"]] += 1
    return {name: dict(counts) for name, counts in sorted(table.items())}


def _environ() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(FOLDER), str(ROOT / "tests" / "support")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _serve(
    place: int,
    seed: int,
    folder: Path,
    todo: queue.SimpleQueue[list[int]],
    results: list[dict[str, Any]],
) -> None:
    """One worker after another, each until it dies or all is done."""
    share: list[int] = []
    while True:
        if not share:
            try:
                share = todo.get_nowait()
            except queue.Empty:
                return
        worker = subprocess.Popen(
            [sys.executable, FOLDER / "worker.py", str(seed), str(folder), str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environ(),
        )
        out, err = worker.communicate("".join(f"{case}\n" for case in share))
        lines = [json.loads(line) for line in out.splitlines() if line.endswith("}")]
        ended = [line for line in lines if "outcome" in line]
        results += ended
        share = share[len(ended) :]
        if share:
            begun = lines[-1] if lines and "begins" in lines[-1] else {"case": share[0]}
            code = worker.returncode
            hung = code in (-14, -27)  # SIGALRM, SIGPROF
            results.append(
                {
                    "case": share.pop(0),
                    "damage": begun.get("damage", "none: never begun"),
                    "outcome": "hang" if hung else f"crash {code}",
                    "text": err[-300:],
                    "cpu_s": 0.0,
                    "seconds": 0.0,
                    "extra_bytes": 0,
                }
            )


def main() -> int:
    """Run, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--case", type=int, help="only this one; its file is kept here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    report = run(arguments.cases, arguments.seed, arguments.workers, arguments.case)
    if arguments.json:
        print(json.dumps(report))
    else:
        for outcome, count in report["outcomes"].items():
            print(f"{count:7,} {outcome}")
        print(
            f"{report['cases']:7,} cases of seed {report['seed']} in {report['seconds']:.0f} s; most"
            f" extra memory {report['peak_extra_bytes'] / 2**20:.0f} MB (case {report['peak_case']}),"
            f" longest {report['longest_cpu_s']:.2f} s of CPU (case {report['longest_case']})"
        )
        for bad in report["bad"][:20]:
            print(f"case {bad['case']}: {bad['outcome']}: {bad['damage']}: {bad['text'][:300]}")
    return 1 if report["bad"] else 0


if __name__ == "__main__":
    sys.exit(main())
