"""Sessions fed timestep by timestep, and the counting synapses beside the unmodified ones."""

import gc
import re
import threading
import time
from multiprocessing import managers
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from lava.magma.core.process.process import ProcessServer
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.utils.weightutils import SignMode
from plain import load_join_net, run_plain
from session_totals import check_totals

from neucodex_lava.edge.processes.counting import CountingConv, CountingDense
from neucodex_lava.edge.processes.fused import EdgeHead, PyEdgeHeadModel
from neucodex_lava.edge.runtime import supervisor
from neucodex_lava.edge.runtime.shared import shared_zeros
from neucodex_lava.edge.runtime.supervisor import SupervisedRun
from neucodex_lava.edge.simulation import EdgeSession, simulate
from neucodex_lava.errors import ConfigError, DataError, SimulationError
from neucodex_lava.integer_net import Connection

pytestmark = pytest.mark.lava


def leftovers() -> tuple[set[int], int, int]:
    """Child processes (less the resource tracker), mapped shared memory, threads."""
    children = {
        p.pid
        for p in psutil.Process().children(recursive=True)
        if not any("resource_tracker" in part for part in p.cmdline())
    }
    return children, len(segments()), threading.active_count()


def segments() -> set[str]:
    """Names of the shared memory that this process maps."""
    return set(re.findall(r"/dev/shm/(psm_\w+)", Path("/proc/self/maps").read_text()))


def test_a_gated_session_may_leave_a_sample_after_any_timestep() -> None:
    net, spikes, _ = load_join_net(5)
    samples = [spikes, spikes[..., ::-1], spikes]
    stop = np.array([1, 2, 1])
    inputs = np.concatenate(samples)
    sent, potential, whole = run_plain(net, inputs)
    with EdgeSession(net, record=True, keep_ledger=True) as session:
        for n, last in enumerate(stop):
            session.start_sample()
            for t in range(last):
                result = session.step(inputs[n, ..., t])
                assert (result.sample, result.timestep) == (n, t + 1)
                for name, want in sent.items():
                    assert np.array_equal(result.spikes[name], want[n, ..., t])
                assert np.array_equal(result.sums, potential["readout"][n, :, 0, 0, t] >> 6)
                assert result.nodes[:, 1].tolist() == whole.axon_out[n, :, t].tolist()
                assert result.links[:, 1].tolist() == whole.syn_ops[n, :, t].tolist()
                assert 0 < result.seconds < 5
        ledger = session.ledger()
    assert ledger.first_difference(whole.until(stop)) is None
    assert session.ledger().total("dendrite_updates") == 4 * sum(n.size for n in net.nodes)
    check_totals(session, ledger)
    assert (session.totals.steps, session.totals.timesteps) == (4, 4)


def test_a_pipelined_session_gives_the_same_later() -> None:
    net, spikes, _ = load_join_net(5)
    inputs = np.concatenate([spikes, spikes[..., ::-1]])
    want = simulate(net, inputs, schedule="pipelined")
    with EdgeSession(net, schedule="pipelined", keep_ledger=True) as session:
        fed = [session.feed(inputs[n, ..., t]) for n in range(2) for t in range(2)]
        results = [r for r in fed if r is not None]
        rest = session.drain()
        with pytest.raises(ConfigError, match="drained"):
            session.feed(inputs[0, ..., 0])
        with pytest.raises(ConfigError, match="not empty"):
            session.ledger()
        results += rest
        ledger = session.ledger()
        assert session.pids == []
    assert [(r.sample, r.timestep) for r in results] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert want.sums is not None
    for r in results:
        assert np.array_equal(r.sums, want.sums[r.sample, :, r.timestep - 1])
    assert ledger.first_difference(want.ledger) is None
    assert ledger.outside_window == want.ledger.outside_window
    check_totals(session, ledger)
    assert (session.totals.steps, session.totals.timesteps) == (9, 4)


