"""The torch executor equals the plain interpreter, in one go, step by step, and in any batch."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from exit_nets import exit_net
from plain import (
    after_reset,
    delayed_net,
    leaky_net,
    load_join_net,
    random_net,
    run_plain,
    running_sums,
)

from neucodex_lava.cloud.exact import exact_arithmetic
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import NetError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def assert_equal(
    net: IntegerNet, inputs: np.ndarray, batch_size: int = 2, device: str = "cpu"
) -> None:
    spikes, potential, ledger = run_plain(net, inputs)
    result = run_twin(Executor(net, device=device), inputs, record=True, batch_size=batch_size)
    assert result.spikes is not None
    assert result.potentials is not None
    after = after_reset(net, spikes, potential)
    for name, expected in spikes.items():
        np.testing.assert_array_equal(result.spikes[name], expected, err_msg=name)
        np.testing.assert_array_equal(result.potentials[name], after[name], err_msg=name)
    assert result.ledger.first_difference(ledger) is None
    if net.ends_in_readout:
        np.testing.assert_array_equal(result.sums, running_sums(potential[net.last.name]))
    assert set(result.exit_sums) == {head.name for head in net.exit_heads}
    for name, sums in result.exit_sums.items():
        np.testing.assert_array_equal(sums, running_sums(potential[name]), err_msg=name)


def test_the_fixture() -> None:
    net, inputs, _ = load_join_net()
    assert_equal(net, inputs)


def test_leaks_round_towards_zero() -> None:
    assert_equal(*leaky_net())


@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed: int) -> None:
    net, inputs = random_net(seed)
    assert_equal(net, inputs)


@pytest.mark.parametrize("seed", range(8))
def test_exit_heads_and_soft_resets(seed: int) -> None:
    net, inputs = exit_net(seed)
    assert_equal(net, inputs)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_each_side_of_a_cut_runs_its_exit_heads(cut: int) -> None:
    net, inputs = exit_net(2)
    whole = run_twin(Executor(net), inputs)
    edge = run_twin(Executor(net, stop=cut), inputs)
    cut_net = net.with_cut(cut)
    alone = run_twin(Executor(cut_net.edge_part()), inputs)
    tail = run_twin(Executor(net, start=cut), edge.output)
    assert edge.output.shape[1:4] == cut_net.code_shape
    assert np.array_equal(alone.output, edge.output)
    assert (edge.sums is None, alone.sums is None) == (True, True)
    assert np.array_equal(tail.sums, whole.sums)
    assert not edge.exit_sums.keys() & tail.exit_sums.keys()
    assert edge.exit_sums.keys() == alone.exit_sums.keys()
    parts = {**edge.exit_sums, **tail.exit_sums}
    assert parts.keys() == whole.exit_sums.keys() == {"exit_sp1", "exit_sp2"}
    for name, sums in parts.items():
        assert np.array_equal(sums, whole.exit_sums[name])
        assert whole.exit_sums[name].any()


def test_the_segments_in_a_row_give_what_the_whole_network_gives() -> None:
    net, inputs = exit_net(4)
    whole = run_twin(Executor(net), inputs)
    rows = 0
    for part in net.segments():
        run = run_twin(Executor(part), inputs)
        for name, sums in run.exit_sums.items():
            assert np.array_equal(sums, whole.exit_sums[name])
        own = whole.ledger.select([node.name for node in part.nodes])
        assert np.array_equal(run.ledger.syn_ops, own.syn_ops)
        rows += run.ledger.syn_ops.shape[1]
        inputs = run.output
    assert np.array_equal(run.sums, whole.sums)
    assert rows == whole.ledger.syn_ops.shape[1]


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
@pytest.mark.parametrize(
    "make", [leaky_net, delayed_net, lambda: random_net(1), lambda: exit_net(0)]
)
def test_some_timesteps_at_a_time_equal_the_whole_run(
    make: Callable[[], tuple[IntegerNet, np.ndarray]], size: int
) -> None:
    net, inputs = make()
    spikes, potential, ledger = run_plain(net, inputs)
    after = after_reset(net, spikes, potential)
    executor = Executor(net)
    state = executor.initial_state()
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
                got = np.moveaxis(found.potentials[name].numpy(), 0, -1)
                np.testing.assert_array_equal(got, after[name][..., part], err_msg=name)
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


@pytest.mark.parametrize("weight", [254, -254])
def test_a_soft_reset_whose_potential_would_clip_fails_the_run(weight: int) -> None:
    link = Connection("input", "dense", np.full((2, 200), weight))
    neuron = Neuron(4096, 0, 100, "subtract")
    node = Node("soft", (2, 1, 1), neuron, np.zeros(2, int), (link,), sum_bound=30_000)
    net = IntegerNet((200, 1, 1), (node,), 1, timesteps=3)
    ones = np.ones((1, 200, 1, 1, 3), np.uint8)
    assert_equal(net, ones[..., :2])
    reached = 3 * 50_800 - 200 if weight > 0 else -3 * 50_800
    with pytest.raises(OverflowInRunError, match=f"'soft': the potential reached {reached} at"):
        run_twin(Executor(net), ones)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [None, 1, 2, 5, 100])
def test_batches_and_threads_change_nothing(threads: int, batch_size: int | None) -> None:
    net, inputs = random_net(7)
    inputs = np.concatenate([inputs, inputs[:, ..., ::-1], inputs[::-1]])
    expected, _, ledger = run_plain(net, inputs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seen: list[tuple[int, int]] = []
    try:
        result = run_twin(
            Executor(net),
            inputs,
            batch_size=batch_size,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(result.output, expected[net.nodes[-1].name])
    assert result.ledger.first_difference(ledger) is None
    assert seen[-1] == (9, 9)


def test_an_error_in_one_of_many_batches_ends_the_run() -> None:
    link = Connection("input", "dense", np.full((1, 600), 254, np.int16))
    node = Node("wide", (1, 1, 1), Neuron(threshold=100), np.zeros(1, int), (link,), sum_bound=1000)
    executor = Executor(IntegerNet((600, 1, 1), (node,), 1, timesteps=1))
    inputs = np.zeros((50, 600, 1, 1, 1), np.uint8)
    inputs[33] = 1
    with pytest.raises(OverflowInRunError, match="'wide': the synaptic sum reached 152400"):
        run_twin(executor, inputs, batch_size=1)
    assert run_twin(executor, inputs[:33], batch_size=1).ledger.total("spikes_in") == 0


def test_counts_beyond_what_a_float32_holds_are_exact() -> None:
    link = Connection("input", "conv", np.full((125, 1, 7, 7), 2, np.int16), padding=(3, 3))
    node = Node("wide", (125, 61, 61), Neuron(), np.zeros(125, int), (link,))
    net = IntegerNet((1, 61, 61), (node,), 1, timesteps=1)
    ledger = run_twin(Executor(net), np.ones((2, 1, 61, 61, 1), np.uint8)).ledger
    assert 125 * 415**2 == 21_528_125 > 1 << 24  # odd, so no float32
    for count in ("syn_ops", "syn_ops_nonzero"):
        assert getattr(ledger, count).ravel().tolist() == [21_528_125] * 2
    assert ledger.spikes_in.ravel().tolist() == [61 * 61] * 2


def test_sums_whose_parts_a_float32_does_not_hold_are_exact() -> None:
    rng = np.random.default_rng(0)
    half = 2 * rng.integers(100, 128, (3, 30_000))
    last = half.copy()
    last[:, :5] += 2 - 4 * (np.arange(5) % 2)
    weight = np.concatenate([half, -np.clip(last, -256, 254)], axis=1).astype(np.int16)
    link = Connection("input", "dense", weight)
    node = Node("wide", (3, 1, 1), Neuron(), np.zeros(3, int), (link,), sum_bound=100_000)
    net = IntegerNet((60_000, 1, 1), (node,), 1, timesteps=1, input_bits=8)
    value = rng.integers(128, 256, (4, 30_000))
    inputs = np.concatenate([value, value], axis=1).astype(np.uint8).reshape(4, 60_000, 1, 1, 1)
    assert_equal(net, inputs)


def test_autocast_gradients_and_reduced_precision_do_not_leak_in() -> None:
    net, inputs, _ = load_join_net()
    expected = run_twin(Executor(net), inputs).sums
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = run_twin(Executor(net), inputs).sums
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
    assert expected is not None
    assert found is not None
    assert expected.tolist() == found.tolist()


def test_threads_that_overlap_stay_exact_until_the_last_one_is_done() -> None:
    """One that ends must not switch TF32 on again under another that still convolves."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")

    def flags() -> tuple[bool, str]:
        return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()

    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with exact_arithmetic():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    try:
        with exact_arithmetic():
            thread.start()
            assert entered.wait(10)
            assert flags() == (False, "highest")
        assert flags() == (False, "highest")
        leave.set()
        thread.join()
        assert flags() == (True, "high")
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "make", [leaky_net, delayed_net, *(lambda s=s: random_net(s) for s in range(8))]
)
def test_a_gpu_gives_the_same(make: Callable[[], tuple[IntegerNet, np.ndarray]]) -> None:
    net, inputs = make()
    assert_equal(net, inputs, device="cuda")
