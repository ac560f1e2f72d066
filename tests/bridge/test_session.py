"""The cloud's side of a session without any network: which message may come when."""

from __future__ import annotations

import numpy as np
import pytest

from host_bridge.codecs import CONDITIONED, Coder, Tables, pack
from host_bridge.handshake import Drain, Open, Opened, Refusal
from host_bridge.messages import Kind, Message, decode, encode, unpack_busy, unpack_logits
from host_bridge.server.bundle import ServedBundle
from host_bridge.server.session import Session
from host_bridge.server.step import Step, run_steps
from neucodex_lava.errors import BridgeError, OverflowInRunError, ProtocolError

SESSION = 0xABCDEF


class Edge:
    """Writes messages for a session and reads its answers; steps are run at once, or kept."""

    def __init__(self, *tails, max_ahead=1):
        bundles = {tail.model: ServedBundle(tail) for tail in tails}
        self.session = Session(bundles, 10_000, max_ahead)
        self.tail = tails[0]
        self.at_once = True

    def send(self, kind, sample=0, timestep=0, codec=0, payload=b"", session=SESSION, epoch=0):
        message = Message(kind, session, epoch, sample, timestep, codec, payload)
        outcome = self.session.receive(message)
        if isinstance(outcome, Step) and self.at_once:
            return self.run(outcome)
        return outcome if isinstance(outcome, Step) else self.read(outcome)

    def run(self, step):
        run_steps(self.tail, [step])
        return self.read(self.session.finish(step))

    def read(self, reply):
        return None if reply is None else decode(reply, 10_000)

    def open(self, **changes):
        tail = self.tail
        fields = {
            "model": tail.model,
            "code_shape": tail.code_shape,
            "code_bits": tail.code_bits,
            "t_max": tail.t_max,
            "versions": {},
        } | changes
        return self.send(Kind.OPEN, payload=Open(**fields).to_bytes())

    def code(self, code, sample, timestep):
        payload = pack(code, self.tail.code_bits)
        return self.send(Kind.CODE, sample, timestep, 1, payload)


def sums_of(reply, classes=10):
    assert reply.kind is Kind.LOGITS
    return unpack_logits(reply.payload, classes)[0].tolist()


@pytest.fixture
def edge(make_tail):
    return Edge(make_tail())


@pytest.fixture
def ahead(make_tail):
    """An edge that may send three codes before an answer, and whose steps are kept."""
    edge = Edge(make_tail(), max_ahead=3)
    edge.open()
    edge.at_once = False
    return edge


def test_opened_tells_the_tails_numbers(make_tail):
    edge = Edge(make_tail(), max_ahead=3)
    reply = edge.open(t_max=3)
    assert (reply.kind, reply.session) == (Kind.OPENED, SESSION)
    assert Opened.from_bytes(reply.payload) == Opened(edge.tail.model, 10, 4, 2.5, 3)
    assert edge.session.name == "0000000000abcdef"


def test_samples_give_the_running_sums_and_start_afresh(edge):
    edge.open()
    codes = edge.tail.codes(seed=1, samples=3)
    for n, sample in enumerate(codes):
        expected = edge.tail.run(sample)
        for t, code in enumerate(sample, start=1):
            reply = edge.code(code, n, t)
            assert (reply.sample, reply.timestep) == (n, t)
            assert sums_of(reply) == expected[t - 1].tolist()
        assert edge.send(Kind.END_SAMPLE, n, len(sample)) is None


@pytest.mark.parametrize(
    ("sample", "timestep"), [(0, 0), (0, 3), (0, 4), (1, 2), (2**32 - 1, 2), (1, 0)]
)
def test_gaps_are_refused(edge, sample, timestep):
    edge.open()
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    with pytest.raises(ProtocolError, match="expected sample 0 timestep 2") as caught:
        edge.code(code, sample, timestep)
    assert caught.value.status == "OUT_OF_RANGE"