def test_misuse_is_refused_and_does_no_harm() -> None:
    net, spikes, _ = load_join_net(3)
    frame = spikes[0, ..., 0]
    with EdgeSession(net, timesteps=1) as session:
        with pytest.raises(ConfigError, match="start_sample"):
            session.step(frame)
        session.start_sample()
        with pytest.raises(DataError, match="shape"):
            session.step(frame[:, :2])
        with pytest.raises(ConfigError, match="pipelined"):
            session.feed(frame)
        assert session.step(frame).sums is None
        with pytest.raises(ConfigError, match="keep_ledger=True"):
            session.ledger()
        with pytest.raises(ConfigError, match="keep_ledger=True"):
            _ = session.stops
        with pytest.raises(ConfigError, match="timestep 1 was the sample's last"):
            session.step(frame)
    session.close()
    with pytest.raises(ConfigError, match="call simulate"):
        EdgeSession(net, backend="reference", schedule="pipelined")
    with pytest.raises(ConfigError, match="no stock neuron"):
        EdgeSession(net, backend="reference")
    with EdgeSession(net, schedule="pipelined") as session:
        with pytest.raises(ConfigError, match="drain"):
            session.start_sample()
        session.feed(frame)
        with pytest.raises(ConfigError, match="fewer than 2"):
            session.drain()


def test_many_sessions_leave_nothing() -> None:
    net, spikes, _ = load_join_net(3)
    with EdgeSession(net) as session:
        session.start_sample()
        session.step(spikes[0, ..., 0])
    before, registered = leftovers(), len(ProcessServer().processes)
    assert before[:2] == (set(), 0)
    for _ in range(8):
        with EdgeSession(net) as session:
            # Shared memory in use has no name any more, so that nothing can leave it behind.
            assert segments()
            assert not any(Path("/dev/shm", name).exists() for name in segments())
            session.start_sample()
            session.step(spikes[0, ..., 0])
    simulate(net, spikes, backend="reference", schedule="pipelined")
    with pytest.raises(ZeroDivisionError), EdgeSession(net) as session:
        _ = 1 / 0
    forgotten = EdgeSession(net)
    assert leftovers() != before
    del forgotten
    gc.collect()
    after = leftovers()
    assert after[:2] == before[:2]
    assert after[2] <= before[2], "threads of an earlier test may have ended meanwhile"
    assert len(ProcessServer().processes) == registered


