"""The other end of ``benchmarks/train_peers.py``: asks the peers' own Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neucodex_lava.errors import SimulationError

ROOT = Path(__file__).resolve().parent.parent
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEERS = ("snntorch", "spikingjelly")

Ask = Callable[[str, str, str], Any]
"""ask("time" | "memory" | "version", peer, layout)."""


@contextmanager
def peer_worker(wanted: bool) -> Iterator[Ask]:
    """A function that asks the peers' own Python; its process ends with the block."""
    if not wanted:
        yield lambda *_: None
        return
    command = [PEER_PYTHON, "-m", "benchmarks.train_peers", str(torch.get_num_threads())]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    worker = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None

    def ask(do: str, peer: str, layout: str) -> Any:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps({"do": do, "peer": peer, "layout": layout}) + "\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except OSError:
            line = ""
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise SimulationError(
                f"{peer} could not be measured: {answer['error']}", "rm -r .venv-peers; make peers"
            )
        return answer["value"]

    try:
        yield ask
    finally:
        worker.stdin.close()
        worker.terminate()
        worker.wait()
        worker.stdout.close()
