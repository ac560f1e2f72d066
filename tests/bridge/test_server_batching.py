"""What the server takes together, what it refuses, and that nobody pays for another's fault."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from raw_edge import RawEdge

from host_bridge import serving
from host_bridge.handshake import Refusal
from host_bridge.messages import Kind, unpack_busy, unpack_logits
from host_bridge.server.limits import Limits


def eventually(condition, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def sums_of(answer):
    assert answer.kind is Kind.LOGITS, answer
    return unpack_logits(answer.payload, 10)[0].tolist()


class Gate:
    """Holds the tail's first step until it is opened."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.open.wait(20)


def opened(stack, address, tail, count, **fields):
    edges = [stack.enter_context(RawEdge(address, tail, n, **fields)) for n in range(count)]
    for edge in edges:
        assert edge.open().kind is Kind.OPENED
    return edges


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


def test_what_waits_is_taken_together_at_any_timestep(make_batch_tail, gate):
    tail = make_batch_tail(before_step=gate)
    codes = make_batch_tail().codes(1, samples=5)
    expected = [make_batch_tail().run(sample).tolist() for sample in codes]
    with serving(tail) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 5, t_max=4)
        edges[0].code(codes[0][0], 0, 1)
        assert gate.entered.wait(10)
        for edge, sample in zip(edges[1:], codes[1:]):
            edge.code(sample[0], 0, 1)
            edge.code(sample[1], 0, 2)  # ahead: waits for the first
        edges[0].code(codes[0][1], 0, 2)
        time.sleep(0.3)  # all are there before the gate opens
        gate.open.set()
        answers = [[sums_of(edge.get()) for _ in range(2)] for edge in edges]
    assert answers == [rows[:2] for rows in expected]
    # The first step ran alone; then what waited, and at last the other four sessions' second step.
    assert (tail.steps, tail.sizes) == (10, [5, 4])


def test_batches_are_no_larger_than_allowed_or_than_suits_the_tail(make_batch_tail, gate):
    for limit, best in ((2, 64), (64, 2)):
        gate.__init__()
        tail = make_batch_tail(before_step=gate)
        tail.best_batch = best
        with serving(tail, limits=Limits(max_batch=limit)) as address, ExitStack() as stack:
            edges = opened(stack, address, tail, 6)
            for edge in edges:
                edge.code(tail.codes(3)[0][0], 0, 1)
            assert gate.entered.wait(10)
            time.sleep(0.2)
            gate.open.set()
            assert all(sums_of(edge.get()) for edge in edges)
        assert tail.sizes
        assert max(tail.sizes) == 2


def test_a_sample_that_fails_ends_its_own_session_only(make_batch_tail, gate):
    tail = make_batch_tail(before_step=gate, poisoned=True)
    codes = tail.codes(2, samples=4)
    codes[:, :, 0, 0, 0] = 0
    local = make_batch_tail()
    expected = [local.run(sample)[0].tolist() for sample in codes]
    codes[2, 0, 0, 0, 0] = 1  # the poison
    with serving(tail) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 4)
        edges[0].code(codes[0][0], 0, 1)
        assert gate.entered.wait(10)
        for edge, sample in zip(edges[1:], codes[1:]):
            edge.code(sample[0], 0, 1)
        time.sleep(0.3)
        gate.open.set()
        for n in (0, 1, 3):
            assert sums_of(edges[n].get()) == expected[n]
        refusal = Refusal.from_bytes(edges[2].get().payload)
        assert refusal.message == "the tail failed at sample 0, timestep 1: RuntimeError"
        assert edges[2].end()[0] == refusal.status == "INTERNAL"
        assert 3 in tail.sizes
        # The others' states have not suffered.
        edges[1].code(codes[1][1], 0, 2)
        assert sums_of(edges[1].get()) == local.run(codes[1])[1].tolist()


