"""IntegerNet against the fixture that SEMANTICS works out by plain loops, and its limits."""

from dataclasses import replace

import numpy as np
import pytest
from plain import load_join_net, run_plain

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def test_the_plain_interpreter_gives_the_fixture() -> None:
    net, spikes, steps = load_join_net()
    out, potential, ledger = run_plain(net, spikes)
    links = list(ledger.connections)
    for step in steps:
        t, name = step["timestep"] - 1, step["node"]
        node = ledger.nodes.index(name)
        assert out[name][0, ..., t].tolist() == step["spikes"]
        assert potential[name][0, ..., t].tolist() == step["potential_before_reset"]
        assert ledger.axon_out[0, node, t] == step["axon_out"]
        assert ledger.dendrite_updates[0, node, t] == step["dendrite_updates_gated"]
        for c in step["connections"]:
            row = links.index((name, c["source"]))
            for count in ("spikes_in", "syn_ops", "syn_ops_nonzero"):
                assert getattr(ledger, count)[0, row, t] == c[count]


def test_structure_of_the_fixture() -> None:
    net, _, _ = load_join_net()
    depth = {"input": 0, "stem": 1, "main": 2, "join": 3, "down": 4, "readout": 5}
    assert net.depth == depth
    assert net.legal_cuts() == [0, 1, 3, 4, 5]
    assert net.ends_in_readout
    assert not net.is_chain
    assert net.with_cut(1).is_chain
    assert net.with_cut(0).code_shape == (1, 4, 4)
    with pytest.raises(NetError, match="cannot be cut at 2"):
        net.with_cut(2)


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_fan_out_counts_real_synapses(kind: str, stride: int, dilation: int, groups: int) -> None:
    rng = np.random.default_rng(stride * 10 + dilation)
    source = (4, 7, 6)
    shape = (6, 4 // groups, 3, 2) if kind == "conv" else (4, 6 // groups, 3, 2)
    weight = 2 * rng.integers(-1, 2, shape)
    link = Connection(
        "input", kind, weight, 0, (stride, stride), (1, 1), (dilation, dilation), groups=groups
    )  # type: ignore[arg-type]
    target = link.output_shape(source)
    assert target is not None
    every, nonzero = link.fan_out(source, target)
    ones = replace(link, weight=np.full_like(link.weight, 2))
    from plain import synapse

    for index in np.ndindex(source):
        spike = np.zeros(source, np.uint8)
        spike[index] = 1
        assert every[index] == synapse(ones, spike, target).sum() // 2
        some = replace(link, weight=2 * (link.weight != 0).astype(np.int16))
        assert nonzero[index] == synapse(some, spike, target).sum() // 2


def _one(weight: np.ndarray, neuron: Neuron, bias: int = 0, bits: int = 1) -> IntegerNet:
    link = Connection("input", "dense", weight)
    node = Node("only", (weight.shape[0], 1, 1), neuron, np.full(weight.shape[0], bias), (link,))
    return IntegerNet((weight.shape[1], 1, 1), (node,), 1, timesteps=4, input_bits=bits)


def test_limits_are_checked_when_a_net_is_made() -> None:
    lif = Neuron(threshold=100)
    with pytest.raises(NetError, match="weight 256 is outside"):
        _one(np.array([[256]]), lif)
    with pytest.raises(NetError, match="weight 3 is odd"):
        _one(np.array([[3]]), lif)
    with pytest.raises(NetError, match="bias 40000 is outside"):
        _one(np.array([[2]]), lif, bias=40_000)
    with pytest.raises(NetError, match="threshold 131072 is outside"):
        _one(np.array([[2]]), Neuron(threshold=131_072))
    with pytest.raises(NetError, match="positive synaptic sum can reach 131572"):
        _one(np.full((1, 518), 254), lif)
    with pytest.raises(NetError, match="negative potential can reach 131584"):
        _one(np.full((1, 257), -256), lif)
    with pytest.raises(NetError, match="running sum can reach 131096"):
        _one(np.full((1, 129), 254), READOUT, bias=8)
    with pytest.raises(NetError, match="positive synaptic sum can reach 259080"):
        _one(np.full((1, 4), 254), lif, bits=8)
    _one(np.full((1, 516), 254), lif)
    _one(np.full((1, 255), -256), lif)


def test_a_dangling_connection_is_refused() -> None:
    link = Connection("later", "dense", np.array([[2]]))
    node = Node("first", (1, 1, 1), Neuron(), np.zeros(1, int), (link,))
    with pytest.raises(NetError, match="'later', which is not an earlier node"):
        IntegerNet((1, 1, 1), (node,), 1, 1)
