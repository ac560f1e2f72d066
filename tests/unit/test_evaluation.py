"""Figures of an evaluation by hand, and what a real run must agree in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from energy import device
from energy.ledger import ALL_COUNTS, CONNECTION_COUNTS, Ledger
from host_bridge import EdgeClient
from host_bridge.codecs import pack
from host_bridge.messages import Kind, Message, encode, pack_logits, wire_bytes
from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.errors import SimulationError
from neucodex_lava.evaluation.agreement import require_agreement
from neucodex_lava.evaluation.configurations import CLOUD_ONLY, Configuration, plan
from neucodex_lava.evaluation.evaluate import evaluate
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.evaluation.outcome import Outcome
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.rows import make_row, with_reductions
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.policy import Exits, decide
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node
from neucodex_lava.report.results import Row

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
PJ = 1e-12
T_MAX = 4
CHOSEN = np.array([0, 2, 3])
"""Samples of the hand-made outcome that ran for real."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- one configuration, worked out by hand ---


def hand_net(input_bits: int = 1, cut: int = 2) -> IntegerNet:
    """1x3x3 in, stem 2x3x3, code 3x2x2 (12 values: no whole bytes), 2 classes."""
    lif = Neuron(threshold=100)
    stem = Connection("input", "conv", np.full((2, 1, 3, 3), 10, np.int16), padding=(1, 1))
    code = Connection("stem", "conv", np.full((3, 2, 2, 2), 10, np.int16))
    read = Connection("code", "dense", np.full((2, 12), 10, np.int16))
    nodes = (
        Node("stem", (2, 3, 3), lif, np.zeros(2, int), (stem,)),
        Node("code", (3, 2, 2), lif, np.zeros(3, int), (code,)),
        Node("readout", (2, 1, 1), READOUT, np.zeros(2, int), (read,)),
    )
    return IntegerNet((1, 3, 3), nodes, cut, T_MAX, input_bits)


def rows(*samples: list[int]) -> np.ndarray:
    """(samples, T_MAX); timesteps that were not run hold zeros."""
    return np.array([s + [0] * (T_MAX - len(s)) for s in samples], np.int64)


TIMESTEPS = np.array([1, 2, 4, 1])
STEM_IN = rows([5], [4, 6], [3, 2, 1, 3], [9])  # 33 spikes
STEM_OUT = rows([2], [7, 1], [0, 4, 4, 1], [6])  # 25
CODE_OUT = rows([3], [2, 4], [1, 1, 1, 0], [12])  # 24
LABELS = np.array([0, 1, 1, 0])
PREDICTIONS = np.array([0, 1, 0, 0])  # three of four are right


def hand_outcome() -> Outcome:
    ran = rows([1], [1, 1], [1, 1, 1, 1], [1])
    edge = Ledger.zeros(["stem", "code"], [("stem", "input"), ("code", "stem")], 4, T_MAX)
    edge.spikes_in[:, 0], edge.spikes_in[:, 1] = STEM_IN, STEM_OUT
    edge.syn_ops[:, 0] = rows([50], [40, 70], [30, 20, 10, 40], [98])  # 358
    edge.syn_ops[:, 1] = rows([10], [36, 6], [0, 20, 22, 4], [30])  # 128
    edge.syn_ops_nonzero[:] = edge.syn_ops
    # No connection has both; here they only have to be told apart.
    edge.macs[:, 0] = rows([1], [2, 3], [0, 0, 0, 4], [4])  # 14
    edge.dendrite_updates[:, 0], edge.dendrite_updates[:, 1] = 18 * ran, 12 * ran
    edge.axon_out[:, 0], edge.axon_out[:, 1] = STEM_OUT, CODE_OUT
    cloud = Ledger.zeros(["readout"], [("readout", "code")], 4, T_MAX)
    cloud.spikes_in[:, 0] = CODE_OUT
    cloud.syn_ops[:, 0] = cloud.syn_ops_nonzero[:, 0] = 2 * CODE_OUT
    cloud.dendrite_updates[:, 0] = 2 * ran
    return Outcome(Exits(TIMESTEPS, PREDICTIONS, np.ones(4, np.uint8)), edge, cloud)


@pytest.fixture(scope="module")
def base() -> Bundle:
    return load_bundle(RELEASED / "base")


@pytest.fixture
def configuration(base: Bundle) -> Configuration:
    return Configuration("D+B", "SP1", base, hand_net(), dynamic=True)