def test_a_session_runs_in_a_worker_thread() -> None:
    net, spikes, _ = load_join_net(3)
    codes: list[Any] = []

    def work() -> None:
        with EdgeSession(net) as session:
            session.start_sample()
            codes.append(session.step(spikes[0, ..., 0]).code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert np.array_equal(codes[0], simulate(net, spikes).output[0, ..., 0])


def test_the_edge_head_works_between_stock_processes() -> None:
    """Without a mailbox it is an ordinary Lava process, which resets every T steps."""
    from neucodex_lava.edge.engine.engine import FusedEngine
    from neucodex_lava.edge.wiring import Wiring

    net, spikes, _ = load_join_net(3)
    inputs = np.concatenate([spikes, spikes])
    engine = FusedEngine(Wiring.of(net, "gated"))
    head = EdgeHead(engine=engine, input_shape=(4, 4, 1), output_shape=(4, 4, 2), timesteps=2)
    source = Source(data=np.moveaxis(inputs, 0, 3).reshape(1, 4, 4, 4).transpose(2, 1, 0, 3))
    sink = Sink(shape=(4, 4, 2), buffer=4)
    source.s_out.connect(head.s_in)
    head.s_out.connect(sink.a_in)
    with SupervisedRun(head) as run:
        run.start(4)
        run.finish()
        got = sink.data.get().astype(np.uint8)
    want = simulate(net, inputs).output
    assert np.array_equal(got.transpose(2, 1, 0, 3).reshape(2, 4, 4, 2, 2), np.moveaxis(want, 0, 3))
    assert PyEdgeHeadModel.implements_process is EdgeHead


def run_synapse(synapse: Any, data: np.ndarray) -> np.ndarray:
    source = Source(data=data)
    sink = Sink(shape=synapse.a_out.shape, buffer=data.shape[-1])
    source.s_out.connect(synapse.s_in)
    synapse.a_out.connect(sink.a_in)
    with SupervisedRun(synapse) as run:
        run.start(data.shape[-1])
        run.finish()
        return sink.data.get()


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_a_counting_synapse_sends_what_the_stock_one_sends(kind: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    steps, shape = 6, (5, 4, 4)
    tally: dict[str, Any] = {
        "counts": shared_zeros((steps, 4), np.int64),
        "graded": bits > 0,
    }
    high = (1 << bits) if bits else 2
    if kind == "conv":
        data = rng.integers(0, high, (*shape, steps))
        weight = 2 * rng.integers(-128, 128, (6, 3, 2, 2))
        arguments: dict[str, Any] = {
            "weight": weight,
            "input_shape": shape,
            "stride": (2, 1),
            "padding": (1, 0),
            "groups": 2,
            "num_message_bits": bits,
        }
        torch_weight = weight.transpose(0, 3, 2, 1)[:, :, ::-1, ::-1]
        link = Connection("input", "conv", torch_weight, 0, (1, 2), (0, 1), groups=2)
        source = shape[::-1]
        target = link.output_shape(source)
        assert target is not None
        maps = [m.transpose(2, 1, 0) for m in link.fan_out(source, target)]
        stock: Any = Conv(**arguments)
        counting: Any = CountingConv(
            tally=tally | {"every": maps[0], "nonzero": maps[1]}, **arguments
        )
    else:
        data = rng.integers(0, high, (20, steps))
        weight = 2 * rng.integers(-128, 128, (7, 20))
        arguments = {
            "weights": weight,
            "weight_exp": 2,
            "sign_mode": SignMode.MIXED,
            "num_message_bits": bits,
        }
        maps = [np.full(20, 7), (weight != 0).sum(0)]
        stock = Dense(**arguments)
        counting = CountingDense(tally=tally | {"every": maps[0], "nonzero": maps[1]}, **arguments)
    want = run_synapse(stock, data)
    got = run_synapse(counting, data)
    assert np.array_equal(got, want)
    assert np.abs(want).sum() > 0
    active = (data != 0).reshape(-1, steps)
    ops = [m.reshape(-1) @ active for m in maps]
    expected = [0 * ops[0], 0 * ops[0], ops[0]] if bits else [ops[0], ops[1], 0 * ops[0]]
    assert np.array_equal(tally["counts"], np.stack([active.sum(0), *expected], axis=1))


def test_a_helping_process_that_does_not_come_up_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, inputs, *_ = load_join_net()
    expected = simulate(net, inputs)
    starts = shared_zeros((1,), np.int64)
    serve = managers.SharedMemoryManager._run_server

    def hang_at_first(*args: Any) -> None:
        starts[0] += 1
        while starts[0] == 1:
            pass
        serve(*args)

    monkeypatch.setattr(managers.SharedMemoryManager, "_run_server", hang_at_first)
    monkeypatch.setattr(supervisor, "HELPER_TIMEOUT_S", 0.5)
    before = leftovers()
    found = simulate(net, inputs)
    assert starts[0] == 2
    assert np.array_equal(found.output, expected.output)
    gc.collect()
    assert leftovers() == before


def test_a_helping_process_that_never_comes_up_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, inputs, *_ = load_join_net()

    def hang(*_: Any) -> None:
        while True:
            time.sleep(1)

    monkeypatch.setattr(managers.SharedMemoryManager, "_run_server", hang)
    monkeypatch.setattr(supervisor, "HELPER_TIMEOUT_S", 0.5)
    before = leftovers()
    with pytest.raises(SimulationError, match="could not start the network"):
        simulate(net, inputs)
    gc.collect()
    assert leftovers() == before
