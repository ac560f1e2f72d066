"""A program that simulates for a long time; the tests make it fail. Run as a script.

Prints ``ready <pids>`` once Lava runs, then one line: ``error: ...``, ``interrupted`` or ``end``.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from plain import load_join_net

from neucodex_lava.edge.fused import FusedRun
from neucodex_lava.edge.runtime.supervisor import SupervisedRun
from neucodex_lava.edge.stock.network import ReferenceNetwork
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.errors import NeucodexError


def announce(pids: list[int]) -> None:
    print("ready", json.dumps([os.getpid(), *pids]), flush=True)


FORGOTTEN: list[FusedRun] = []


def main(backend: str, fault: str) -> None:
    net, spikes, _ = load_join_net(3)
    schedule = "gated" if backend == "fused" else "pipelined"
    wiring = Wiring.of(net, schedule)
    if backend == "fused":
        if fault == "exception":
            from neucodex_lava.edge.engine.engine import FusedEngine

            step = FusedEngine.step

            def failing(self, *args) -> None:  # type: ignore[no-untyped-def]
                if self._step == 3:
                    raise ValueError("broken\non purpose")
                step(self, *args)

            FusedEngine.step = failing  # type: ignore[method-assign]
        if fault == "forgotten":
            FORGOTTEN.append(FusedRun(wiring))
            announce(FORGOTTEN[0].pids)
            time.sleep(1)
            print("end", flush=True)
            return
        with FusedRun(wiring) as run:
            announce(run.pids)
            while True:
                run.send(spikes[0, ..., 0], start=True)
                run.receive()
    else:
        if fault == "exception":
            from neucodex_lava.edge.processes import counting

            def broken(tally, step, *rest) -> None:  # type: ignore[no-untyped-def]
                if step == 3:
                    raise ValueError("broken\non purpose")

            counting.count = broken
        network = ReferenceNetwork(wiring, np.zeros((200_000, 1, 4, 4), np.uint8), record=False)
        with SupervisedRun(network.root, network.models) as run:
            announce(run.pids)
            run.start(200_000)
            run.finish()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except NeucodexError as error:
        print("error:", error, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