def test_a_malformed_code_in_a_batch_is_its_senders_fault_only(make_batch_tail, gate):
    tail = make_batch_tail(before_step=gate)
    sample = tail.codes(2)[0]
    with serving(tail) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 3)
        edges[0].code(sample[0], 0, 1)
        assert gate.entered.wait(10)
        edges[1].send(Kind.CODE, 0, 1, b"\xff\xff\xff", 1)
        edges[2].code(sample[0], 0, 1)
        time.sleep(0.2)
        gate.open.set()
        assert sums_of(edges[2].get()) == sums_of(edges[0].get())
        refusal = Refusal.from_bytes(edges[1].get().payload)
    assert (refusal.type, refusal.status) == ("ProtocolError", "INVALID_ARGUMENT")
    assert "padding bits" in refusal.message


def test_a_full_queue_is_refused_and_what_was_refused_can_come_again(make_batch_tail, gate):
    tail = make_batch_tail()
    codes = tail.codes(5, samples=4)
    expected = [tail.run(sample).tolist() for sample in codes]
    with serving(tail, limits=Limits(max_queue=2)) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 4)
        for edge, sample in zip(edges, codes):
            edge.code(sample[0], 0, 1)
            sums_of(edge.get())
        tail.before_step = gate
        edges[0].code(codes[0][1], 0, 2)
        assert gate.entered.wait(10)
        for n in (1, 2):
            edges[n].code(codes[n][1], 0, 2)
        time.sleep(0.2)
        edges[3].code(codes[3][1], 0, 2)
        busy = edges[3].get()
        assert (busy.kind, busy.sample, busy.timestep) == (Kind.BUSY, 0, 2)
        assert 0 < unpack_busy(busy.payload) < 5
        gate.open.set()
        for n in (0, 1, 2):
            assert sums_of(edges[n].get()) == expected[n][1]
        for t in (2, 3):
            edges[3].code(codes[3][t - 1], 0, t)
            assert sums_of(edges[3].get()) == expected[3][t - 1]


def test_a_queue_that_takes_too_long_is_refused_before_it_is_full(make_batch_tail):
    tail = make_batch_tail(before_step=lambda: time.sleep(0.05))
    sample = tail.codes(5)[0]
    limits = Limits(max_batch=1, max_wait_s=0.12)
    with serving(tail, limits=limits) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 8)
        for t in (1, 2):
            edges[0].code(sample[t - 1], 0, t)
            sums_of(edges[0].get())  # after the second it knows what a step takes
        for edge in edges:
            edge.code(sample[0], 1, 1)
        answers = [edge.get() for edge in edges]
    busy = [unpack_busy(a.payload) for a in answers if a.kind is Kind.BUSY]
    # One runs and three wait: the fourth would wait for 0.15 s or more.
    assert 1 <= len(busy) <= 5
    assert all(0.12 < wait_s < 1 for wait_s in busy)
    assert len(busy) + sum(a.kind is Kind.LOGITS for a in answers) == 8


def test_a_step_that_waits_beyond_its_deadline_is_not_run(make_batch_tail, gate):
    tail = make_batch_tail(before_step=gate)
    sample = tail.codes(5)[0]
    with serving(tail) as address, ExitStack() as stack:
        (patient,) = opened(stack, address, tail, 1)
        hasty = stack.enter_context(RawEdge(address, tail, 99, deadline_ms=50))
        hasty.open()
        patient.code(sample[0], 0, 1)
        assert gate.entered.wait(10)
        hasty.code(sample[0], 0, 1)
        hasty.code(sample[1], 0, 2)
        time.sleep(0.3)
        gate.open.set()
        first = sums_of(patient.get())
        answers = [hasty.get() for _ in range(2)]
        assert [(a.kind, a.timestep) for a in answers] == [(Kind.BUSY, 1), (Kind.BUSY, 2)]
        assert [unpack_busy(a.payload) for a in answers] == [0.0, 0.0]
        hasty.code(sample[0], 0, 1)
        assert sums_of(hasty.get()) == first
    assert tail.steps == 2


