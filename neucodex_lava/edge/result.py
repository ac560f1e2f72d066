"""What a step of a session and a whole simulation gave, by logical time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.wiring import Backend, Schedule, Wiring

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StepResult:
    """What one logical timestep gave.

    Attributes:
        sample: from 0.
        timestep: t, from 1.
        code: spikes of the node whose output crosses the cut, uint8 (C, H, W).
        sums: running sums S_t, int64 (K,), when the edge part ends in the readout, else None.
        links: counts of this timestep (gated) or Lava step (pipelined) per connection, int64
            (connections, 4), in the order of `energy.ledger.CONNECTION_COUNTS`.
        nodes: the same per node, int64 (nodes, 2), in the order of `NODE_COUNTS`.
        spikes: with ``record=True``, uint8 (C, H, W) per node name, else empty.
        seconds: time the simulator took, as seen by the caller.
        exit_sums: running sums S_t of each exit head at this logical timestep, int64 (K,).
    """

    sample: int
    timestep: int
    code: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    links: NDArray[np.int64]
    nodes: NDArray[np.int64]
    spikes: dict[str, NDArray[np.uint8]]
    seconds: float
    exit_sums: dict[str, NDArray[np.int64]] = field(default_factory=dict)


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation gave.

    Attributes:
        output: spikes of the node whose output crosses the cut, uint8 (N, C, H, W, T).
        sums: running sums S_t, int64 (N, K, T), when the edge part ends in the readout, else None.
        ledger: counts of the edge nodes.
        spikes: with ``record=True``, uint8 (N, C, H, W, T) per node name, else None.
        currents: u of the watched nodes, int32 (N, C, H, W, T) in state units (2**-6).
        potentials: v after reset (0 where a neuron spiked) of the watched nodes, the same; of all
            nodes with ``record=True`` on the backend fused.
        seconds: time the Lava steps took; building the network is not in it.
        steps: Lava steps.
        backend, schedule: how it was run.
        exit_sums: running sums S_t of each exit head, int64 (N, K, T).
    """

    output: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    ledger: Ledger
    spikes: dict[str, NDArray[np.uint8]] | None
    seconds: float
    steps: int
    backend: Backend
    schedule: Schedule
    currents: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    potentials: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    exit_sums: dict[str, NDArray[np.int64]] = field(default_factory=dict)


def windows(wiring: Wiring, node: str, per_step: NDArray[Any], samples: int) -> NDArray[Any]:
    """A node's (steps, C, H, W), or a readout's sums (steps, K), as (N, C, H, W, T) or (N, K, T)."""
    view = wiring.by_logical_time(per_step, wiring.offset(node), samples)
    return np.ascontiguousarray(np.moveaxis(view, 1, -1))
