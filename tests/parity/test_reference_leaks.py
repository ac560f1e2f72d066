"""Any number of runs in one process leaves nothing behind."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from lava.magma.core.process.process import ProcessServer
from plain import delayed_net, load_join_net

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.stock.chip import run_chip_network

pytestmark = pytest.mark.lava


def open_things() -> dict[str, int]:
    return {
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "children": len(psutil.Process().children(recursive=True)),
        "threads": psutil.Process().num_threads(),
        "Lava processes": len(ProcessServer().processes),
    }


@pytest.mark.slow
def test_twelve_runs() -> None:
    net, spikes, _ = load_join_net(3)
    delayed, inputs = delayed_net(2)

    def run() -> np.ndarray:
        run_chip_network(net, spikes)
        simulate(delayed, inputs[:1], backend="reference", schedule="pipelined", watch=["join"])
        return simulate(net, spikes, backend="reference", schedule="pipelined").output

    want = run()
    before = open_things()
    for _ in range(4):
        assert np.array_equal(run(), want)
    assert open_things() == before