def measured_of(outcome: Outcome) -> Measured:
    """A real run that found what the executor found, on the samples chosen."""
    assert outcome.edge is not None
    timesteps = outcome.exits.timesteps[CHOSEN]
    exits = Exits(timesteps, outcome.exits.predictions[CHOSEN], np.ones(3, np.uint8))
    counts = {n: getattr(outcome.edge, n)[CHOSEN] for n in ALL_COUNTS}
    return Measured(
        exits,
        replace(outcome.edge, **counts),
        edge_s=np.array([0.1, 0.2, 0.6]),
        roundtrip_s=np.array([0.02, 0.04, 0.06]),
        cloud_s=np.array([0.01, 0.01, 0.04]),
        payload_bits=16 * timesteps,
        wire_bytes=100 * timesteps + 43,
    )


def row_of(configuration: Configuration, measured: Measured | None = None) -> Row:
    return make_row(configuration, hand_outcome(), measured, LABELS, device("paper-23pJ"))


def test_every_figure_of_a_row_by_hand(configuration: Configuration) -> None:
    row = row_of(configuration)
    assert (row.split, row.configuration, row.samples) == ("SP1", "D+B", 4)
    assert row.accuracy == 0.75
    # z = 1.95996: ((3 + z^2 / 2) +- z sqrt(3 * 1 / 4 + z^2 / 4)) / (4 + z^2)
    assert row.accuracy_interval == pytest.approx((0.300642, 0.954413), abs=1e-6)
    assert row.mean_timesteps == 2.0
    assert row.exit_histogram == [2, 1, 0, 1]
    assert row.code_shape == (3, 2, 2)
    # 12 values a timestep and 2 timesteps: as floats of 32 bits, as bits, as whole bytes.
    assert row.raw_bits == 12 * 32 * 2
    assert row.packed_bits == 12 * 2
    assert row.payload_bits == 2 * 8 * 2
    # Code 29 + 2, reply 29 + 4 + 2 * 4, each 5 + 9 framed, at each of 2 timesteps; one end 29.
    assert row.wire_bytes == 2 * ((31 + 14) + (41 + 14)) + (29 + 14) == 243
    assert row.syn_ops == (358 + 128) / 4 == 121.5
    assert row.macs == 14 / 4 == 3.5
    assert row.energy_j == pytest.approx(125 * 23 * PJ, rel=1e-12)


def test_the_papers_energy_is_macs_times_rate_times_timesteps_times_23_pj(
    configuration: Configuration,
) -> None:
    # 3x3 taps over 3x3 padded by one: 49 of 81 lie inside; 2x2 over 3x3: all 16 of 4 positions.
    stem_macs, code_macs = 49 * 1 * 2, 16 * 2 * 3
    energies = [
        (
            stem_macs * (stem_spikes / (9 * t)) * t * 23 * PJ
            + code_macs * (code_spikes / (18 * t)) * t * 23 * PJ
        )
        for t, stem_spikes, code_spikes in [(1, 5, 2), (2, 10, 8), (4, 9, 9), (1, 9, 6)]
    ]
    expected = sum(energies) / 4
    assert expected == pytest.approx(2832.8333 * PJ, rel=1e-6)
    assert row_of(configuration).energy_paper_j == pytest.approx(expected, rel=1e-12)


def test_other_device_models_price_the_same_counts(configuration: Configuration) -> None:
    outcome = hand_outcome()
    row = make_row(configuration, outcome, None, LABELS, device("loihi-davies2018"))
    assert row.energy_j > row_of(configuration).energy_j, "neurons and axons cost as well"
    assert row.energy_paper_j == row_of(configuration).energy_paper_j


def test_layers_have_mean_counts_and_the_rate_of_the_timesteps_run(
    configuration: Configuration,
) -> None:
    stem, code, readout = row_of(configuration).layers
    assert [(n.name, n.side) for n in (stem, code, readout)] == [
        ("stem", "edge"),
        ("code", "edge"),
        ("readout", "cloud"),
    ]
    assert (stem.spikes_in, stem.syn_ops, stem.macs) == (33 / 4, 358 / 4, 14 / 4)
    # Eight timesteps ran in all, of 16: 18 and 12 neurons updated at each.
    assert (stem.dendrite_updates, code.dendrite_updates) == (18 * 8 / 4, 12 * 8 / 4)
    assert stem.firing_rate == pytest.approx(25 / (18 * 8))
    assert code.firing_rate == pytest.approx(24 / (12 * 8))
    assert readout.firing_rate == 0
    assert readout.syn_ops == 2 * 24 / 4


