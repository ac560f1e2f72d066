"""Run the fused engine without Lava, as its process does, and sort the outcome by logical time."""

from __future__ import annotations

from typing import Any

import numpy as np
from plain import after_reset, run_plain, synapse

from energy.ledger import Ledger
from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.engine.layout import Synapses, to_hwc
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import Connection, IntegerNet, Shape

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
    left = after_reset(net.edge_part(), expected, before_reset)
    for name, want in expected.items():
        assert np.array_equal(spikes[name], want), f"spikes of {name}"
        assert np.array_equal(potentials[name], left[name]), f"potentials of {name}"
    assert counted.first_difference(ledger) is None


def check_delivery(
    link: Connection, source: Shape, target: Shape, values: np.ndarray, high: int, kind: type
) -> None:
    """Sums and counts of both ways, of values (C, H, W), are those of plain loops."""
    graded = high > 1
    every, nonzero = link.fan_out(source, target)
    active = values != 0
    ops = [(every * active).sum(), (nonzero * active).sum(), 0]
    counted = [active.sum(), *([0, 0, ops[0]] if graded else ops)]
    expected = to_hwc(synapse(link, values, target)).astype(kind)
    compiled = Synapses(link, source, target, graded=graded)
    assert link.groups == 1 or compiled.gather_from == np.inf, "groups are only scattered"
    ways = [np.inf] if link.groups > 1 else [0.0, np.inf]
    for compiled.gather_from in ways:
        acc = np.ones(compiled.target_view, kind)
        counts = np.ones(4, np.int64)
        compiled.deliver(to_hwc(values.astype(np.uint8)).reshape(compiled.source_view), acc, counts)
        assert np.array_equal(acc.reshape(expected.shape), expected + 1)
        assert (counts - 1).tolist() == counted