def test_what_was_answered_is_answered_again_without_another_step(edge):
    edge.open()
    sample = edge.tail.codes(2)[0]
    expected = edge.tail.run(sample).tolist()
    replies = [edge.code(code, 0, t) for t, code in enumerate(sample[:3], start=1)]
    steps = edge.tail.steps
    assert [edge.code(sample[t], 0, t + 1) for t in (1, 0, 2)] == [replies[t] for t in (1, 0, 2)]
    assert edge.tail.steps == steps
    assert sums_of(edge.code(sample[3], 0, 4)) == expected[3]


def test_a_larger_sample_begins_anew_and_an_ended_one_never_comes_back(edge):
    edge.open()
    first, second = edge.tail.codes(4, samples=2)
    edge.code(first[0], 3, 1)
    # END_SAMPLE of sample 3 was lost.
    assert sums_of(edge.code(second[0], 8, 1)) == edge.tail.run(second)[0].tolist()
    for sample in (3, 7):
        with pytest.raises(ProtocolError, match="expected sample 8 timestep 2"):
            edge.code(first[0], sample, 1)
        with pytest.raises(ProtocolError, match=f"got END_SAMPLE of sample {sample}"):
            edge.send(Kind.END_SAMPLE, sample)
    edge.send(Kind.END_SAMPLE, 8, 1)
    with pytest.raises(ProtocolError, match="expected timestep 1 of a sample from 9 on"):
        edge.code(second[1], 8, 2)


def test_no_timestep_beyond_what_was_asked_for(edge):
    edge.open(t_max=1)
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    with pytest.raises(ProtocolError, match="timestep 2 is beyond the session's 1") as caught:
        edge.code(code, 0, 2)
    assert caught.value.status == "OUT_OF_RANGE"


def test_codes_ahead_wait_for_the_one_before(ahead):
    sample = ahead.tail.codes(5)[0]
    expected = ahead.tail.run(sample).tolist()
    first = ahead.code(sample[0], 0, 1)
    assert ahead.code(sample[1], 0, 2) is None
    assert ahead.code(sample[1], 0, 2) is None, "twice in the queue is once"
    assert ahead.code(sample[2], 0, 3) is None
    with pytest.raises(ProtocolError, match="4 codes unanswered, a session may have 3"):
        ahead.code(sample[3], 0, 4)
    assert sums_of(ahead.run(first)) == expected[0]
    assert sums_of(ahead.run(ahead.session.next_step())) == expected[1]
    assert sums_of(ahead.run(ahead.session.next_step())) == expected[2]
    assert ahead.session.next_step() is None


def test_end_of_a_sample_cancels_what_waits_and_what_runs(ahead):
    sample = ahead.tail.codes(5)[0]
    running = ahead.code(sample[0], 0, 1)
    ahead.code(sample[1], 0, 2)
    ahead.send(Kind.END_SAMPLE, 0, 2)
    assert running.cancelled
    assert ahead.session.next_step() is None
    fresh = ahead.code(sample[2], 1, 1)
    assert ahead.run(running) is None, "it is done, and nobody waits for it"
    assert sums_of(ahead.run(fresh)) == ahead.tail.run(sample[2:])[0].tolist()


def test_a_step_that_was_not_taken_leaves_the_state_and_can_come_again(ahead):
    sample = ahead.tail.codes(6)[0]
    expected = ahead.tail.run(sample).tolist()
    ahead.run(ahead.code(sample[0], 0, 1))
    refused = ahead.code(sample[1], 0, 2)
    ahead.code(sample[2], 0, 3)
    replies = [ahead.read(raw) for raw in ahead.session.refuse_step(refused, 0.025)]
    assert [(r.kind, r.sample, r.timestep) for r in replies] == [
        (Kind.BUSY, 0, 2),
        (Kind.BUSY, 0, 3),
    ]
    assert [unpack_busy(reply.payload) for reply in replies] == [0.025, 0.025]
    late = ahead.code(sample[3], 0, 4)  # was under way before the edge could know
    assert (late.kind, late.timestep) == (Kind.BUSY, 4)
    steps = [ahead.code(sample[t], 0, t + 1) for t in (1, 2, 3)]
    assert sums_of(ahead.run(steps[0])) == expected[1]
    assert sums_of(ahead.run(ahead.session.next_step())) == expected[2]


