"""Run an edge part on the `reference` backend: stock Lava processes, pipelined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.reference_network import ReferenceNetwork
from neucodex_lava.edge.result import Progress, SimulationResult, windows
from neucodex_lava.edge.supervisor import SupervisedRun
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import STATE_SHIFT


def simulate_reference(
    wiring: Wiring,
    inputs: NDArray[np.uint8],
    record: bool,
    watch: Sequence[str],
    progress: Progress,
) -> SimulationResult:
    """Run whole samples through stock Lava processes.

    Args:
        wiring: the edge part; its schedule must be pipelined.
        inputs: checked already, uint8 (N, C, H, W, T).
        record: keep every node's spikes.
        watch: names of nodes whose currents and potentials are kept.
        progress: called with (samples done, samples) now and then.

    Raises:
        ConfigError: something stock Lava cannot express.
        OverflowInRunError: a synaptic sum left the 24-bit range.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    del watch
    samples = inputs.shape[0]
    steps = wiring.steps(samples)
    frames = np.zeros((steps, *wiring.net.input_shape), np.uint8)
    frames[: samples * wiring.timesteps] = np.moveaxis(inputs, -1, 1).reshape(
        -1, *wiring.net.input_shape
    )
    network = ReferenceNetwork(wiring, frames, record=record)
    with SupervisedRun(network.root, network.models) as run:
        began = time.perf_counter()
        run.start(steps)
        run.finish(lambda: progress(min(network.steps_done // wiring.timesteps, samples), samples))
        seconds = time.perf_counter() - began
    network.check_sums()
    progress(samples, samples)

    def chw(array: NDArray[Any]) -> NDArray[Any]:
        return array.transpose(0, 3, 2, 1)

    sums = None
    if network.potential is not None:
        flat = chw(network.potential).reshape(steps, -1).astype(np.int64) >> STATE_SHIFT
        sums = windows(wiring, wiring.output, flat, samples)
    spikes = {n: windows(wiring, n, chw(s), samples) for n, s in network.spikes.items()}
    return SimulationResult(
        output=spikes[wiring.output],
        sums=sums,
        ledger=network.ledger(samples),
        spikes=spikes if record else None,
        seconds=seconds,
        steps=steps,
        backend="reference",
        schedule="pipelined",
    )
