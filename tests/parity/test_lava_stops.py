"""A decision while the pipeline runs: what is still fed, returned, counted and saved."""

from dataclasses import replace

import numpy as np
import pytest
from plain import delayed_net, load_join_net, run_plain
from session_totals import check_totals
from stopped import chain, expected

from neucodex_lava.edge.session import EdgeSession, Stop
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet

pytestmark = pytest.mark.lava


def run(net: IntegerNet, inputs: np.ndarray, decide: list[int | None]) -> EdgeSession:
    """Feed samples back to back; sample n is decided by timestep decide[n]. Checks what comes out."""
    sent, potential, _ = run_plain(net.edge_part(), inputs)
    last = net.edge_nodes[-1]
    came: list[tuple[int, int]] = []
    with EdgeSession(net, schedule="pipelined", keep_ledger=True) as session:

        def look(result: object) -> None:
            if result is None:
                return
            came.append((result.sample, result.timestep))
            n, t = result.sample, result.timestep - 1
            assert np.array_equal(result.code, sent[last.name][n, ..., t])
            if last.neuron.is_readout:
                assert np.array_equal(result.sums, potential[last.name][n, :, 0, 0, t] >> 6)
            if decide[n] == result.timestep:
                session.stop(result)

        for sample in inputs:
            for t in range(sample.shape[-1]):
                look(session.feed(sample[..., t]))
        for result in session.drain():
            look(result)
    timesteps = inputs.shape[-1]
    assert came == [
        (n, t + 1) for n, end in enumerate(decide) for t in range(timesteps if end is None else end)
    ]
    return session


def check(net: IntegerNet, inputs: np.ndarray, decide: list[int | None]) -> list[Stop]:
    session = run(net, inputs, decide)
    own, outside, stops = expected(net, inputs, decide)
    ledger = session.ledger()
    assert ledger.first_difference(own) is None
    assert ledger.outside_window == outside
    assert session.stops == stops
    check_totals(session, ledger)
    totals = session.totals
    assert totals.stopped == len(stops)
    assert totals.saved == sum(s.saved for s in stops)
    assert totals.syn_ops_late == sum(s.syn_ops_late for s in stops)
    assert totals.macs_late == sum(s.macs_late for s in stops)
    assert totals.timesteps == inputs.shape[0] * inputs.shape[-1] - totals.saved
    return stops


@pytest.mark.parametrize("cut", [2, 3])
def test_a_decision_blanks_what_was_not_fed_yet(cut: int) -> None:
    net, inputs = chain(8, cut)
    stops = check(net, inputs, [2, 4, None, 1])
    assert [s.fed for s in stops] == [2 + cut, 4 + cut, 1 + cut]
    assert [s.saved for s in stops] == [6 - cut, 4 - cut, 7 - cut]
    assert all(s.syn_ops > 0 and s.syn_ops_late > 0 for s in stops)
    # Biases make the rest of the windows work: it is there, and outside.
    _, outside, _ = expected(net, inputs, [2, 4, None, 1])
    _, without, _ = expected(net, inputs, [None] * 4)
    assert outside.syn_ops > without.syn_ops


def test_a_pipeline_as_deep_as_the_sample_is_long_saves_nothing() -> None:
    net, spikes, _ = load_join_net(5)
    assert net.edge_part().depth["readout"] > spikes.shape[-1]
    inputs = np.concatenate([spikes, spikes[..., ::-1], spikes])
    stops = check(net, inputs, [1, None, 1])
    assert [s.saved for s in stops] == [0, 0]
    assert all(s.syn_ops_late > 0 for s in stops)


def test_decisions_about_several_samples_in_one_pipeline() -> None:
    net, inputs = chain(3, 3)
    stops = check(net, inputs, [1, 2, 1, 3])
    assert [(s.sample, s.fed, s.saved) for s in stops] == [(0, 3, 0), (1, 3, 0), (2, 3, 0)]


def test_delayed_spikes_of_a_stopped_sample() -> None:
    net, inputs = delayed_net()
    net = replace(net, cut=2)
    session = run(net, inputs, [3, 5])
    depth = net.edge_part().depth["join"]
    fed = np.array([3, 5]) + depth
    blanked = inputs * (np.arange(inputs.shape[-1]) < fed[:, None, None, None, None])
    own = run_plain(net.edge_part(), blanked)[2].until(fed)
    assert session.ledger().first_difference(own) is None


def test_a_last_sample_may_be_left_once_it_is_stopped() -> None:
    net, inputs = chain(8)
    with EdgeSession(net, schedule="pipelined", keep_ledger=True) as session:
        results = [session.feed(inputs[0, ..., t]) for t in range(4)]
        with pytest.raises(ConfigError, match="fewer than 8"):
            session.drain()
        assert results[2] is not None
        session.stop(results[2])
        assert not list(session.drain())
        # Another decision, and one that comes too late, change nothing.
        session.stop(results[2])
        assert [(s.timestep, s.fed, s.saved) for s in session.stops] == [(1, 4, 4)]
        ledger = session.ledger()
    want = run_plain(net.edge_part(), inputs[:1])[2].until(np.array([4]))
    assert ledger.first_difference(want) is None
    with EdgeSession(net) as gated, pytest.raises(ConfigError, match="pipelined"):
        gated.stop(results[2])