def test_timings_are_means_of_the_real_samples(configuration: Configuration) -> None:
    row = row_of(configuration, measured_of(hand_outcome()))
    assert row.measured_samples == 3
    assert row.edge_s == pytest.approx(0.3)
    assert row.roundtrip_s == pytest.approx(0.04)
    assert row.cloud_s == pytest.approx(0.02)
    assert row.samples == 4, "accuracy and counts are those of all samples"
    without = row_of(configuration)
    assert (without.edge_s, without.roundtrip_s, without.cloud_s) == (None, None, None)
    assert without.measured_samples == 0


def test_without_a_link_nothing_is_sent_and_without_an_edge_nothing_is_spent(base: Bundle) -> None:
    outcome = hand_outcome()
    edge, cloud = outcome.edge, outcome.cloud
    assert edge is not None
    assert cloud is not None
    counts = {n: np.hstack([getattr(edge, n), getattr(cloud, n)]) for n in ALL_COUNTS}
    names, links = edge.nodes + cloud.nodes, edge.connections + cloud.connections
    whole = Outcome(outcome.exits, Ledger(names, links, **counts), None)
    edge_only = Configuration("edge-only", None, base, hand_net(cut=3), dynamic=False)
    row = make_row(edge_only, whole, None, LABELS, device("paper-23pJ"))
    assert row.energy_j == pytest.approx((358 + 128 + 14 + 2 * 24) / 4 * 23 * PJ)
    assert (row.raw_bits, row.packed_bits, row.payload_bits, row.wire_bytes) == (0, 0, 0, 0)
    assert row.code_shape is None
    cloud_only = Configuration(CLOUD_ONLY, None, base, hand_net(cut=0), dynamic=False)
    row = make_row(cloud_only, replace(outcome, edge=None), None, LABELS, device("paper-23pJ"))
    assert (row.syn_ops, row.macs, row.energy_j, row.energy_paper_j) == (0, 0, 0, 0)
    assert row.packed_bits == 9 * 2


@pytest.mark.parametrize(("bits", "payload_bytes"), [(1, 2), (4, 5)])
def test_the_link_costs_what_the_real_messages_are_long(bits: int, payload_bytes: int) -> None:
    # The encoded input crosses: 9 values, of 1 bit in 2 bytes, of 4 bits in 5.
    net = hand_net(input_bits=bits, cut=0)
    rng = np.random.default_rng(bits)
    code = rng.integers(0, 2**bits, (1, 3, 3)).astype(np.uint8)
    place = {"session": 2**63 + 5, "epoch": 1, "sample": 77, "timestep": 3}
    payload = pack(code, bits)
    assert len(payload) == payload_bytes
    there = encode(Message(Kind.CODE, codec=1 if bits == 1 else 2, payload=payload, **place))
    back = encode(Message(Kind.LOGITS, payload=pack_logits(np.array([-9, 12345]), 0.004), **place))
    end = encode(Message(Kind.END_SAMPLE, **place))
    cost = LinkCost.of(net)
    assert cost.raw_bits == 9 * 32
    assert cost.packed_bits == 9 * bits
    assert cost.payload_bits == 8 * payload_bytes
    assert cost.step_wire_bytes == wire_bytes(len(there)) + wire_bytes(len(back))
    assert cost.step_wire_bytes == (29 + payload_bytes + 14) + (29 + 4 + 8 + 14)
    assert cost.end_wire_bytes == wire_bytes(len(end)) == 43
    assert cost.wire_bytes(np.array([1, 4])).tolist() == [
        cost.step_wire_bytes + 43,
        4 * cost.step_wire_bytes + 43,
    ]