@pytest.mark.parametrize("way", ["end of the sample", "disconnect"])
def test_what_nobody_waits_for_is_not_run(make_batch_tail, gate, way):
    tail = make_batch_tail(before_step=gate)
    sample = tail.codes(5)[0]
    with serving(tail) as address, ExitStack() as stack:
        first, second = opened(stack, address, tail, 2)
        first.code(sample[0], 0, 1)
        assert gate.entered.wait(10)
        second.code(sample[0], 0, 1)
        time.sleep(0.2)
        if way == "disconnect":
            second.cut()
            time.sleep(0.3)
        else:
            second.send(Kind.END_SAMPLE, 0, 1)
            second.code(sample[1], 1, 1)
            time.sleep(0.2)
        gate.open.set()
        sums_of(first.get())
        if way == "disconnect":
            first.send(Kind.END_SAMPLE, 0, 1)
            assert eventually(lambda: not tail.alive), "the state of the lost edge is gone too"
            assert tail.steps == 1
        else:
            answer = second.get()
            assert (answer.sample, sums_of(answer)) == (1, tail.run(sample[1:])[0].tolist())


def test_samples_begun_and_ended_in_a_row_fill_no_queue(make_batch_tail, gate):
    tail = make_batch_tail(before_step=gate)
    sample = tail.codes(5)[0]
    with serving(tail, limits=Limits(max_queue=3)) as address, ExitStack() as stack:
        first, flood, other = opened(stack, address, tail, 3)
        first.code(sample[0], 0, 1)
        assert gate.entered.wait(10)
        for number in range(20):
            flood.code(sample[0], number, 1)
            flood.send(Kind.END_SAMPLE, number, 1)
        flood.code(sample[0], 20, 1)
        time.sleep(0.2)
        other.code(sample[0], 0, 1)
        time.sleep(0.2)
        gate.open.set()
        expected = sums_of(first.get())
        assert sums_of(other.get()) == expected
        answer = flood.get()
        assert (answer.sample, sums_of(answer)) == (20, expected)
    assert tail.steps == 3


def test_the_first_step_says_nothing_of_those_to_come(make_batch_tail):
    tail = make_batch_tail()
    sample = tail.codes(5)[0]
    slow = iter([0.6])
    tail.before_step = lambda: time.sleep(next(slow, 0.05))
    limits = Limits(max_batch=1, max_wait_s=0.4)
    with serving(tail, limits=limits) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 3)
        edges[0].code(sample[0], 0, 1)
        sums_of(edges[0].get())
        for edge in edges:
            edge.code(sample[0], 1, 1)
        # Were each to take 0.6 s, the third would be told to come again.
        assert all(sums_of(edge.get()) for edge in edges)


def test_an_idle_tail_can_wait_for_company(make_batch_tail):
    tail = make_batch_tail()
    sample = tail.codes(1)[0]
    with (
        serving(tail, limits=Limits(batch_wait_us=300_000)) as address,
        ExitStack() as stack,
    ):
        edges = opened(stack, address, tail, 3)
        for edge in edges:
            edge.code(sample[0], 0, 1)
            time.sleep(0.02)
        assert len({tuple(sums_of(edge.get())) for edge in edges}) == 1
    assert tail.sizes == [3]


def test_answers_are_exact_under_many_sessions_at_once(make_batch_tail):
    tail = make_batch_tail()
    codes = tail.codes(8, samples=32)
    expected = [make_batch_tail().run(sample).tolist() for sample in codes]
    with serving(tail) as address, ExitStack() as stack:
        edges = opened(stack, address, tail, 32)
        for t in range(1, 5):
            for edge, sample in zip(edges, codes):
                edge.code(sample[t - 1], 0, t)
        answers = [[sums_of(edge.get()) for _ in range(4)] for edge in edges]
    assert answers == expected
    assert max(tail.sizes) > 1
    assert np.sum(tail.sizes) <= 128
