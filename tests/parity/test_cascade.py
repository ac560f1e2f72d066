"""Structural exits decided while Lava runs, beside the same read off from whole runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cascades import small_cascade

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import ConfigError, SimulationError
from neucodex_lava.evaluation.cascade.session import CascadeSession, require_same
from neucodex_lava.exits import ConfidencePolicy, FixedPolicy, PatiencePolicy, max_softmax
from neucodex_lava.exits.policy import ExitPolicy

SAMPLES = 30


@pytest.mark.parametrize("seed", [0, 1])
def test_lava_stops_where_the_whole_run_says_and_counts_what_ran(seed: int) -> None:
    cascade, inputs = small_cascade(seed, SAMPLES)
    whole = run_twin(Executor(cascade.net), inputs)
    confidences = max_softmax(
        ConfidencePolicy(3, 1.0, logits="sum").read(cascade.logits(cascade.sums(whole)))
    )
    policies: list[ExitPolicy] = [
        ConfidencePolicy(3, 1.0, float(np.median(confidences)), logits="sum"),
        PatiencePolicy(3, 1),
        FixedPolicy(3, 1),
        FixedPolicy(3),
    ]
    everything = np.arange(SAMPLES)
    with CascadeSession(cascade) as session:
        for policy in policies:
            expected = cascade.read_off(whole, policy)
            real = session.run(inputs, policy)
            require_same(expected, real, everything, "cascade")
            assert (real.exits.timesteps == expected.exits.timesteps).all()
            assert real.edge_s is not None
            assert (real.edge_s > 0).all()
        few = session.run(inputs[[4, 9]], policies[0])
        with pytest.raises(ConfigError, match="for 5 exits"):
            session.run(inputs, FixedPolicy(5))
    stopped = cascade.read_off(whole, policies[0])
    assert set(stopped.exits.timesteps) == {1, 2, 3}
    require_same(stopped, few, np.array([4, 9]), "cascade")
    other = replace(few, sums=few.sums + 1)
    with pytest.raises(SimulationError, match="cascade: sums of sample 4 differ"):
        require_same(stopped, other, np.array([4, 9]), "cascade")
    few.ledger.syn_ops[1, 0, 2] += 1
    with pytest.raises(SimulationError, match="syn_ops of node 'stem' at timestep 3 of sample 9"):
        require_same(stopped, replace(few), np.array([4, 9]), "cascade")
