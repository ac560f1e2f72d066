"""Exit heads, soft resets and initial potentials in Lava: as the plain loops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from against_plain import lava_is_exact
from exit_nets import exit_net
from plain import after_reset, run_plain, running_sums
from session_totals import check_totals

from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.stock.chip import chip_network, run_chip_network
from neucodex_lava.errors import ConfigError, OverflowInRunError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava


RUNS = [("fused", "gated"), ("fused", "pipelined"), ("reference", "pipelined")]


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
@pytest.mark.parametrize(("seed", "cut"), [(0, 7), (1, 5), (2, 2), (3, 1)])
def test_every_cut(seed: int, cut: int, backend: str, schedule: str) -> None:
    net, inputs = exit_net(seed)
    lava_is_exact(net.with_cut(cut), inputs, backend, schedule)


def test_both_pipelines_do_the_same_work_outside_the_windows() -> None:
    net, inputs = exit_net(1)
    # A bias above the threshold fires from the first step on, with no input at all.
    busy = [replace(n, bias=np.full(n.shape[0], 250)) for n in net.nodes if n not in net.exit_heads]
    net = net.with_nodes(*busy[:-1])
    fused = simulate(net, inputs, schedule="pipelined")
    reference = simulate(net, inputs, backend="reference", schedule="pipelined")
    assert fused.ledger.outside_window == reference.ledger.outside_window
    assert fused.ledger.outside_window.syn_ops > 0
    assert fused.exit_sums.keys() == reference.exit_sums.keys()
    watched = simulate(net, inputs, backend="reference", schedule="pipelined", watch=["join"])
    expected = run_plain(net, inputs)
    assert np.array_equal(watched.potentials["join"], after_reset(net, *expected[:2])["join"])
    assert watched.potentials.keys() == {"join"}


@pytest.mark.parametrize(("backend", "schedule"), RUNS)
def test_a_clipped_potential_of_a_soft_reset_fails_the_run(backend: Any, schedule: Any) -> None:
    """Its spikes would go on, but what is left of it would be another."""
    link = Connection("input", "dense", np.full((2, 200), 254))
    neuron = Neuron(4096, 0, 100, "subtract")
    node = Node("soft", (2, 1, 1), neuron, np.zeros(2, int), (link,), sum_bound=30_000)
    net = IntegerNet((200, 1, 1), (node,), 1, timesteps=3)
    inputs = np.ones((1, 200, 1, 1, 3), np.uint8)
    lava_is_exact(net, inputs[..., :2], backend, schedule)
    with pytest.raises(OverflowInRunError, match="'soft', sample 0, timestep 3.* 152200 "):
        simulate(net, inputs, backend=backend, schedule=schedule)


def test_a_chip_has_no_such_neuron() -> None:
    net, _ = exit_net(0)
    soft = net.with_nodes(*(replace(n, neuron=Neuron()) for n in net.nodes[2:5:2]))
    for neuron, reason in (
        (Neuron(reset="subtract"), "resets by subtracting its threshold"),
        (Neuron(initial=-5), "starts at an initial potential"),
    ):
        stem = replace(net.node("stem"), neuron=neuron)
        with pytest.raises(ConfigError, match=f"'stem': it {reason}.*needs a neuron in microcode"):
            chip_network(soft.with_nodes(stem))


def test_a_network_for_the_chip_shows_its_exit_heads() -> None:
    net, inputs = exit_net(0)
    plain = [replace(n, neuron=Neuron()) for n in net.nodes if not n.neuron.is_readout]
    net = net.with_nodes(*plain).with_cut(2)
    network = chip_network(net)
    assert network.exits.keys() == {"exit_sp1"}
    assert network.latency == 1
    spikes, sums = run_chip_network(net, inputs)
    assert sums is None
    assert np.array_equal(spikes, run_plain(net.edge_part(), inputs)[0]["stem"])


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
