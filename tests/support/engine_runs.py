"""Run the fused engine without Lava, as its process does, and sort the outcome by logical time."""

from __future__ import annotations

from typing import Any

import numpy as np
from plain import run_plain

from energy.ledger import Ledger
from neucodex_lava.edge.engine import FusedEngine
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import IntegerNet

Trains = dict[str, np.ndarray]


def run_engine(
    net: IntegerNet, inputs: np.ndarray, schedule: str, **options: Any
) -> tuple[Trains, Trains, Ledger]:
    """Spikes and potentials (after reset) of every node, (N, C, H, W, T), and the ledger."""
    wiring = Wiring.of(net, schedule, inputs.shape[-1])  # type: ignore[arg-type]
    engine = FusedEngine(wiring, **options)
    samples, timesteps = inputs.shape[0], inputs.shape[-1]
    steps = wiring.steps(samples)
    links, nodes = engine.zero_counts(steps)
    spikes = {n: np.zeros((steps, *engine.spikes(n).shape), np.uint8) for n in engine.names}
    potentials = {n: np.zeros((steps, *engine.potential(n).shape), np.int32) for n in engine.names}
    frames = np.moveaxis(inputs, -1, 1).reshape(-1, *inputs.shape[1:4]).transpose(0, 3, 2, 1)
    blank = np.zeros(frames.shape[1:], np.uint8)
    for step in range(steps):
        frame = frames[step] if step < len(frames) else blank
        engine.step(frame, step % timesteps == 0, links[step], nodes[step])
        for name in engine.names:
            spikes[name][step] = engine.spikes(name)
            potentials[name][step] = engine.potential(name)

    def logical(rows: Trains) -> Trains:
        return {
            name: wiring.by_logical_time(r, wiring.offset(name), samples).transpose(0, 4, 2, 3, 1)
            for name, r in rows.items()
        }

    return logical(spikes), logical(potentials), wiring.ledger(links, nodes, samples)


def assert_as_plain(net: IntegerNet, inputs: np.ndarray, schedule: str, **options: Any) -> None:
    """Spikes, potentials after reset and counts of the engine are those of the plain loops."""
    expected, before_reset, ledger = run_plain(net.edge_part(), inputs)
    spikes, potentials, counted = run_engine(net, inputs, schedule, **options)
    for name, want in expected.items():
        assert np.array_equal(spikes[name], want), f"spikes of {name}"
        left = np.where(want, 0, before_reset[name])
        assert np.array_equal(potentials[name], left), f"potentials of {name}"
    assert counted.first_difference(ledger) is None
