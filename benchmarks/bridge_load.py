"""Many sessions at once: a server's throughput against its tail run offline, and latency against load.

The server and the sessions that load it run in processes of their own. The sessions have the machine's
last core, the server the others, and so has the tail when it runs offline: what edges spend is not the
server's. ``neucodex bench bridge`` calls `measure`; ``python -m benchmarks.bridge_load --plot FILE``
draws latency against load, of a server with a short queue (`MAX_WAIT_S`) and more sessions than fit
into it; exit status 1 when it refused nothing at the greatest load.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load_sessions import RATE, Job

REPOSITORY = Path(__file__).resolve().parents[1]
SESSIONS = 64
WIDTH = 0.5
"""Of the ResNet-18 whose tail after SP3 is served: 32x32 images, T = 2, codes of 8 x 8 x 8 bits."""
MODEL = "0123456789abcdef" * 4
BATCHES = (1, 2, 4, 8, 16, 32, 64)
LOADS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
MAX_WAIT_S = 0.25
"""The longest queue of the server that is loaded beyond its capacity."""


def make_net(width: float = WIDTH) -> Any:
    """A seeded network whose nodes fire as a trained one's do, cut at SP3."""
    from benchmarks.networks import Spec, build

    spec = Spec(bits=4, split=3, channels=8, stride=2, width=width)
    return build(spec, calibration=8).net


def offline_steps_per_s(width: float = WIDTH, seconds: float = 2.0) -> dict[int, float]:
    """Timesteps a second of the same tail without a bridge, by batch size.

    Whole samples at a time: all timesteps in one call, which a server cannot do.
    """
    import torch

    from neucodex_lava.cloud.executor import Executor

    net = make_net(width)
    executor = Executor(net, start=net.cut)
    found: dict[int, float] = {}
    for batch in BATCHES:
        x = (torch.rand(net.timesteps, batch, *net.code_shape) < RATE).to(torch.uint8)
        executor.advance(executor.initial_state(), x)
        # As the bridge's: all that was done in a span of time, not the fastest round.
        rounds, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            executor.advance(executor.initial_state(), x)
            rounds += 1
        found[batch] = rounds * batch * net.timesteps / spent
    return found


@contextmanager
def served(width: float = WIDTH, max_wait_s: float | None = None) -> Generator[Job, None, None]:
    """A server of that tail in a process of its own; gives a job to load it with.

    Args:
        width: of the network.
        max_wait_s: as `Limits` takes it; None for its default.
    """
    limit = [] if max_wait_s is None else ["--max-wait", str(max_wait_s)]
    with _child("bridge_load", "--serve", str(width), *limit) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the benchmark's server did not start")
        ready = json.loads(line)
        shape = tuple(ready["code_shape"])
        yield Job(ready["address"], MODEL, shape, ready["t_max"], SESSIONS, 1.0)


def load(job: Job) -> dict[str, Any]:
    """Load a server from a process of its own."""
    with _child("load_sessions", job.to_json()) as process:
        out, _ = process.communicate(timeout=job.seconds + 120)
    if not out:
        raise RuntimeError("the benchmark's sessions ended without a result")
    return json.loads(out)


def measure(sessions: int = SESSIONS, seconds: float = 5.0, width: float = WIDTH) -> dict[str, Any]:
    """The case ``throughput_64``: seconds a timestep through the bridge against offline."""
    with _child("bridge_load", "--offline", str(width)) as process:
        out, _ = process.communicate(timeout=300)
    offline = {int(batch): speed for batch, speed in json.loads(out).items()}
    best = max(offline, key=lambda batch: offline[batch])
    cores = len(_cores("bridge_load"))
    with served(width) as job:
        load(replace(job, sessions=sessions))  # warm-up, not counted
        found = load(replace(job, sessions=sessions, seconds=seconds))
    return {
        "case": f"throughput_{sessions}",
        "ours": f"ResNet-18 x{width:g} after SP3, {sessions} sessions over a socket",
        "ours_s": 1 / found["steps_per_s"],
        "baseline": f"the same tail offline on the server's {cores} core(s),"
        f" whole samples in batches of {best}",
        "baseline_s": 1 / offline[best],
        "ratio": found["steps_per_s"] / offline[best],
        "server_cores": cores,
        "offline_steps_per_s": {str(batch): speed for batch, speed in offline.items()},
        **found,
    }


