"""Delays in stock Lava: relays, `DelayDense`, the host for the input; against the plain interpreter."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from against_plain import reference_is_exact
from plain import delayed_net, random_net, run_plain

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava

SPIKY = Neuron(4096, 2048, 60)


def with_delays(net: IntegerNet, of: Any) -> IntegerNet:
    """The same net, each connection's delays given by ``of(connection)``."""
    nodes = [
        replace(n, connections=tuple(replace(c, delay=np.array(of(c))) for c in n.connections))
        for n in net.nodes
    ]
    return net.with_nodes(*nodes)


def test_every_kind_of_delay() -> None:
    net, inputs = delayed_net()
    result = reference_is_exact(net, inputs)
    # Each sample in a network of its own: depth 4 and T = 12, twice.
    assert result.steps == 2 * (12 + 4)
    assert result.output.any()
    assert result.ledger.relay.axon_out > 0
    plain = simulate(net, inputs, backend="reference", schedule="pipelined")
    assert np.array_equal(plain.output, result.output)
    assert plain.spikes is None
    assert plain.ledger.first_difference(result.ledger) is None


@pytest.mark.parametrize("memory", [4096, 1500])
def test_what_biased_nodes_send_before_their_window_is_not_held_back_into_another(
    memory: int,
) -> None:
    net, inputs = delayed_net(5)
    loud = [
        replace(n, bias=np.full(n.shape[0], 300), neuron=replace(n.neuron, current_decay=memory))
        for n in net.nodes
    ]
    net = net.with_nodes(*loud)
    # Without any input, too: everything is due to the bias.
    result = reference_is_exact(net, np.stack([inputs[0], np.zeros_like(inputs[0])]))
    assert result.output[1].any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_nets_with_random_delays(seed: int) -> None:
    net, inputs = random_net(seed)
    rng = np.random.default_rng(seed)
    net = net.with_cut(next(c for c in reversed(net.legal_cuts()) if no_decoder(net, c)))
    net = replace(net, nodes=net.edge_nodes)

    def of(connection: Connection) -> Any:
        if connection.kind != "dense":
            return rng.integers(0, 4)
        rows, columns = connection.weight.shape
        return rng.integers(0, 4, (1, columns) if seed % 2 else (rows, 1))

    reference_is_exact(with_delays(net, of), inputs)


def no_decoder(net: IntegerNet, cut: int) -> bool:
    return all(c.kind != "conv_transpose" for n in net.nodes[:cut] for c in n.connections)


def weights(rng: np.random.Generator, *size: int) -> np.ndarray:
    return (2 * rng.integers(-60, 61, size)).astype(np.int16)


@pytest.mark.parametrize("bits", [1, 3])
def test_delayed_input_needs_no_network_per_sample(bits: int) -> None:
    rng = np.random.default_rng(bits)
    size = 2 * 4 * 3
    per_source = rng.choice(np.array([0, 1, 3, 62]), (1, size))
    stem = Connection("input", "dense", weights(rng, 6, size), delay=per_source)
    body = Connection("stem", "dense", weights(rng, 5, 6))
    # The image once more, past a layer, late by one timestep.
    image = Connection("input", "dense", weights(rng, 5, size), delay=np.array(1))
    nodes = (
        Node("stem", (6, 1, 1), SPIKY, np.arange(6), (stem,)),
        Node("readout", (5, 1, 1), READOUT, np.arange(5), (body, image)),
    )
    net = IntegerNet((2, 4, 3), nodes, 2, 4, bits)
    inputs = rng.integers(0, 2**bits, (3, 2, 4, 3, 4)).astype(np.uint8)
    result = reference_is_exact(net, inputs)
    assert result.steps == 3 * 4 + 2
    assert (result.ledger.relay.axon_out > 0) == (bits == 1)


def test_graded_sums_that_wait() -> None:
    rng = np.random.default_rng(5)
    late = np.array([[0], [1], [2], [1]])
    first = Connection("input", "dense", weights(rng, 4, 12), exponent=1, delay=late)
    node = Node("first", (4, 1, 1), SPIKY, np.arange(4), (first,))
    net = IntegerNet((3, 2, 2), (node,), 1, 3, 4)
    inputs = rng.integers(0, 16, (2, 3, 2, 2, 3)).astype(np.uint8)
    result = reference_is_exact(net, inputs)
    assert result.ledger.total("macs") > 0
    assert not result.ledger.total("syn_ops")


def test_watched_currents_and_potentials() -> None:
    net, inputs = delayed_net(6)
    spikes, before_reset, _ = run_plain(net, inputs)
    watch = ["join", "last"]
    result = simulate(net, inputs, backend="reference", schedule="pipelined", watch=watch)
    assert list(result.potentials) == list(result.currents) == watch
    for name in watch:
        assert result.potentials[name].dtype == result.currents[name].dtype == np.int32
        want = before_reset[name] * (spikes[name] == 0)
        assert np.array_equal(result.potentials[name], want), name
    fused = simulate(net, inputs, watch=watch)
    for name in watch:
        assert np.array_equal(result.currents[name], fused.currents[name]), name
    assert any(np.any(u) for u in result.currents.values())
