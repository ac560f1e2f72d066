"""Run an edge part in Lava: backends `fused` and `reference`, schedules, sessions.

Here the project's axes N C H W T meet Lava's W H C per step; what lies below speaks Lava's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.fused import FusedRun
from neucodex_lava.edge.reference import ReferenceNetwork
from neucodex_lava.edge.session import EdgeSession, StepResult, check_backend
from neucodex_lava.edge.supervisor import SupervisedRun
from neucodex_lava.edge.wiring import Backend, Schedule, Wiring, check_inputs
from neucodex_lava.errors import DataError
from neucodex_lava.integer_net import STATE_SHIFT, IntegerNet

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation gave.

    Attributes:
        output: spikes of the last edge node, uint8 (N, C, H, W, T).
        sums: running sums S_t, int64 (N, K, T), when the edge part ends in the readout, else None.
        ledger: counts of the edge nodes.
        spikes: with ``record=True``, uint8 (N, C, H, W, T) per node name, else None.
        seconds: time the Lava steps took; building the network is not in it.
        steps: Lava steps.
        backend, schedule: how it was run.
    """

    output: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    ledger: Ledger
    spikes: dict[str, NDArray[np.uint8]] | None
    seconds: float
    steps: int
    backend: Backend
    schedule: Schedule


def simulate(
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    *,
    backend: Backend = "fused",
    schedule: Schedule = "gated",
    record: bool = False,
    progress: Progress | None = None,
) -> SimulationResult:
    """Run the part of a network before its cut in Lava, over whole samples.

    Args:
        net: the network.
        inputs: spikes, or graded values below ``2**net.input_bits``, uint8 (N, C, H, W, T); T may be
            smaller than the net's T_max.
        backend: ``fused``, or ``reference`` (stock Lava processes).
        schedule: ``gated`` or ``pipelined``; ``reference`` is always pipelined.
        record: keep every node's spikes.
        progress: called with (samples done, samples) now and then.

    Raises:
        ConfigError: a backend, schedule, cut or T that is not possible.
        DataError: inputs of the wrong type, shape or range, or none.
        OverflowInRunError: a synaptic sum left the 24-bit range.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    check_backend(backend, schedule)
    check_inputs(inputs, net)
    if 0 in inputs.shape:
        raise DataError(f"input has shape {inputs.shape}: there is nothing to run")
    wiring = Wiring.of(net, schedule, inputs.shape[-1])
    runner = _simulate_fused if backend == "fused" else _simulate_reference
    return runner(wiring, inputs, record, progress or (lambda done, total: None))


def _simulate_fused(
    wiring: Wiring, inputs: NDArray[np.uint8], record: bool, progress: Progress
) -> SimulationResult:
    samples, timesteps = inputs.shape[0], wiring.timesteps
    steps = wiring.steps(samples)
    net = wiring.net
    links = np.zeros((steps, len(wiring.links), 4), np.int64)
    nodes = np.zeros((steps, len(net.nodes), 2), np.int64)
    last = net.nodes[-1]
    kept = {n.name: n for n in (net.nodes if record else ())}
    spikes = {name: np.zeros((steps, *n.shape), np.uint8) for name, n in kept.items()}
    output = np.zeros((steps, *last.shape), np.uint8)
    sums = np.zeros((steps, last.size), np.int64) if net.ends_in_readout else None
    blank = np.zeros(net.input_shape, np.uint8)
    with FusedRun(wiring, record=record) as run:
        began = time.perf_counter()
        for step in range(steps):
            while run.sent < steps and run.room:
                sample, t = divmod(run.sent, timesteps)
                frame = inputs[sample, ..., t] if sample < samples else blank
                run.send(frame, start=t == 0)
            data = run.receive()
            links[step], nodes[step], output[step] = data.links, data.nodes, data.code
            if sums is not None:
                sums[step] = data.sums
            for name, array in data.spikes.items():
                spikes[name][step] = array
            if (step + 1) % timesteps == 0:
                progress(min((step + 1) // timesteps, samples), samples)
        seconds = time.perf_counter() - began
    return SimulationResult(
        output=_windows(wiring, wiring.output, output, samples),
        sums=None if sums is None else _sum_windows(wiring, sums, samples),
        ledger=wiring.ledger(links, nodes, samples),
        spikes={n: _windows(wiring, n, s, samples) for n, s in spikes.items()} if record else None,
        seconds=seconds,
        steps=steps,
        backend="fused",
        schedule="pipelined" if wiring.pipelined else "gated",
    )


def _simulate_reference(
    wiring: Wiring, inputs: NDArray[np.uint8], record: bool, progress: Progress
) -> SimulationResult:
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
        sums = _sum_windows(wiring, flat, samples)
    spikes = {n: _windows(wiring, n, chw(s), samples) for n, s in network.spikes.items()}
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


def _windows(
    wiring: Wiring, node: str, per_step: NDArray[np.uint8], samples: int
) -> NDArray[np.uint8]:
    """(steps, C, H, W) to (N, C, H, W, T)."""
    view = wiring.by_logical_time(per_step, wiring.offset(node), samples)
    return np.ascontiguousarray(np.moveaxis(view, 1, -1))


def _sum_windows(wiring: Wiring, per_step: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """(steps, K) to (N, K, T)."""
    view = wiring.by_logical_time(per_step, wiring.offset(wiring.output), samples)
    return np.ascontiguousarray(np.moveaxis(view, 1, -1))


__all__ = [
    "Backend",
    "EdgeSession",
    "Schedule",
    "SimulationResult",
    "StepResult",
    "simulate",
]