def test_what_exits_cost_by_hand(configuration: Configuration) -> None:
    nan = np.nan
    # Sums of two classes after each of 4 timesteps: classes 1, 1, 0 and 1 at the end.
    sums = np.array(
        [
            [[9, 0, 0, 0], [0, 9, 9, 9]],
            [[0, 9, 0, 0], [9, 0, 9, 9]],
            [[9, 9, 9, 9], [0, 0, 0, 0]],
            [[nan, nan, 0, 0], [nan, nan, 9, 9]],
        ]
    )
    labels = np.array([1, 1, 1, 1])
    exits = decide(FixedPolicy(4, 1), sums)
    assert exits.timesteps.tolist() == [1, 1, 1, 3], "NaN is not a reason to stop"
    outcome = replace(hand_outcome(), exits=exits, run_sums=sums)
    row = make_row(
        replace(configuration, policy="hasty"), outcome, None, labels, device("paper-23pJ")
    )
    assert (row.policy, row.not_numbers) == ("hasty", 2)
    # Right from 2, 3 and 3 on; the third is wrong at the end and counts 4.
    assert row.oct == (2 + 3 + 4 + 3) / 4
    assert row.accuracy == 2 / 4
    assert row.exit_histogram_by_class == [[0, 0, 0, 0], [3, 0, 1, 0]]
    # Confidence 1 / (1 + exp(-y)), y = S / (gain t): one of the three at t = 1 is right.
    gain = configuration.bundle.readout_gain
    early, late = (1 / (1 + np.exp(-9 / gain / t)) for t in (1, 3))
    assert max(early, late) < 8 / 15, "all are in one bin"
    assert row.ece == pytest.approx(abs(2 - (3 * early + late)) / 4)


def test_each_reduction_is_against_its_own_baseline(configuration: Configuration) -> None:
    def row(split: str | None, name: str, energy_j: float, *bits: float) -> Row:
        raw, packed, payload = bits or (0.0, 0.0, 0.0)
        return replace(
            row_of(configuration),
            split=split,
            configuration=name,
            energy_j=energy_j,
            raw_bits=raw,
            packed_bits=packed,
            payload_bits=payload,
        )

    found = with_reductions(
        [
            row(None, "edge-only", 12e-9),
            row(None, "edge-only dynamic", 8e-9),
            row(None, "cloud-only", 0.0, 800.0, 25.0, 32.0),
            row("SP1", "F-B", 5e-9, 3200.0, 100.0, 104.0),
            row("SP1", "D-B", 4e-9, 1600.0, 50.0, 52.0),
            row("SP1", "F+B", 3e-9, 320.0, 10.0, 16.0),
            row("SP1", "D+B", 2e-9, 160.0, 5.0, 8.0),
            row("SP2", "F-B", 6e-9, 6400.0, 200.0, 208.0),
            row("SP2", "D+B", 2.5e-9, 640.0, 20.0, 24.0),
        ]
    )

    def factors(fixed: float, dynamic: float, raw: float, packed: float) -> dict[str, float]:
        return {
            "energy vs edge-only": pytest.approx(fixed),
            "energy vs edge-only dynamic": pytest.approx(dynamic),
            "payload vs raw F-B": pytest.approx(raw),
            "payload vs packed F-B": pytest.approx(packed),
        }

    assert [r.reductions for r in found] == [
        {"energy vs edge-only dynamic": pytest.approx(8 / 12)},
        {"energy vs edge-only": pytest.approx(12 / 8)},
        {},
        factors(12 / 5, 8 / 5, 3200 / 104, 100 / 104),
        factors(12 / 4, 8 / 4, 3200 / 52, 100 / 52),
        factors(12 / 3, 8 / 3, 3200 / 16, 100 / 16),
        factors(12 / 2, 8 / 2, 3200 / 8, 100 / 8),
        factors(12 / 6, 8 / 6, 6400 / 208, 200 / 208),
        factors(12 / 2.5, 8 / 2.5, 6400 / 24, 200 / 24),
    ]


# --- what the real run must agree in ---


def test_a_real_run_that_agrees_passes(configuration: Configuration) -> None:
    outcome = hand_outcome()
    require_agreement(configuration, outcome, measured_of(outcome), CHOSEN)


