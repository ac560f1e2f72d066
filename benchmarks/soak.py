"""A real server under half its capacity for a while: is its memory flat, does any session stay behind?

    python -m benchmarks.soak --minutes 30 > soak.json

``neucodex serve`` runs a bundle with its metrics on; processes of their own load it in rounds of a
minute, each with sessions of its own, and every fourth is killed in the middle, so that its streams
break. Memory (RSS, measured) and the open sessions (the server's own metrics) are sampled every few
seconds. Exit status 1 when memory grew beyond what `GROWTH` allows or a session was left; the slope,
which says more than that bound, is in the report with its standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load_sessions import Job
from neucodex_lava.bundle import read_manifest

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "netx_exports" / "resnet-small-digits" / "sp1"
ROUND_S, KILLED_EVERY, SAMPLE_EVERY_S, GONE_WITHIN_S = 60.0, 4, 5.0, 15.0
GROWTH = 0.05, 8e6
"""What counts as flat: a share of the memory, and bytes beside it, for what allocators keep. Of
400 MB a leak of 90 MB an hour hides in it for half an hour: look at the slope too."""


@dataclass
class Watch:
    """The server, looked at from outside.

    Args:
        pid: of its process.
        metrics: address of its metrics.
    """

    pid: int
    metrics: str
    rows: list[dict[str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def look(self) -> dict[str, float]:
        """One row of the series."""
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            text = answer.read().decode()
        row = {"at_s": time.monotonic() - self.began, "rss_bytes": self._rss()}
        for name in ("neucodex_sessions", "neucodex_queued_steps", "neucodex_steps_total"):
            found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
            assert found is not None, f"{name} is not among the metrics"
            row[name] = float(found[1])
        self.rows.append(row)
        return row

    def await_empty(self) -> bool:
        """Whether all sessions are gone before long."""
        until = time.monotonic() + GONE_WITHIN_S
        while self.look()["neucodex_sessions"]:
            if time.monotonic() > until:
                return False
            time.sleep(0.5)
        return True

    def _rss(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return float(pages * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def served(bundle: Path) -> Iterator[tuple[Watch, str]]:
    """``neucodex serve`` as anyone would start it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics_port = free.getsockname()[1]
    command = [sys.executable, "-c", "from neucodex_lava.cli import main; main()", "serve"]
    options = ["--port", "0", "--metrics-port", str(metrics_port), "--json"]
    process = subprocess.Popen(
        [*command, str(bundle), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        address = f"{ready['host']}:{ready['port']}"
        yield Watch(process.pid, f"http://127.0.0.1:{metrics_port}/metrics"), address
    finally:
        process.terminate()
        process.wait()


def load(job: Job, watch: Watch, *, kill: bool = False) -> dict[str, Any] | None:
    """One round from a process of its own, watched; None when it was killed in the middle."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load_sessions", job.to_json()],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    began = looked = time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        if time.monotonic() - looked >= SAMPLE_EVERY_S:
            watch.look()
            looked = time.monotonic()
        if kill and time.monotonic() - began > job.seconds / 2:
            process.kill()
            process.wait()
            return None
    assert process.stdout is not None
    if process.returncode:
        raise RuntimeError(f"a round of load ended with status {process.returncode}")
    found: dict[str, Any] = json.loads(process.stdout.read())
    return found


def soak(bundle: Path, minutes: float, sessions: int, round_s: float) -> dict[str, Any]:
    """Find the capacity, load the server with half of it, and watch memory and sessions."""
    manifest, model = read_manifest(bundle)
    channels, height, width = manifest.code_shape
    shape = (channels, height, width)
    rounds: list[dict[str, Any]] = []
    left, killed = 0, 0
    with served(bundle) as (watch, address):
        job = Job(address, model, shape, manifest.t_max, sessions, min(20.0, round_s))
        full = load(job, watch)
        assert full is not None
        capacity = full["samples"] / full["seconds"]
        left += not watch.await_empty()
        begin = len(watch.rows)
        until = time.monotonic() + 60 * minutes
        while (rest_s := until - time.monotonic()) > 1:
            kill = (len(rounds) + killed) % KILLED_EVERY == KILLED_EVERY - 1
            half = replace(job, seconds=min(round_s, rest_s), rate=capacity / 2)
            found = load(half, watch, kill=kill)
            killed += found is None
            rounds += [found] if found else []
            left += not watch.await_empty()
        rows = watch.rows[begin:]
    return {
        "name": "soak",
        "bundle": str(bundle),
        "basis": "measured",
        "minutes": minutes,
        "sessions": sessions,
        "capacity_samples_per_s": capacity,
        "samples": sum(one["samples"] for one in rounds),
        "refused": sum(one["refused"] for one in rounds),
        "unsent": sum(one["unsent"] for one in rounds),
        "rounds_killed": killed,
        "p99_s": [one["p99_s"] for one in rounds],
        "rounds_that_left_sessions": left,
        **_memory(rows),
        "series": rows,
    }


def _memory(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Is it flat: the last fifth against the second, after what the start brings along."""
    rss = np.array([row["rss_bytes"] for row in rows])
    hours = np.array([row["at_s"] for row in rows]) / 3600
    fifth = max(1, len(rss) // 5)
    early, late = float(np.median(rss[fifth : 2 * fifth])), float(np.median(rss[-fifth:]))
    allowed = GROWTH[0] * early + GROWTH[1]
    settled = slice(fifth, None)
    slope, error = _slope(hours[settled], rss[settled])
    return {
        "rss_first_bytes": float(rss[0]),
        "rss_early_bytes": early,
        "rss_late_bytes": late,
        "rss_most_bytes": float(rss.max()),
        "rss_bytes_per_hour": slope,
        "rss_bytes_per_hour_error": error,
        "rss_growth_bytes": late - early,
        "rss_growth_allowed_bytes": allowed,
        "flat": late - early <= allowed,
    }


def _slope(hours: Any, rss: Any) -> tuple[float, float]:
    """Bytes an hour, and their standard error as if the samples were independent; 0 of too few."""
    if len(rss) < 4:
        return 0.0, 0.0
    (slope, _), covariance = np.polyfit(hours, rss, 1, cov=True)
    return float(slope), float(math.sqrt(covariance[0, 0]))


def main() -> int:
    """Run, print, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--round-s", type=float, default=ROUND_S)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    arguments = parser.parse_args()
    report = soak(
        arguments.bundle.resolve(), arguments.minutes, arguments.sessions, arguments.round_s
    )
    print(json.dumps(report, indent=1))
    print(
        f"memory {report['rss_late_bytes'] / 1e6:.0f} MB, {report['rss_growth_bytes'] / 1e6:+.1f} MB in"
        f" {report['minutes']:g} min ({report['rss_growth_allowed_bytes'] / 1e6:.0f} MB allowed),"
        f" slope {report['rss_bytes_per_hour'] / 1e6:+.1f}"
        f" +- {report['rss_bytes_per_hour_error'] / 1e6:.1f} MB an hour",
        file=sys.stderr,
    )
    return 0 if report["flat"] and not report["rounds_that_left_sessions"] else 1


if __name__ == "__main__":
    sys.exit(main())
