"""Exit heads, soft resets and initial potentials in Lava: as the plain loops."""

from typing import Any

import numpy as np
import pytest
from against_plain import lava_is_exact
from exit_nets import exit_net
from plain import run_plain, running_sums
from session_totals import check_totals

from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.integer_net import IntegerNet

pytestmark = pytest.mark.lava


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
@pytest.mark.parametrize(("seed", "cut"), [(0, 7), (1, 5), (2, 2), (3, 1)])
def test_fused(seed: int, cut: int, schedule: str) -> None:
    net, inputs = exit_net(seed)
    lava_is_exact(net.with_cut(cut), inputs, "fused", schedule)


def check_result(net: IntegerNet, inputs: np.ndarray, results: list[Any]) -> None:
    edge = net.edge_part()
    spikes, potential, _ = run_plain(edge, inputs)
    for r in results:
        n, t = r.sample, r.timestep - 1
        assert np.array_equal(r.code, spikes[edge.output][n, ..., t])
        assert r.exit_sums.keys() == {head.name for head in edge.exit_heads}
        for name, sums in r.exit_sums.items():
            assert sums.tolist() == running_sums(potential[name])[n, :, t].tolist(), (name, n, t)


def test_a_gated_session_gives_each_head_with_its_timestep() -> None:
    net, inputs = exit_net(2)
    net = net.with_cut(5)
    results: list[Any] = []
    with EdgeSession(net) as session:
        assert session.behind == 0
        for sample, steps in zip(inputs, (4, 1, 3)):
            session.start_sample()
            results += [session.step(sample[..., t]) for t in range(steps)]
    assert len(results) == 8
    check_result(net, inputs, results)


@pytest.mark.parametrize(("cut", "behind"), [(2, 1), (5, 1), (6, 0), (7, 0)])
def test_a_pipelined_session_brings_together_what_comes_at_different_steps(
    cut: int, behind: int
) -> None:
    net, inputs = exit_net(2)
    net = net.with_cut(cut)
    results: list[Any] = []
    with EdgeSession(net, schedule="pipelined", keep_ledger=True) as session:
        assert session.behind == behind
        for sample in inputs:
            for t in range(sample.shape[-1]):
                result = session.feed(sample[..., t])
                # The second sample is decided by its second timestep.
                if result is not None and (result.sample, result.timestep) == (1, 2):
                    session.stop(result)
                results += [] if result is None else [result]
        results += session.drain()
        check_totals(session, session.ledger())
    came = [(r.sample, r.timestep) for r in results]
    assert came == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2), *((2, t) for t in (1, 2, 3, 4))]
    check_result(net, inputs, results)
