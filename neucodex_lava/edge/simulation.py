"""Run an edge part in Lava: backends `fused` and `reference`, schedules, sessions.

Here the project's axes N C H W T meet Lava's W H C per step; what lies below speaks Lava's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.fused import FusedRun
from neucodex_lava.edge.result import Progress, SimulationResult, StepResult
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.stock.reference import simulate_reference
from neucodex_lava.edge.wiring import (
    NODE_COLUMNS,
    SYNAPSE_COLUMNS,
    Backend,
    Schedule,
    Wiring,
    check_backend,
    check_inputs,
)
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.integer_net import IntegerNet


def simulate(
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    *,
    backend: Backend = "fused",
    schedule: Schedule = "gated",
    record: bool = False,
    watch: Sequence[str] = (),
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
        watch: names of edge nodes whose currents and potentials are kept.
        progress: called with (samples done, samples) now and then.

    Raises:
        ConfigError: a backend, schedule, cut, T or watched node that is not possible.
        DataError: inputs of the wrong type, shape or range, or none.
        OverflowInRunError: a synaptic sum left the 24-bit range.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    check_backend(backend, schedule)
    check_inputs(inputs, net)
    if 0 in inputs.shape:
        raise DataError(f"input has shape {inputs.shape}: there is nothing to run")
    wiring = Wiring.of(net, schedule, inputs.shape[-1])
    known = [node.name for node in wiring.net.nodes]
    for name in watch:
        if name not in known:
            raise ConfigError(
                f"the edge part has no node '{name}' to watch", f"it has {', '.join(known)}"
            )
    runner = _simulate_fused if backend == "fused" else simulate_reference
    return runner(wiring, inputs, record, watch, progress or (lambda done, total: None))


def _simulate_fused(
    wiring: Wiring,
    inputs: NDArray[np.uint8],
    record: bool,
    watch: Sequence[str],
    progress: Progress,
) -> SimulationResult:
    samples, timesteps = inputs.shape[0], wiring.timesteps
    steps = wiring.steps(samples)
    net = wiring.net
    links = np.zeros((steps, len(wiring.links), SYNAPSE_COLUMNS), np.int64)
    nodes = np.zeros((steps, len(net.nodes), NODE_COLUMNS), np.int64)
    output = _Window.of(wiring, wiring.output, samples, np.uint8)
    sums = _Window.sums(wiring, wiring.output, samples) if net.ends_in_readout else None
    heads = {name: _Window.sums(wiring, name, samples) for name in wiring.exit_heads}
    kept: dict[str, dict[str, _Window]] = {
        "spikes": {}, "currents": {}, "potentials": {}, "exit_sums": heads,
    }  # fmt: skip
    for name in (node.name for node in net.nodes):
        if record:
            kept["spikes"][name] = _Window.of(wiring, name, samples, np.uint8)
        if name in watch:
            kept["currents"][name] = _Window.of(wiring, name, samples, np.int32)
        if record or name in watch:
            kept["potentials"][name] = _Window.of(wiring, name, samples, np.int32)
    blank = np.zeros(net.input_shape, np.uint8)
    with FusedRun(wiring, record=record, watch=watch) as run:
        began = time.perf_counter()
        for step in range(steps):
            while run.sent < steps and run.room:
                sample, t = divmod(run.sent, timesteps)
                frame = inputs[sample, ..., t] if sample < samples else blank
                run.send(frame, start=t == 0)
            data = run.receive()
            links[step], nodes[step] = data.links, data.nodes
            output.put(step, data.code)
            if sums is not None:
                sums.put(step, data.sums)
            for what, of_nodes in kept.items():
                for name, window in of_nodes.items():
                    window.put(step, getattr(data, what)[name])
            if (step + 1) % timesteps == 0:
                progress(min((step + 1) // timesteps, samples), samples)
        seconds = time.perf_counter() - began
    arrays = {what: {n: w.array for n, w in of.items()} for what, of in kept.items()}
    return SimulationResult(
        output=output.array,
        sums=None if sums is None else sums.array,
        ledger=wiring.ledger(links, nodes, samples),
        spikes=arrays["spikes"] if record else None,
        seconds=seconds,
        steps=steps,
        backend="fused",
        schedule="pipelined" if wiring.pipelined else "gated",
        currents=arrays["currents"],
        potentials=arrays["potentials"],
        exit_sums=arrays["exit_sums"],
    )


@dataclass(frozen=True)
class _Window:
    """One node's values by logical time, filled step by step.

    Attributes:
        array: (N, C, H, W, T); of running sums (N, K, T).
        offset: Lava step of the first sample's first timestep.
    """

    array: NDArray[Any]
    offset: int

    @classmethod
    def of(cls, wiring: Wiring, name: str, samples: int, kind: type[Any]) -> _Window:
        shape = (samples, *wiring.shape_of(name), wiring.timesteps)
        return cls(np.zeros(shape, kind), wiring.offset(name))

    @classmethod
    def sums(cls, wiring: Wiring, name: str, samples: int) -> _Window:
        """For a readout's running sums."""
        shape = (samples, int(np.prod(wiring.shape_of(name))), wiring.timesteps)
        return cls(np.zeros(shape, np.int64), wiring.offset(name))

    def put(self, step: int, values: Any) -> None:
        """Keep a Lava step's (C, H, W) or (K,); nothing outside of the samples' windows."""
        samples, timesteps = self.array.shape[0], self.array.shape[-1]
        sample, t = divmod(step - self.offset, timesteps)
        if 0 <= sample < samples:
            self.array[sample, ..., t] = values


__all__ = [
    "Backend",
    "EdgeSession",
    "Schedule",
    "SimulationResult",
    "StepResult",
    "simulate",
]
