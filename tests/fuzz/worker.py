"""One worker of the fuzzer: makes damaged files and loads them, each within limits.

Standard input has one number of a case per line; standard output gets a JSON line when a case
begins and one when it ends. A case that runs too long is killed with this worker by a signal
that nothing here catches, so that also a loop inside the HDF5 library ends.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import damage

from neucodex_lava.errors import NeucodexError
from neucodex_lava.evaluation.net_file import load_net_target, random_inputs
from neucodex_lava.integer_net import IntegerNet

EXTRA_BYTES = 512 << 20
CPU_LIMIT_S = 20.0
WALL_LIMIT_S = 120.0
MESSAGE_LIMIT = 1000


def _status(key: str) -> int:
    """A figure of this process in /proc, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(key)


def load(path: Path, case: int, theirs: bool) -> tuple[str, str]:
    """How a file, with random input for it, ends: ``net``, a `NeucodexError`, or a fault; its words."""
    told: dict[str, Any] = {"timesteps": 1 + case % 4} if theirs else {}
    if theirs and case % 5 == 0:
        told |= {"input_shape": (2, 6, 5), "input_bits": 1 + case % 8}
    if theirs and case % 7 == 0:
        told |= {"skip_layers": case % 4}
    try:
        net = load_net_target(path, **told)
        if isinstance(net, IntegerNet):
            random_inputs(net)
    except NeucodexError as error:
        text = str(error)
        cause = repr(error.__cause__)
        if "MemoryError" in cause or "nable to allocate" in cause + text:
            return "memory", f"{text} {cause}"
        if "\n" in text or len(text) > MESSAGE_LIMIT:
            return "message", text
        return type(error).__name__, text
    except BaseException as error:
        return f"escaped {type(error).__name__}", repr(error)
    return ("net" if isinstance(net, IntegerNet) else "nothing"), ""


def main() -> None:
    """Run the cases that standard input names."""
    seed, folder = int(sys.argv[1]), Path(sys.argv[2])
    pristine = sorted((folder / "pristine").iterdir())
    path = folder / f"case-{sys.argv[3]}.net"
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for line in sys.stdin:
        case = int(line)
        kind = damage.make(seed, case, pristine, path)
        print(json.dumps({"case": case, "damage": kind, "begins": True}), flush=True)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        limit = _status("VmSize") + EXTRA_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        signal.setitimer(signal.ITIMER_REAL, WALL_LIMIT_S)
        started, cpu = time.perf_counter(), time.process_time()
        outcome, text = load(path, case, kind.startswith("theirs"))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        result = {
            "case": case,
            "damage": kind,
            "outcome": outcome,
            "text": text,
            "cpu_s": cpu,
            "seconds": seconds,
            "extra_bytes": max(0, _status("VmHWM") - before),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
