"""The deadline ladder, running ahead, and several samples in flight, over plain numpy tails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from edges import edge
from scripted_server import refusal, scripted_server

from host_bridge import serving
from host_bridge.client import EdgePool, LinkCounts, Source, StepReply, descend
from host_bridge.codecs import pack
from host_bridge.messages import Kind
from neucodex_lava.errors import BridgeError, ConfigError
from neucodex_lava.evaluation.live import Live, LiveOptions, run_in_flight, run_live
from neucodex_lava.exits import decide
from neucodex_lava.exits.policy import Action


class Confident:
    """Stops once the largest sum is beyond a limit."""

    def __init__(self, limit: float, t_max: int = 4) -> None:
        self.limit, self.t_max = limit, t_max

    def start(self):
        return None

    def step(self, state, t, sums):
        return state, Action.STOP if t == self.t_max or sums.max() > self.limit else Action.CONTINUE

    def actions(self, sums):
        stop = sums.max(axis=1) > self.limit
        stop[:, -1] = True
        return np.where(stop, Action.STOP, Action.CONTINUE).astype(np.uint8)


def inputs_of(tail, samples, seed=3):
    """Codes as encoded samples, (N, C, H, W, T)."""
    return np.moveaxis(tail.codes(seed, samples), 1, -1)


def expected(tail, inputs, policy):
    sums = np.stack([tail.run(np.moveaxis(sample, -1, 0)).T for sample in inputs])
    return decide(policy, sums), sums


def check(found: Live, tail, inputs, policy) -> None:
    """Each sample was decided by the cloud as the whole run says, bit for bit."""
    exits, sums = expected(tail, inputs, policy)
    assert [s.verdict.source for s in found.samples] == [Source.CLOUD] * len(inputs)
    assert [s.timesteps for s in found.samples] == exits.timesteps.tolist()
    assert [s.prediction for s in found.samples] == exits.predictions.tolist()
    for n, s in enumerate(found.samples):
        assert s.verdict.sums.tolist() == sums[n, :, s.timesteps - 1].tolist()


POLICY = Confident(150)


def test_the_ladder_takes_the_best_there_is():
    reply = StepReply(np.array([1, 5]), 0.0, 0.0, 8, 90, timestep=2)
    local = (3, np.array([7, 0]))
    assert descend(True, reply, local).source is Source.CLOUD
    earlier = descend(False, reply, local)
    assert (earlier.source, earlier.timestep, earlier.sums.tolist()) == (Source.EARLIER, 2, [1, 5])
    here = descend(False, None, local)
    assert (here.source, here.timestep, here.sums.tolist()) == (Source.LOCAL, 3, [7, 0])
    none = descend(False, None, None)
    assert (none.source, none.timestep, none.sums) == (Source.ABSTAINED, 0, None)


@pytest.mark.parametrize("speculate", [False, True])
@pytest.mark.parametrize("max_ahead", [1, 2])
def test_running_ahead_changes_no_result(make_tail, speculate, max_ahead):
    tail = make_tail()
    inputs = inputs_of(tail, 12)
    with scripted_server(tail, max_ahead=max_ahead) as (address, streams):
        client = edge(address, tail)
        found = run_live(inputs, POLICY, None, client, LiveOptions(speculate=speculate))
        client.close()
    check(found, make_tail(), inputs, POLICY)
    steps = [s.timesteps for s in found.samples]
    assert len(set(steps)) > 1, "some stop early"
    early = sum(t < 4 for t in steps)
    sent = sum(m.kind is Kind.CODE for m in streams[-1].seen)
    # Where the server takes no second code before it has answered the first, it goes right then.
    ahead = early if speculate else 0
    assert sent == sum(steps) + ahead
    assert sum(s.extra_bits for s in found.samples) == 24 * ahead
    assert sum(s.payload_bits for s in found.samples) == 24 * sent
    assert sum(s.edge_timesteps for s in found.samples) == sum(steps) + (early if speculate else 0)


def test_a_late_cloud_leaves_its_earlier_answer_then_none_then_comes_back(make_tail):
    wait_s = {}
    lock = threading.Lock()
    steps = []

    def slow():
        with lock:
            steps.append(len(steps))
            pause = wait_s.get(len(steps) - 1, 0.0)
        time.sleep(pause)

    tail = make_tail(before_step=slow)
    inputs = inputs_of(tail, 4)
    never = Confident(10**9)
    # Sample 0 runs steps 0..3; sample 1 hangs at its third step, sample 2 at its first.
    wait_s |= {6: 0.5, 7: 0.8}
    with serving(tail) as address:
        client = edge(address, tail, patience_s=float("inf"))
        found = run_live(inputs, never, None, client, LiveOptions(deadline_s=0.25))
        client.close()
    sources = [s.verdict.source for s in found.samples]
    assert sources[:3] == [Source.CLOUD, Source.EARLIER, Source.ABSTAINED]
    sums = expected(make_tail(), inputs, never)[1]
    second = found.samples[1]
    assert second.timesteps == 2
    assert second.verdict.sums.tolist() == sums[1, :, 1].tolist()
    assert found.samples[2].prediction is None
    assert found.link_lost is None
    for n, s in enumerate(found.samples):
        if s.verdict.sums is not None:
            assert s.verdict.sums.tolist() == sums[n, :, s.timesteps - 1].tolist()


def test_without_a_server_every_sample_abstains_in_its_time(make_tail):
    tail = make_tail()
    inputs = inputs_of(tail, 3)
    client = edge("127.0.0.1:1", tail, patience_s=float("inf"))
    began = time.monotonic()
    found = run_live(inputs, POLICY, None, client, LiveOptions(deadline_s=0.1))
    client.close()
    assert [s.verdict.source for s in found.samples] == [Source.ABSTAINED] * 3
    assert time.monotonic() - began < 6.0


def test_a_server_that_refuses_for_good_within_a_run_ends_the_link_not_the_run(make_tail):
    tail = make_tail()
    inputs = inputs_of(tail, 4)

    def refuse(_stream, message, answers):
        late = message.kind is Kind.CODE and (message.sample, message.timestep) == (1, 2)
        return [refusal(message, "PERMISSION_DENIED", "the token has expired")] if late else answers

    never = Confident(10**9)
    with scripted_server(tail, refuse) as (address, _):
        client = edge(address, tail, patience_s=float("inf"))
        found = run_live(inputs, never, None, client, LiveOptions(deadline_s=2.0))
        client.close()
        client = edge(address, tail)
        with pytest.raises(BridgeError, match="the token has expired"):
            run_live(inputs, never, None, client, LiveOptions())
    sources = [s.verdict.source.value for s in found.samples]
    assert sources == ["cloud", "cloud-earlier", "abstained", "abstained"]
    assert (found.link_lost, found.problem) == (1, "the token has expired")


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_sample_that_the_cloud_fails_at_takes_no_other_with_it(make_batch_tail, in_flight):
    tail = make_batch_tail(poisoned=True)
    inputs = inputs_of(tail, 12)
    inputs[:, 0, 0, 0] = 0
    inputs[2, 0, 0, 0, 1] = 1  # the poison, at the second timestep
    never, options = Confident(10**9), LiveOptions(deadline_s=10.0)
    with serving(tail) as address:
        if in_flight == 1:
            client = edge(address, tail, patience_s=float("inf"))
            found = run_live(inputs, never, None, client, options)
            client.close()
        else:
            pool = EdgePool(
                in_flight,
                lambda shared: edge(address, tail, patience_s=float("inf"), channels=shared),
            )
            found = run_in_flight(inputs, never, pool, options)
            pool.close()
    sources = [s.verdict.source.value for s in found.samples]
    assert sources == ["cloud"] * 2 + ["cloud-earlier"] + ["cloud"] * 9
    assert (found.link_lost, found.failed) == (None, 1)
    assert "timestep 2: RuntimeError" in found.problem


def test_a_session_that_is_over_takes_no_samples_from_the_others(make_tail):
    tail = make_tail(before_step=lambda: time.sleep(0.01))
    inputs = inputs_of(tail, 12)

    def refuse(_stream, message, answers):
        poison = message.kind is Kind.CODE and answers and message.payload == marked
        return [refusal(message, "PERMISSION_DENIED", "not you")] if poison else answers

    marked = pack(np.moveaxis(inputs[2], -1, 0)[0], 1)
    assert sum(pack(np.moveaxis(x, -1, 0)[t], 1) == marked for x in inputs for t in range(4)) == 1
    with scripted_server(tail, refuse) as (address, _):
        pool = EdgePool(3, lambda channels: edge(address, tail, channels=channels))
        found = run_in_flight(inputs, Confident(10**9), pool, LiveOptions(deadline_s=10.0))
        pool.close()
    sources = [s.verdict.source.value for s in found.samples]
    assert sources == ["cloud"] * 2 + ["abstained"] + ["cloud"] * 9
    assert (found.link_lost, found.failed, found.problem) == (2, 0, "not you")


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, float("nan")])
def test_a_deadline_in_the_past_is_a_config_error(deadline_s):
    with pytest.raises(ConfigError, match="a deadline of"):
        LiveOptions(deadline_s)


def test_samples_in_flight_come_in_order_and_as_alone(make_tail):
    running, most = [0], [0]
    lock = threading.Lock()

    def step():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    tail = make_tail(before_step=step)
    inputs = inputs_of(tail, 20)
    with scripted_server(tail) as (address, streams):
        pool = EdgePool(4, lambda channels: edge(address, tail, channels=channels))
        found = run_in_flight(inputs, POLICY, pool, LiveOptions())
        pool.close()
        peers = {stream.context.peer() for stream in streams}
    check(found, make_tail(), inputs, POLICY)
    assert most[0] >= 2, "several at once"
    assert (len(streams), len(peers)) == (4, 1), "a stream each, over one connection"
    assert found.counts.codes == sum(s.timesteps for s in found.samples)


def test_an_error_of_one_sample_comes_at_its_place_and_ends_the_pool(make_tail):
    tail = make_tail()

    def run(client, n):
        if n == 3:
            raise ValueError("three")
        return n

    def make(channels):
        return edge(address, tail, channels=channels)

    with serving(tail) as address, EdgePool(2, make) as pool:
        results = pool.map(run, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
    with pytest.raises(ConfigError, match="0 samples in flight"):
        EdgePool(0, lambda channels: edge("127.0.0.1:1", tail, channels=channels))


def test_counts_add_up():
    one = LinkCounts(codes=3, replayed=1)
    assert LinkCounts.sum([one, LinkCounts(codes=2, busy=4)]) == LinkCounts(5, 0, 0, 1, 0, 4, 0)