def changed(array: np.ndarray, at: int | tuple[int, ...], by: int = 1) -> np.ndarray:
    result = array.copy()
    result[at] += by
    return result


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("timesteps", lambda e, i: replace(e, timesteps=changed(e.timesteps, i))),
        ("predictions", lambda e, i: replace(e, predictions=changed(e.predictions, i))),
    ],
)
def test_another_answer_names_configuration_and_sample(
    what: str, change: Callable[[Exits, int], Exits], place: int, configuration: Configuration
) -> None:
    outcome = hand_outcome()
    measured = measured_of(outcome)
    measured = replace(measured, exits=change(measured.exits, place))
    with pytest.raises(SimulationError) as caught:
        require_agreement(configuration, outcome, measured, CHOSEN)
    assert caught.value.message.startswith("SP1 D+B: ")
    assert f"{what} of sample {CHOSEN[place]} " in caught.value.message


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize(
    ("field", "said"), [("payload_bits", "payload"), ("wire_bytes", "messages")]
)
def test_other_bytes_name_the_configuration(
    field: str, said: str, place: int, configuration: Configuration
) -> None:
    outcome = hand_outcome()
    measured = measured_of(outcome)
    measured = replace(measured, **{field: changed(getattr(measured, field), place, 8)})
    with pytest.raises(SimulationError) as caught:
        require_agreement(configuration, outcome, measured, CHOSEN)
    assert caught.value.message.startswith("SP1 D+B: ")
    assert said in caught.value.message


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("count", ALL_COUNTS)
def test_one_other_count_names_node_timestep_and_sample(
    count: str, by: int, configuration: Configuration
) -> None:
    outcome = hand_outcome()
    measured = measured_of(outcome)
    assert measured.ledger is not None
    # The second of the chosen samples is sample 2; the second node, its third timestep.
    array = changed(getattr(measured.ledger, count), (1, 1, 2), by)
    measured = replace(measured, ledger=replace(measured.ledger, **{count: array}))
    with pytest.raises(SimulationError) as caught:
        require_agreement(configuration, outcome, measured, CHOSEN)
    for part in ("SP1 D+B: ", count, "'code'", "timestep 3 ", "sample 2"):
        assert part in caught.value.message


def test_a_ledger_of_other_connections_does_not_agree(configuration: Configuration) -> None:
    outcome = hand_outcome()
    measured = measured_of(outcome)
    assert measured.ledger is not None
    fewer = {name: getattr(measured.ledger, name)[:, :1] for name in CONNECTION_COUNTS}
    measured = replace(measured, ledger=replace(measured.ledger, **fewer))
    with pytest.raises(SimulationError, match=r"SP1 D\+B"):
        require_agreement(configuration, outcome, measured, CHOSEN)


# --- a whole evaluation over a real socket, without Lava ---


def evaluated(
    base: Bundle, *, dynamic: bool, samples: int, confirm: int, alpha: float = 0.9
) -> Row:
    """The cloud-only configuration of the released base."""
    inputs, labels = load_samples(base, samples)
    cloud_only = next(c for c in plan(base, [], []) if c.name == CLOUD_ONLY)
    policy = make_policy(base, "confidence", alpha)
    (row,) = evaluate(
        [replace(cloud_only, dynamic=dynamic)],
        inputs,
        labels,
        policy_for=lambda _: policy,
        energy_model=device("paper-23pJ"),
        confirm=confirm,
    )
    return row


@pytest.mark.parametrize("dynamic", [False, True])
def test_confirmed_samples_cross_the_socket_timestep_by_timestep(
    dynamic: bool, base: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[np.ndarray] = []
    step = EdgeClient.step

    def spied(self: EdgeClient, code: np.ndarray):
        sent.append(code.copy())
        return step(self, code)

    monkeypatch.setattr(EdgeClient, "step", spied)
    row = evaluated(base, dynamic=dynamic, samples=6, confirm=6)
    ran = sum((t + 1) * n for t, n in enumerate(row.exit_histogram))
    assert len(sent) == ran
    assert (ran == 6 * base.net.timesteps) != dynamic
    inputs, _ = load_samples(base, 6)
    assert (sent[0] == inputs[0, ..., 0]).all()
    assert row.measured_samples == 6
    assert row.roundtrip_s is not None
    assert row.cloud_s is not None
    assert 0 < row.cloud_s < row.roundtrip_s


def test_a_server_that_answers_otherwise_is_found(
    base: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = EdgeClient.step

    def tampered(self: EdgeClient, code: np.ndarray):
        reply = step(self, code)
        return replace(reply, sums=np.roll(reply.sums, 1))

    monkeypatch.setattr(EdgeClient, "step", tampered)
    with pytest.raises(SimulationError, match="cloud-only: predictions of sample 0 differ"):
        evaluated(base, dynamic=False, samples=3, confirm=3)
    assert evaluated(base, dynamic=False, samples=3, confirm=0).measured_samples == 0