def latency_against_load(seconds: float = 8.0, width: float = WIDTH) -> dict[str, Any]:
    """Latency, refusals and throughput at parts and multiples of what the server can do."""
    with served(width) as job:
        load(job)
        steps_per_s = load(replace(job, seconds=seconds))["steps_per_s"]
    capacity = steps_per_s / job.t_max
    # Twice as many sessions, with one timestep each, as can wait or be in a batch.
    sessions = min(2000, 2 * round(MAX_WAIT_S * steps_per_s + 64))
    with served(width, MAX_WAIT_S) as job:
        load(job)
        many = replace(job, sessions=sessions, seconds=seconds)
        rows = [{"load": part} | load(replace(many, rate=part * capacity)) for part in LOADS]
    return {
        "basis": "measured on loopback",
        "capacity_samples_per_s": capacity,
        "max_wait_s": MAX_WAIT_S,
        "sessions": sessions,
        "rows": rows,
    }


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw what `latency_against_load` found."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows, capacity = found["rows"], found["capacity_samples_per_s"]
    loads = [row["load"] for row in rows]
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(6, 5), layout="constrained")
    for name, label in (("p50_s", "median"), ("p99_s", "99 %")):
        top.plot(loads, [1e3 * row[name] for row in rows], "o-", label=label)
    top.set(yscale="log", ylabel="latency of a timestep, ms", title="Measured on loopback")
    top.legend()
    answered = [row["samples"] / row["seconds"] / capacity for row in rows]
    bottom.plot(loads, answered, "o-", label="answered, of capacity")
    offered = [row["samples"] + row["refused"] + row["unsent"] for row in rows]
    for name, style, label in (
        ("refused", "s--", "refused by the server, of offered"),
        ("unsent", "^:", "not sent, as every session was at work"),
    ):
        shares = [row[name] / max(total, 1) for row, total in zip(rows, offered, strict=True)]
        bottom.plot(loads, shares, style, label=label)
    bottom.set(xlabel="samples offered, in parts of capacity", ylabel="share")
    bottom.legend()
    figure.savefig(path)
    plt.close(figure)


def _cores(module: str) -> list[int]:
    """The sessions' core, or those of the server; where there is one core they share it."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1:] if module == "load_sessions" else cores[:-1] or cores


@contextmanager
def _child(module: str, *arguments: str) -> Generator[subprocess.Popen[str], None, None]:
    cores = _cores(module)
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(len(cores))},
    )
    os.sched_setaffinity(process.pid, cores)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _serve(width: float, max_wait_s: float | None) -> None:
    from host_bridge import serve_forever
    from host_bridge.server.limits import Limits
    from neucodex_lava.cloud.tail import TorchTail

    tail = TorchTail(make_net(width), MODEL, 1.0)

    def listening(host: str, port: int) -> None:
        ready = {"address": f"{host}:{port}", "code_shape": tail.code_shape, "t_max": tail.t_max}
        print(json.dumps(ready), flush=True)

    limits = Limits() if max_wait_s is None else Limits(max_wait_s=max_wait_s)
    serve_forever(tail, port=0, limits=limits, on_listening=listening)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--max-wait", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--offline", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--plot", type=Path, help="draw latency against load into this file")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments.serve, arguments.max_wait)
        return
    if arguments.offline:
        print(json.dumps(offline_steps_per_s(arguments.offline)))
        return
    found = latency_against_load(arguments.seconds)
    if arguments.plot:
        plot(found, arguments.plot)
    print(json.dumps(found, indent=1))
    if not found["rows"][-1]["refused"]:
        sys.exit(f"nothing was refused at {LOADS[-1]:g} times the capacity: that was no overload")


if __name__ == "__main__":
    _main()
