"""Hold a run in Lava against the plain interpreter, all of it with ``==``. Tests only."""

from __future__ import annotations

from typing import Any

import numpy as np
from plain import run_plain, running_sums

from neucodex_lava.edge.simulation import SimulationResult, simulate
from neucodex_lava.integer_net import IntegerNet


def lava_is_exact(
    net: IntegerNet, inputs: np.ndarray, backend: Any, schedule: Any, **options: Any
) -> SimulationResult:
    """Simulate with everything recorded, compare spikes, sums and counts; the result."""
    edge = net.edge_part()
    spikes, potential, ledger = run_plain(edge, inputs)
    result = simulate(net, inputs, backend=backend, schedule=schedule, record=True, **options)
    assert result.spikes is not None
    assert set(result.spikes) == set(spikes)
    for name, want in spikes.items():
        assert np.array_equal(result.spikes[name], want), name
    last = edge.last
    assert np.array_equal(result.output, spikes[last.name])
    if last.neuron.is_readout:
        assert np.array_equal(result.sums, running_sums(potential[last.name]))
    else:
        assert result.sums is None
    assert set(result.exit_sums) == {head.name for head in edge.exit_heads}
    for name, sums in result.exit_sums.items():
        assert np.array_equal(sums, running_sums(potential[name])), name
    assert result.ledger.first_difference(ledger) is None
    return result


def reference_is_exact(net: IntegerNet, inputs: np.ndarray, **options: Any) -> SimulationResult:
    """The same on stock processes."""
    return lava_is_exact(net, inputs, "reference", "pipelined", **options)