def test_replay_after_a_reconnection_reaches_the_same_sums(edge, make_tail):
    sample = edge.tail.codes(7)[0]
    edge.open()
    before = [sums_of(edge.code(code, 9, t)) for t, code in enumerate(sample[:3], start=1)]
    again = Edge(make_tail())
    again.open()
    replayed = [sums_of(again.code(code, 9, t)) for t, code in enumerate(sample, start=1)]
    assert replayed[:3] == before
    assert replayed == edge.tail.run(sample).tolist()


def test_state_is_freed_at_the_end_of_a_sample_and_of_the_session(edge):
    edge.open()
    code = edge.tail.codes(0)[0, 0]
    edge.code(code, 0, 1)
    assert len(edge.tail.alive) == 1
    edge.send(Kind.END_SAMPLE, 0, 1)
    assert len(edge.tail.alive) == 0
    edge.code(code, 1, 1)
    assert edge.send(Kind.CLOSE) is None
    assert (len(edge.tail.alive), edge.session.closed) == (0, True)


def test_unknown_bundle_names_both(make_tail):
    edge = Edge(make_tail("ours"))
    theirs = make_tail("theirs")
    with pytest.raises(BridgeError) as caught:
        edge.open(model=theirs.model)
    assert edge.tail.model[:12] in caught.value.message
    assert theirs.model[:12] in caught.value.message
    assert "neucodex serve BUNDLE" in caught.value.hint
    assert caught.value.status == "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("change", "says", "status"),
    [
        (
            {"code_shape": (2, 3, 4)},
            r"shape \(2, 3, 4\) at 1 bit, .* takes \(2, 3, 3\) at 1 bit",
            "FAILED_PRECONDITION",
        ),
        ({"code_bits": 8}, "at 8 bit", "FAILED_PRECONDITION"),
        ({"t_max": 5}, "asks for 5 timesteps, the tail takes 4 at most", "OUT_OF_RANGE"),
        ({"coding": "f" * 64}, "coding tables ffffffffffff, .* has none", "FAILED_PRECONDITION"),
    ],
)
def test_misfit_open_is_refused(edge, change, says, status):
    with pytest.raises(BridgeError, match=says) as caught:
        edge.open(**change)
    assert caught.value.status == status


def test_coding_tables_are_those_of_the_bundle(make_tail):
    tables = Tables(np.full((2, 2), 1 << 15, np.uint16))
    others = Tables(np.array([[1 << 14, 3 << 14]] * 2, np.uint16))
    tail = make_tail()
    tail.coding = tables
    edge = Edge(tail)
    with pytest.raises(BridgeError, match=f"bundle has {tables.sha256[:12]}"):
        edge.open(coding=others.sha256)
    assert edge.open(coding=tables.sha256).kind is Kind.OPENED


@pytest.mark.parametrize("kind", [Kind.CODE, Kind.END_SAMPLE, Kind.CLOSE, Kind.LOGITS])
def test_nothing_comes_before_open(edge, kind):
    with pytest.raises(ProtocolError, match=f"{kind.name} before OPEN"):
        edge.send(kind)


@pytest.mark.parametrize("kind", [Kind.OPENED, Kind.LOGITS, Kind.ERROR, Kind.DRAIN, Kind.BUSY])
def test_the_clouds_own_messages_are_refused(edge, kind):
    edge.open()
    with pytest.raises(ProtocolError, match="is not for the edge to send"):
        edge.send(kind)


def test_second_open_and_foreign_session_are_refused(edge):
    edge.open()
    with pytest.raises(ProtocolError, match="a second OPEN"):
        edge.open()
    with pytest.raises(ProtocolError, match="in the stream of session 0000000000abcdef"):
        edge.send(Kind.CLOSE, session=1)
    with pytest.raises(ProtocolError, match="epoch 1 in the stream"):
        edge.send(Kind.CLOSE, epoch=1)


def test_wrong_code_size_and_codec_are_refused(edge):
    edge.open()
    with pytest.raises(ProtocolError, match="code of 4 bytes"):
        edge.send(Kind.CODE, 0, 1, 1, bytes(4))
    with pytest.raises(ProtocolError, match="unknown codec 200"):
        edge.send(Kind.CODE, 1, 1, 200, bytes(3))
    with pytest.raises(ProtocolError, match="padding"):
        edge.send(Kind.CODE, 2, 1, 1, b"\x00\x00\x01")


