"""Pricing: hand-worked joules for every device model, the papers' formula, and the data itself."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import load_join_net, run_plain

import neucodex_lava.energy
from energy import (
    DEFAULT_MODEL,
    DeviceModel,
    Ledger,
    Overhead,
    device,
    devices,
    event_counts,
    paper_energy_j,
    price,
    price_ann,
)
from energy.devices import EVENTS
from neucodex_lava.errors import ConfigError, FormatError

NODES = ("first", "second", "readout")
LINKS = (("first", "input"), ("second", "first"), ("second", "input"), ("readout", "second"))
KINDS = ("conv", "conv_transpose", "identity", "dense")


def small_ledger() -> Ledger:
    """Two samples, two timesteps; the first connection is graded, so it counts MACs."""
    ledger = Ledger.zeros(NODES, LINKS, 2, 2)
    ledger.macs[:, 0] = [[100, 200], [300, 0]]
    ledger.syn_ops[:, 1] = [[10, 20], [30, 0]]
    ledger.syn_ops[:, 2] = [[1, 2], [3, 0]]
    ledger.syn_ops[:, 3] = [[5, 5], [5, 0]]
    ledger.dendrite_updates[:] = [[[8, 8], [4, 4], [2, 2]], [[8, 0], [4, 0], [2, 0]]]
    ledger.axon_out[:] = [[[3, 1], [2, 0], [0, 0]], [[1, 0], [1, 0], [0, 0]]]
    return replace(
        ledger,
        relay=Overhead(syn_ops=7, dendrite_updates=10, axon_out=3),
        outside_window=Overhead(syn_ops=1, macs=2, dendrite_updates=4, axon_out=1),
    )


def close(found: Any, expected_pj: Any) -> None:
    np.testing.assert_allclose(found, np.asarray(expected_pj) * 1e-12, rtol=1e-12)


def test_the_papers_figure_prices_synapses_only() -> None:
    report = price(small_ledger())
    # sample 0: 300 MACs + 30 + 3 + 10 SynOps; sample 1: 300 + 30 + 3 + 5
    close(report.per_sample_j, [23 * 343, 23 * 338])
    close(report.mean_j, 23 * 340.5)
    close(report.per_node_j, [23 * 300, 23 * 33, 23 * 7.5])
    close(report.relay_j, 23 * 7)
    close(report.outside_window_j, 23 * 3)
    close(report.run_j, 23 * (681 + 7 + 3))
    close(report.mean_run_j, 23 * 691 / 2)
    close(report.low_j, 23 * 340.5)
    close([report.by_event_j[k] for k in ("syn_ops", "macs")], [23 * 40.5, 23 * 300])
    assert report.basis == "modelled"
    assert report.model.name == DEFAULT_MODEL == "paper-23pJ"


def test_loihi_of_davies_2018() -> None:
    report = price(small_ledger(), "loihi-davies2018")
    # per sample: synapses 343 / 338, updates 28 / 14, spikes 6 / 2
    expected = [23.6 * 343 + 81 * 28 + 1.7 * 6, 23.6 * 338 + 81 * 14 + 1.7 * 2]
    close(report.per_sample_j, expected)
    close(report.low_j, 23.6 * 340.5 + 52 * 21 + 1.7 * 4)
    first = 23.6 * 300 + 81 * 12 + 1.7 * 2.5
    second = 23.6 * 33 + 81 * 6 + 1.7 * 1.5
    close(report.per_node_j, [first, second, 23.6 * 7.5 + 81 * 3])
    close(report.relay_j, 23.6 * 7 + 81 * 10 + 1.7 * 3)
    close(report.outside_window_j, 23.6 * 3 + 81 * 4 + 1.7)


def test_loihi_of_sanafe_tells_kinds_of_connections_apart() -> None:
    report = price(small_ledger(), "loihi-sanafe", KINDS)
    rest = np.array([72.8 * 28 + 180.3 * 6, 72.8 * 14 + 180.3 * 2])
    synapses = np.array(
        [24 * (300 + 30) + 33.6 * 3 + 35.5 * 10, 24 * (300 + 30) + 33.6 * 3 + 35.5 * 5]
    )
    close(report.per_sample_j, synapses + rest)
    assert report.model.by_connection
    unaware = price(small_ledger(), "loihi-sanafe")
    close(unaware.per_sample_j, 24 * np.array([343, 338]) + rest)
    close(report.relay_j, 24 * 7 + 72.8 * 10 + 180.3 * 3)
    # graded input through a dense first layer
    graded = price(small_ledger(), "loihi-sanafe", ("dense", "conv", "conv", "conv"))
    close(graded.by_event_j["macs_dense"], 35.5 * 300)


def test_sparqs_45_nm_model_reads_a_weight_for_every_operation() -> None:
    report = price(small_ledger(), "horowitz-45nm")
    # sample 0: 300 MACs, 43 SynOps, 28 updates; sample 1: 300, 38, 14
    expected = [300 * 0.23 + 43 * 0.03 + 343 * 80 + 28, 300 * 0.23 + 38 * 0.03 + 338 * 80 + 14]
    close(report.per_sample_j, expected)
    close(report.by_event_j["weight_reads"], 80 * 340.5)
    close(report.low_j, 300 * 0.23 + 40.5 * 0.03 + 21)
    close(report.relay_j, 7 * 0.03 + 7 * 80 + 10)
    close(report.outside_window_j, 0.03 + 2 * 0.23 + 3 * 80 + 4)
    floats = price(small_ledger(), "horowitz-45nm-fp32")
    close(floats.per_sample_j[0], 300 * 4.6 + 43 * 0.9 + 343 * 320 + 28)


def test_an_artificial_network_is_priced_by_its_macs() -> None:
    close(price_ann(1000.0, "horowitz-45nm-fp32"), 1000 * (4.6 + 320))
    close(price_ann(1000.0, "horowitz-45nm"), 1000 * (0.23 + 80))
    close(price_ann(1000.0, "horowitz-45nm", memory=False), 1000 * 0.23)
    close(price_ann(1000.0, "paper-23pJ"), 1000 * 23)
    with pytest.raises(ConfigError, match="'loihi-sanafe' has no one price for a MAC"):
        price_ann(1000.0, "loihi-sanafe")


@given(seed=st.integers(0, 1000), model=st.sampled_from(sorted(devices())))
@settings(deadline=None)
def test_samples_nodes_and_events_add_up_to_the_same_total(seed: int, model: str) -> None:
    rng = np.random.default_rng(seed)
    ledger = Ledger.zeros(NODES, LINKS, 5, 3)
    for name in ("syn_ops", "macs", "dendrite_updates", "axon_out"):
        getattr(ledger, name)[:] = rng.integers(0, 10**6, getattr(ledger, name).shape)
    report = price(ledger, model, list(rng.choice(KINDS, 4)))
    total = report.per_sample_j.sum() / 5
    assert report.per_node_j.sum() == pytest.approx(total)
    assert sum(report.by_event_j.values()) == pytest.approx(total)
    assert report.run_j == pytest.approx(5 * total)
    assert 0 < report.low_j <= total * (1 + 1e-12)


def test_stopping_early_costs_what_was_run() -> None:
    ledger = small_ledger()
    early = price(ledger.until(np.array([1, 1])))
    close(early.per_sample_j, [23 * (100 + 10 + 1 + 5), 23 * 338])


def test_a_run_without_samples_or_nodes_costs_nothing() -> None:
    for ledger in (Ledger.zeros(NODES, LINKS, 0, 4), Ledger.zeros((), (), 3, 4)):
        for model in devices():
            report = price(ledger, model)
            assert report.mean_j == report.run_j == report.mean_run_j == report.low_j == 0


def test_event_counts_of_the_fixture_are_its_ledger() -> None:
    net, spikes, _ = load_join_net()
    _, _, ledger = run_plain(net, spikes)
    counts = event_counts(ledger, [c.kind for _, c in net.connections()])
    assert set(counts) == set(EVENTS)
    assert (counts["syn_ops"] == ledger.per_node("syn_ops").sum(axis=2)).all()
    split = counts["syn_ops_conv"] + counts["syn_ops_dense"] + counts["syn_ops_sparse"]
    assert (split == counts["syn_ops"]).all()
    readout = list(ledger.nodes).index("readout")
    assert (counts["syn_ops_dense"][:, readout] == counts["syn_ops"][:, readout]).all()


def test_results_go_to_json() -> None:
    found = price(small_ledger(), "loihi-davies2018").to_dict()
    assert found["model"] == "loihi-davies2018"
    assert found["basis"] == "modelled"
    assert found["samples"] == 2
    assert set(found["per_node_j"]) == set(NODES)
    assert any("hops" in line for line in found["left_out"])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown energy model 'loihi3'.*paper-23pJ"):
        price(small_ledger(), "loihi3")
    with pytest.raises(ConfigError, match="2 kinds for 4 connections"):
        price(small_ledger(), kinds=["conv", "conv"])
    with pytest.raises(ConfigError, match="unknown kind of connection 'pool'"):
        price(small_ledger(), kinds=["conv", "pool", "conv", "conv"])


def test_every_number_names_its_source() -> None:
    assert list(devices()) == [
        "paper-23pJ", "loihi-davies2018", "loihi-sanafe", "horowitz-45nm", "horowitz-45nm-fp32",
    ]  # fmt: skip
    for model in devices().values():
        assert model.reference
        assert model.left_out
        assert all(term.source and term.energy_pj > 0 for term in model.terms)
    assert not device().by_connection


GOOD_TERM = {"event": "syn_ops", "energy_pj": 1.0, "status": "published", "source": "here"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"event": "hops"}, "no ledger counts it"),
        ({"energy_pj": -1}, "no range of energies"),
        ({"energy_pj": float("nan")}, "no range of energies"),
        ({"energy_pj": float("inf")}, "no range of energies"),
        ({"low_pj": 2}, "no range of energies"),
        ({"energy_pj": "much"}, "could not convert"),
        ({"status": "guessed"}, "status 'guessed'"),
        ({"source": ""}, "names no source"),
    ],
)
def test_device_data_is_checked(change: dict[str, Any], message: str) -> None:
    raw = {"description": "", "reference": "", "left_out": [], "terms": [GOOD_TERM | change]}
    with pytest.raises(FormatError, match=message):
        DeviceModel.from_dict("mine", raw)
    with pytest.raises(FormatError, match="priced twice"):
        DeviceModel.from_dict("mine", raw | {"terms": [GOOD_TERM, GOOD_TERM]})
    with pytest.raises(FormatError, match="'terms'"):
        DeviceModel.from_dict("mine", {})


def test_the_papers_formula_by_hand() -> None:
    # 1 connection of 1,000 MACs that reads 50 neurons; 25 spikes in 2 timesteps: rate 1/4
    spikes = np.array([[[20, 5]]])
    found = paper_energy_j(spikes, np.array([1000]), np.array([50]), np.array([2]))
    close(found, [1000 * 0.25 * 2 * 23])


def test_the_papers_formula_equals_the_count_where_every_neuron_has_one_fan_out() -> None:
    rng = np.random.default_rng(0)
    spikes = rng.integers(0, 30, (4, 2, 3))
    fan_out, sizes = np.array([7, 11]), np.array([30, 40])
    ledger = Ledger.zeros(("a", "b"), (("a", "input"), ("b", "a")), 4, 3)
    ledger.syn_ops[:] = spikes * fan_out[:, None]
    found = paper_energy_j(spikes, fan_out * sizes, sizes, np.array([3, 3, 1, 2]))
    np.testing.assert_allclose(found, price(ledger).per_sample_j, rtol=1e-12)


def test_the_papers_formula_refuses_what_does_not_fit() -> None:
    spikes, one, two = np.zeros((2, 1, 3), int), np.array([1]), np.array([1, 1])
    with pytest.raises(ConfigError, match="do not fit together"):
        paper_energy_j(spikes, two, one, two)
    with pytest.raises(ConfigError, match="do not fit together"):
        paper_energy_j(spikes, one, one, one)
    with pytest.raises(ConfigError, match="do not fit together"):
        paper_energy_j(spikes[..., 0], one, one, two)
    with pytest.raises(ConfigError, match="at least one"):
        paper_energy_j(spikes, one, one, np.array([0, 1]))
    with pytest.raises(ConfigError, match="at least one"):
        paper_energy_j(spikes, one, np.array([0]), two)


def test_energy_is_found_under_this_packages_name() -> None:
    import energy

    assert neucodex_lava.energy.__all__ == energy.__all__
    assert all(
        getattr(neucodex_lava.energy, name) is getattr(energy, name) for name in energy.__all__
    )


def test_importing_energy_needs_numpy_only() -> None:
    code = (
        "import sys, energy\n"
        "ours = {m for m in sys.modules if m.startswith('neucodex_lava.')}\n"
        "print(sorted(ours), sorted({'torch', 'lava', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "['neucodex_lava.errors'] []"
