"""The torch executor equals the plain interpreter, in one go, step by step, and in any batch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from plain import delayed_net, leaky_net, load_join_net, random_net, run_plain

from neucodex_lava.cloud.executor import Executor, run_twin
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.errors import NetError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def assert_equal(net: IntegerNet, inputs: np.ndarray, batch_size: int = 2) -> None:
    spikes, potential, ledger = run_plain(net, inputs)
    result = run_twin(Executor(net), inputs, record=True, batch_size=batch_size)
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


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("timesteps", [1, 3, 12, 70])
def test_delays(timesteps: int, batch_size: int) -> None:
    assert_equal(*delayed_net(timesteps), batch_size)


def test_a_delay_beyond_the_samples_end_brings_nothing() -> None:
    net, inputs = delayed_net(timesteps=2)
    result = run_twin(Executor(net), inputs, record=True)
    assert result.spikes is not None
    # The stem's spikes need two timesteps to arrive: only its bias drives it, and it stays below 150.
    assert result.ledger.spikes_in[:, 0].tolist() == [[0, 0], [0, 0]]
    assert result.spikes["stem"].sum() == 0


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("make", [leaky_net, delayed_net, lambda: random_net(1)])
def test_some_timesteps_at_a_time_equal_the_whole_run(
    make: Callable[[], tuple[IntegerNet, np.ndarray]], size: int
) -> None:
    net, inputs = make()
    spikes, potential, ledger = run_plain(net, inputs)
    executor = Executor(net)
    state = executor.initial_state(len(inputs))
    for first in range(0, inputs.shape[-1], size):
        part = slice(first, first + size)
        x = torch.from_numpy(np.moveaxis(inputs[..., part], -1, 0).copy())
        before = state
        state, traces = executor.advance(before, x, record=True, count=True)
        again = executor.advance(before, x, record=True, count=True)[1]
        for name, expected in spikes.items():
            for found in (traces, again):
                got = np.moveaxis(found.spikes[name].numpy(), 0, -1)
                np.testing.assert_array_equal(got, expected[..., part], err_msg=name)
                after = np.where(expected, 0, potential[name])[..., part]
                got = np.moveaxis(found.potentials[name].numpy(), 0, -1)
                np.testing.assert_array_equal(got, after, err_msg=name)
        for count, rows in traces.counts.items():
            got = torch.stack(rows).numpy().transpose(2, 0, 1)
            np.testing.assert_array_equal(got, getattr(ledger, count)[..., part], err_msg=count)


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