def test_limit_follows_the_bundle_that_was_opened(make_tail):
    small = make_tail("a")
    large = make_tail("b", code_shape=(64, 32, 32), code_bits=8)
    edge = Edge(small, large)
    assert ServedBundle(large).payload_limit == 65_536
    raw = encode(Message(Kind.CODE, SESSION, 0, 0, 1, 1, bytes(5000)))
    assert edge.session.read(raw).timestep == 1
    edge.open()
    with pytest.raises(ProtocolError, match="payload of 5000 bytes, the limit is 4096"):
        edge.session.read(raw)


def test_tail_with_the_wrong_number_of_sums_is_named(edge):
    edge.open()
    edge.tail.step = lambda state, code: (state, np.zeros(3, np.int64))
    with pytest.raises(
        BridgeError, match=r"the tail gave \(3,\) sums, the bundle has 10"
    ) as caught:
        edge.code(edge.tail.codes(0)[0, 0], 0, 1)
    assert caught.value.status == "INTERNAL"


@pytest.mark.parametrize(
    ("error", "type_", "message", "status"),
    [
        (ProtocolError("no"), "ProtocolError", "no", "INVALID_ARGUMENT"),
        (BridgeError("gone", status="ABORTED"), "BridgeError", "gone", "ABORTED"),
        (
            KeyError("secret"),
            "BridgeError",
            "the tail failed at sample 0, timestep 2: KeyError",
            "INTERNAL",
        ),
        (
            OverflowInRunError("a sum left"),
            "BridgeError",
            "the tail failed at sample 0, timestep 2: a sum left",
            "INTERNAL",
        ),
    ],
)
def test_refusals_say_whose_fault_it_was(edge, error, type_, message, status):
    edge.open()
    edge.code(edge.tail.codes(0)[0, 0], 0, 1)
    raw, reason = edge.session.refusal(error)
    assert Refusal.from_bytes(edge.read(raw).payload) == reason
    assert (reason.type, reason.message, reason.status) == (type_, message, status)


def test_drain_message(edge):
    edge.open()
    message = edge.read(edge.session.drain("we stop", 700))
    assert message.kind is Kind.DRAIN
    assert Drain.from_bytes(message.payload) == Drain("we stop", 700)


def test_a_sum_that_the_wire_cannot_carry_is_the_servers_fault(edge):
    edge.open()
    edge.at_once = False
    step = edge.code(edge.tail.codes(0)[0, 0], 0, 1)
    step.sums = np.full(10, 1 << 25)
    with pytest.raises(BridgeError, match="beyond 2\\^24") as caught:
        edge.session.finish(step)
    assert caught.value.status == "INTERNAL"


def test_codes_conditioned_on_the_timestep_before_survive_busy_and_samples(make_tail):
    half = np.array([[[3 << 14, 1 << 14], [1 << 14, 3 << 14]]] * 2, np.uint16)
    tables = Tables(np.full((2, 2), 1 << 15, np.uint16), half)
    tail = make_tail(code_shape=(2, 16, 16))
    tail.coding = tables
    edge = Edge(tail, max_ahead=2)
    edge.open(coding=tables.sha256)
    edge.at_once = False
    coder = Coder(tail.code_shape, 1, tables, codec="ans-conditioned", link_rate_bps=None)
    for n, sample in enumerate(tail.codes(3, samples=2)):
        sample[1:] = sample[0]  # so that it pays to know the timestep before
        expected = tail.run(sample).tolist()

        def send(t, n=n, sample=sample):
            previous = sample[t - 2] if t > 1 else None
            codec, payload = coder.encode(sample[t - 1], previous)
            assert (codec == CONDITIONED) == (t > 1)
            return edge.send(Kind.CODE, n, t, codec, payload)

        first = send(1)
        assert send(2) is None
        assert sums_of(edge.run(first)) == expected[0]
        second = edge.session.next_step()
        edge.session.refuse_step(second, 0.1)
        assert sums_of(edge.run(send(2))) == expected[1]
        assert sums_of(edge.run(send(3))) == expected[2]
        edge.send(Kind.END_SAMPLE, n, 3)
