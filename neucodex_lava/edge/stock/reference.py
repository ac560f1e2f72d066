"""Run an edge part on the `reference` backend: stock Lava processes, pipelined."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.engine.engine import overflow_error
from neucodex_lava.edge.result import Progress, SimulationResult, windows
from neucodex_lava.edge.runtime.supervisor import SupervisedRun
from neucodex_lava.edge.stock.assembly import holds_spikes_back
from neucodex_lava.edge.stock.network import PerStep, ReferenceNetwork
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

    Samples run back to back in one network, but each in a network of its own where spikes wait
    inside (`holds_spikes_back`).

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
    samples = len(inputs)
    together = 1 if holds_spikes_back(wiring.net) else samples
    parts: list[SimulationResult] = []
    for first in range(0, samples, together):

        def done(here: int, first: int = first) -> None:
            progress(first + here, samples)

        some = inputs[first : first + together]
        parts.append(_run(wiring, some, record, watch, first, done))
    return parts[0] if len(parts) == 1 else _joined(parts)


def _run(
    wiring: Wiring,
    inputs: NDArray[np.uint8],
    record: bool,
    watch: Sequence[str],
    first: int,
    done: Callable[[int], None],
) -> SimulationResult:
    """Run samples, the first of which is number `first`, in one network."""
    samples, timesteps = len(inputs), wiring.timesteps
    steps = wiring.steps(samples)
    frames = np.zeros((steps, *wiring.net.input_shape), np.uint8)
    frames[: samples * timesteps] = np.moveaxis(inputs, -1, 1).reshape(-1, *wiring.net.input_shape)
    network = ReferenceNetwork(wiring, frames, record=record, watch=watch)
    with SupervisedRun(network.root, network.models) as run:
        began = time.perf_counter()
        run.start(steps)
        run.finish(lambda: done(min(network.steps_done // timesteps, samples)))
        seconds = time.perf_counter() - began
    for sample, t, node, value in network.overflows(samples):
        raise overflow_error(node, first + sample, t, value)
    done(samples)

    def logical(per_step: dict[str, PerStep]) -> dict[str, PerStep]:
        return {
            name: windows(wiring, name, values.transpose(0, 3, 2, 1), samples)
            for name, values in per_step.items()
        }

    spikes, potentials = logical(network.spikes), logical(network.potentials)

    def running_sums(name: str) -> NDArray[np.int64]:
        return potentials[name].reshape(samples, -1, timesteps).astype(np.int64) >> STATE_SHIFT

    return SimulationResult(
        output=spikes[wiring.output],
        sums=running_sums(wiring.output) if wiring.net.ends_in_readout else None,
        ledger=network.ledger(samples),
        spikes=spikes if record else None,
        seconds=seconds,
        steps=steps,
        backend="reference",
        schedule="pipelined",
        currents=logical(network.currents),
        potentials={name: potentials[name] for name in watch},
        exit_sums={name: running_sums(name) for name in wiring.exit_heads},
    )


def _joined(parts: list[SimulationResult]) -> SimulationResult:
    """Runs of some samples each as one of all of them."""

    def joined(of: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return {name: np.concatenate([part[name] for part in of]) for name in of[0]}

    first = parts[0]
    return replace(
        first,
        output=np.concatenate([p.output for p in parts]),
        sums=None
        if first.sums is None
        else np.concatenate([p.sums for p in parts if p.sums is not None]),
        ledger=Ledger.concatenate([p.ledger for p in parts]),
        spikes=None if first.spikes is None else joined([p.spikes or {} for p in parts]),
        seconds=sum(p.seconds for p in parts),
        steps=sum(p.steps for p in parts),
        currents=joined([p.currents for p in parts]),
        potentials=joined([p.potentials for p in parts]),
        exit_sums=joined([p.exit_sums for p in parts]),
    )
