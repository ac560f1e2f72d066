"""The torch executor equals the plain interpreter, in one go, step by step, and in any batch."""

import numpy as np
import pytest
import torch
from plain import leaky_net, load_join_net, random_net, run_plain

from neucodex_lava.cloud.executor import Executor, run_twin
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.errors import NetError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def assert_equal(net: IntegerNet, inputs: np.ndarray) -> None:
    spikes, potential, ledger = run_plain(net, inputs)
    result = run_twin(Executor(net), inputs, record=True, batch_size=2)
    assert result.spikes is not None
    for name, expected in spikes.items():
        np.testing.assert_array_equal(result.spikes[name], expected, err_msg=name)
        assert result.potentials is not None
        after = np.where(expected, 0, potential[name])
        np.testing.assert_array_equal(result.potentials[name], after, err_msg=name)
    assert result.ledger.first_difference(ledger) is None
    if net.ends_in_readout:
        final = potential[net.nodes[-1].name]
        sums = np.sign(final) * (np.abs(final) >> 6)
        assert result.sums is not None
        np.testing.assert_array_equal(result.sums, sums.reshape(result.sums.shape))


def test_the_fixture() -> None:
    net, inputs, _ = load_join_net()
    assert_equal(net, inputs)


def test_leaks_round_towards_zero() -> None:
    assert_equal(*leaky_net())


@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed: int) -> None:
    net, inputs = random_net(seed)
    assert_equal(net, inputs)


@pytest.mark.parametrize("seed", range(4))
def test_the_tail_step_by_step_equals_the_whole_run(seed: int) -> None:
    net, inputs = random_net(seed, readout=True)
    whole = run_twin(Executor(net), inputs, record=True)
    assert whole.spikes is not None
    for cut in net.legal_cuts()[:-1]:
        tail = TorchTail(net.with_cut(cut), "m", 1.0)
        code = inputs if cut == 0 else whole.spikes[net.nodes[cut - 1].name]
        for n in range(inputs.shape[0]):
            state = tail.new_state()
            for t in range(inputs.shape[-1]):
                state, sums = tail.step(state, code[n, ..., t])
                assert whole.sums is not None
                assert sums.tolist() == whole.sums[n, :, t].tolist()


def test_a_replay_from_an_old_state_gives_the_same_answer() -> None:
    net, inputs, _ = load_join_net()
    tail = TorchTail(net, "m", 1.0)
    code = run_twin(Executor(net, stop=3), inputs).output[0]
    first, _ = tail.step(tail.new_state(), code[..., 0])
    a = tail.step(first, code[..., 1])[1]
    b = tail.step(first, code[..., 1])[1]
    assert a.tolist() == b.tolist()


def test_an_edge_only_net_has_no_tail() -> None:
    net, _, _ = load_join_net(cut=5)
    with pytest.raises(NetError, match="nothing is left for the cloud"):
        TorchTail(net, "m", 1.0)


def test_an_overflow_fails_the_run() -> None:
    link = Connection("input", "dense", np.full((1, 600), 254, np.int16))
    node = Node("wide", (1, 1, 1), Neuron(threshold=100), np.zeros(1, int), (link,), sum_bound=1000)
    net = IntegerNet((600, 1, 1), (node,), 1, timesteps=1)
    ones = np.ones((1, 600, 1, 1, 1), np.uint8)
    with pytest.raises(OverflowInRunError, match="'wide': the synaptic sum reached 152400"):
        run_twin(Executor(net), ones)
    ones[0, 517:] = 0
    with pytest.raises(OverflowInRunError):
        run_twin(Executor(net), ones)
    ones[0, 516:] = 0
    assert run_twin(Executor(net), ones).output.sum() == 1


@pytest.mark.parametrize("weight", [254, -254])
def test_a_readout_that_would_clip_or_spike_fails_the_run(weight: int) -> None:
    link = Connection("input", "dense", np.full((1, 256), weight, np.int16))
    node = Node("readout", (1, 1, 1), READOUT, np.zeros(1, int), (link,), sum_bound=32_000)
    net = IntegerNet((256, 1, 1), (node,), 1, timesteps=4)
    ones = np.ones((1, 256, 1, 1, 4), np.uint8)
    with pytest.raises(OverflowInRunError, match="'readout': the running sum reached"):
        run_twin(Executor(net), ones)
    within = run_twin(Executor(net), ones[..., :2]).sums
    assert within is not None
    assert within.tolist() == [[[256 * weight, 512 * weight]]]


def test_autocast_and_gradients_do_not_leak_in() -> None:
    net, inputs, _ = load_join_net()
    expected = run_twin(Executor(net), inputs).sums
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run_twin(Executor(net), inputs).sums
    assert expected is not None
    assert found is not None
    assert expected.tolist() == found.tolist()
