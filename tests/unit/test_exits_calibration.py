"""Calibration: each algorithm against one worked out by hand or by brute force."""

import json
import math
from typing import Any

import numpy as np
import pytest

from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.exits import (
    ConfidencePolicy,
    TopKPolicy,
    decide,
    max_softmax,
    policy_from_dict,
    policy_to_dict,
    predicted,
)
from neucodex_lava.exits.calibration import (
    KINDS,
    CalibrationData,
    CalibrationOptions,
    calibrate,
)
from neucodex_lava.exits.calibration.agent import AgentConfig, learn, relative_cost
from neucodex_lava.exits.calibration.families import (
    cheapest,
    confidence_family,
    entropy_family,
    fixed_family,
    patience_family,
)
from neucodex_lava.exits.calibration.temperature import fit_temperature
from neucodex_lava.exits.calibration.topk import GapRisk, fit_logistic, topk_family
from neucodex_lava.exits.calibration.topk_snncutoff import snncutoff_thresholds
from neucodex_lava.exits.logits import read_logits
from neucodex_lava.exits.topk import top_gap

GAIN = 100.0


def runs(seed: int, samples: int = 1000, t_max: int = 4, noise: float = 1.5) -> Any:
    """Running sums of noisy outputs: samples differ in how clear they are. And their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples) % 10)
    means = 0.8 * rng.normal(size=(samples, 10))
    means[np.arange(samples), labels] += np.abs(rng.normal(2.0, 2.5, samples))
    steps = means[:, :, None] + noise * rng.normal(size=(samples, 10, t_max))
    return np.rint(GAIN * steps.cumsum(axis=2)).astype(np.int64), labels


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_policy_for_the_bundle_and_plain_numbers(kind: str) -> None:
    sums, labels = runs(0)
    found = calibrate(kind, sums, labels, gain=GAIN)
    assert policy_from_dict(json.loads(json.dumps(policy_to_dict(found.policy)))) == found.policy
    assert json.loads(json.dumps(found.report)) == found.report
    exits = decide(found.policy, sums)
    accuracy = (exits.predictions == labels).mean()
    whole = (sums[..., -1].argmax(axis=1) == labels).mean()
    assert found.report["samples"] == 1000
    assert found.report["mean_timesteps"] == exits.timesteps.mean()
    assert found.report["drop"] == pytest.approx(whole - accuracy)
    if kind in ("confidence", "entropy", "topk", "patience"):
        assert found.report["drop"] <= 0.001 + 1e-12
    if kind in ("confidence", "entropy", "topk"):
        assert found.report["mean_timesteps"] < 3.7


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_the_exit_heads_of_a_cascade_and_a_single_timestep(kind: str) -> None:
    sums, labels = runs(1, samples=600)
    heads = np.moveaxis(read_logits(sums, GAIN), 1, 2)
    options = CalibrationOptions(logits="sum")
    for t_max in (1, 3):
        found = calibrate(kind, heads[..., :t_max], labels, gain=1.0, options=options)
        assert found.policy.t_max == t_max
        if t_max == 1:
            assert found.report["mean_timesteps"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_nans_in_calibration_data_are_survived_and_counted(kind: str) -> None:
    sums, labels = runs(2)
    sums = sums.astype(np.float64)
    sums[5, 3, :] = np.nan
    sums[9, 0, 0] = np.nan
    found = calibrate(kind, sums, labels, gain=GAIN)
    assert found.report["not_numbers"] >= 2
    assert math.isfinite(found.report["mean_timesteps"])
    json.dumps(policy_to_dict(found.policy), allow_nan=False)


def test_snncutoff_thresholds_by_hand() -> None:
    # Two classes, T = 2, gaps of the sums: the largest is 100, so that beta_m = m.
    # sample: gap and right at t = 1; at t = 2: A 100 right; B 40 right; C 60 wrong, then right;
    # D 30 right, but wrong at t = 2.
    first, second = [50.5, 40.5, 60.5, 30.5], [100.0, 40.0, 10.0, -20.0]
    lead = np.array([first, second]).T
    lead[2, 0] *= -1
    sums = np.stack([lead, np.zeros_like(lead)], axis=1)
    data = CalibrationData(sums, np.zeros(4, int), 1.0)
    # t = 1: above 60 nobody is left, so no share; among those above 50.5 only C, which is not ok.
    # All candidates fail at epsilon 0, so the last one, 99. At t = 2 all above 20 are ok.
    assert snncutoff_thresholds(data, 0.0) == (99.0, 20.0)
    # Above 30 (31 of them exceed it: A, B, C) 2/3 are ok; above 40 A, C; above 41 A, C: 1/2.
    assert snncutoff_thresholds(data, 0.34) == (31.0, 0.0)
    assert snncutoff_thresholds(data, 0.5) == (0.0, 0.0)


def brute_snncutoff(
    sums: np.ndarray, labels: np.ndarray, gain: float, epsilon: float
) -> list[float]:
    y = sums / gain
    samples, _, t_max = y.shape
    gap, ok = np.zeros((samples, t_max)), np.zeros((samples, t_max), bool)
    for n in range(samples):
        for t in range(t_max):
            best, second = sorted(y[n, :, t])[::-1][:2]
            gap[n, t] = best - second
            ok[n, t] = all(y[n, :, u].argmax() == labels[n] for u in range(t, t_max))
    betas = [m * (gap.max() / 100) for m in range(100)]
    chosen: list[float] = []
    for t in range(t_max):
        for beta in betas:
            above = [ok[n, t] for n in range(samples) if gap[n, t] > beta]
            if above and sum(above) / len(above) >= 1 - epsilon:
                break
        chosen.append(beta)
    return chosen


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3])
def test_snncutoff_thresholds_are_those_of_plain_loops(epsilon: float) -> None:
    sums, labels = runs(3, samples=80)
    data = CalibrationData(sums, labels, GAIN)
    assert snncutoff_thresholds(data, epsilon) == pytest.approx(
        brute_snncutoff(sums, labels, GAIN, epsilon)
    )


def test_logistic_regression_finds_the_curve_it_was_drawn_from() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40_000)
    happened = rng.random(len(x)) < 1 / (1 + np.exp(1.0 + 2.0 * x))
    w = fit_logistic(x, happened, np.zeros(2), 1e-3)
    assert w == pytest.approx([-1.0, -2.0], abs=0.06)
    strong = fit_logistic(x, happened, np.array([3.0, 4.0]), 1e9)
    assert strong == pytest.approx([3.0, 4.0], abs=1e-3)


@pytest.mark.parametrize("happened", [True, False])
def test_logistic_regression_stays_finite_when_it_always_or_never_happens(happened: bool) -> None:
    w = fit_logistic(np.linspace(0, 5, 50), np.full(50, happened), np.zeros(2), 1e-3)
    assert np.isfinite(w).all()
    assert np.abs(w).max() < 20


def test_thresholds_of_equal_risk() -> None:
    risk = GapRisk(np.array([2.0, 4.0]), np.array([1.0, 0.0]), np.array([-1.0, -2.0]))
    # a + b u / scale = -3 at u = 8 and u = 6
    assert risk.thresholds(-3.0) == pytest.approx([8.0, 6.0])
    assert risk.at(np.array([[8.0, 6.0, 1.0], [np.nan, 0.0, 1.0]])) == pytest.approx(
        np.array([[1 / (1 + math.exp(3))] * 2 + [0], [0, 0.5, 0]])
    )
    # On its own scale the second would be higher, 4 against 3: the first is raised to it.
    rising = GapRisk(np.array([2.0, 1.0]), np.array([0.0, 1.0]), np.array([-1.0, -1.0]))
    assert rising.thresholds(-3.0) == pytest.approx([8.0, 4.0])


def test_timesteps_whose_threshold_nobody_exceeds_are_not_exited_at() -> None:
    sums, labels = runs(4)
    family = topk_family(CalibrationData(sums, labels, GAIN))
    gap = top_gap(read_logits(sums, GAIN))
    for parameter, policy in family.policies():
        assert isinstance(policy, TopKPolicy)
        for t, beta in enumerate(policy.thresholds[:-1]):
            assert beta is None or (gap[:, t] > beta).sum() >= 20, parameter
    safest, boldest = (family.make(family.parameters[i]) for i in (0, -1))
    assert decide(safest, sums).timesteps.mean() > 3.95
    assert decide(boldest, sums).timesteps.max() == 1


def test_our_thresholds_keep_the_drop_as_counted_and_as_modelled() -> None:
    # Of these, now the one and now the other is what stops it.
    for seed in range(10, 18):
        sums, labels = runs(seed, samples=250)
        report = calibrate("topk", sums, labels, gain=GAIN).report
        assert report["drop"] <= 0.001 + 1e-12, seed
        assert report["modelled_drop"] <= 0.001, seed
        assert report["mean_timesteps"] < 4, seed


def test_our_thresholds_need_fewer_timesteps_than_confidence_at_equal_drop() -> None:
    sums, labels = runs(5, samples=6000)
    data, test = (
        CalibrationData(sums[s], labels[s], GAIN) for s in (slice(3000), slice(3000, None))
    )
    mean = {
        family.name: cheapest(family, test, 0.001).mean_timesteps
        for family in (confidence_family(data), topk_family(data), entropy_family(data))
    }
    assert mean["topk"] < mean["confidence"] - 0.1
    assert mean["topk"] < mean["entropy"] - 0.1
    ours = calibrate("topk", data.sums, data.labels, gain=GAIN)
    theirs = calibrate("topk-snncutoff", data.sums, data.labels, gain=GAIN)
    assert ours.report["mean_timesteps"] < theirs.report["mean_timesteps"]


def test_families_run_from_never_early_to_at_once() -> None:
    sums, labels = runs(6, samples=200)
    data = CalibrationData(sums, labels, GAIN)
    for family in (
        confidence_family(data),
        entropy_family(data),
        patience_family(data),
        fixed_family(data),
    ):
        mean = [decide(policy, sums).timesteps.mean() for _, policy in family.policies()]
        assert mean[0] >= 3.9, family.name
        assert mean == sorted(mean, reverse=True), family.name
        assert mean[-1] == (2.0 if family.name == "patience" else 1.0) or family.name == "patience"


def test_the_temperature_is_that_of_least_loss() -> None:
    sums, labels = runs(7)
    y = np.moveaxis(sums[..., -1:], 1, 2)[:, 0] / GAIN
    found = fit_temperature(y, labels)

    def loss(temperature: float) -> float:
        z = y / temperature
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return -float(log_p[np.arange(len(labels)), labels].mean())

    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))
    assert fit_temperature(3 * y, labels) == pytest.approx(3 * found, rel=1e-5)
    report = calibrate("temperature", sums, labels, gain=GAIN / 3).report
    assert report["calibration_error"] < 0.05 < report["calibration_error_before"]
    certain = np.eye(10)[labels] * 5.0
    y = certain
    assert loss(1.0) > 0.05
    assert 0.01 <= fit_temperature(certain, labels) < 0.2
    assert loss(fit_temperature(certain, labels)) < 1e-12


def test_alpha_for_a_drop_is_the_cheapest_that_keeps_it() -> None:
    sums, labels = runs(8, samples=500)
    whole = (sums[..., -1].argmax(axis=1) == labels).mean()
    for drop in (0.0, 0.001, 0.05, 0.5):
        found = calibrate(
            "confidence", sums, labels, gain=GAIN, options=CalibrationOptions(drop=drop)
        )
        best = found.report["mean_timesteps"]
        assert found.report["drop"] <= drop + 1e-12
        for alpha in confidence_family(CalibrationData(sums, labels, GAIN)).parameters:
            exits = decide(ConfidencePolicy(4, GAIN, alpha), sums)
            if (exits.predictions == labels).mean() >= whole - drop:
                assert exits.timesteps.mean() >= best
    assert best == 1


def test_the_agent_learns_to_exit_where_that_is_worth_more() -> None:
    # Confident at exit 1: right at once, going on gains nothing. Unsure: right at exit 2 alone.
    confidence = np.array([[0.95, 0.95], [0.15, 0.95]] * 50)
    correct = np.array([[True, True], [False, True]] * 50)
    cost = np.array([[0.2, 1.0]] * 100)
    q = learn(confidence, correct, cost, AgentConfig(seed=1))
    assert q[0, 9, 0] == pytest.approx(1 - 0.3 * 0.2, abs=0.01)
    assert q[0, 9, 1] == pytest.approx(0.9 * (1 - 0.3), abs=0.01)
    assert q[0, 1, 0] == pytest.approx(-1 - 0.3 * 0.2, abs=0.01)
    assert q[0, 1, 1] == pytest.approx(0.9 * (1 - 0.3), abs=0.01)
    assert q[1, 9, 0] == pytest.approx(1 - 0.3, abs=0.01)
    few = [learn(confidence, correct, cost, AgentConfig(episodes=40, seed=s)) for s in (1, 1, 2)]
    assert (few[0] == few[1]).all()
    assert (few[0] != few[2]).any()


def test_costs_of_the_agent_are_shares_of_a_whole_run() -> None:
    assert relative_cost(None, 2, 4).tolist() == [[0.25, 0.5, 0.75, 1.0]] * 2
    spent = np.array([[10, 30], [20, 50]])
    assert relative_cost(spent, 2, 2).tolist() == [[0.25, 0.75], [0.5, 1.25]]
    assert relative_cost(spent[1], 2, 2).tolist() == [[0.4, 1.0]] * 2
    with pytest.raises(ConfigError, match="SynOps of whole runs are 0"):
        relative_cost(np.zeros(2), 2, 2)


def test_dear_exits_make_the_agent_leave_earlier() -> None:
    sums, labels = runs(9)
    mean = [
        calibrate(
            "qlearning",
            sums,
            labels,
            gain=GAIN,
            options=CalibrationOptions(weight=weight),
            syn_ops=np.array([1, 50, 99, 100]),
        ).report["mean_timesteps"]
        for weight in (0.0, 0.3, 3.0)
    ]
    assert mean[0] >= mean[1] > mean[2]


def test_calibration_data_that_will_not_do_is_refused() -> None:
    sums, labels = runs(10, samples=100)
    names = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
    some = labels != 7
    with pytest.raises(DataError, match=r"no sample of class 7 \('horse'\)") as caught:
        calibrate("confidence", sums[some], labels[some], gain=GAIN, class_names=names)
    assert "\n" not in str(caught.value)
    few = labels < 3
    with pytest.raises(DataError, match="no sample of class 3 and 6 more"):
        calibrate("topk", sums[few], labels[few], gain=GAIN)
    bad: list[tuple[Any, type[Exception], str]] = [
        ({"sums": sums[:0], "labels": labels[:0]}, DataError, "no calibration samples"),
        ({"sums": sums[0]}, ConfigError, "expected .samples, classes, timesteps."),
        ({"labels": labels[1:]}, ConfigError, r"labels have shape \(99,\)"),
        ({"labels": labels + 1}, DataError, r"label 10 is outside 0\.\.9"),
        ({"gain": 0.0}, ConfigError, "gain 0.0"),
        ({"reference": labels[1:]}, ConfigError, "reference answers have shape"),
        ({"syn_ops": np.ones(3)}, ConfigError, r"SynOps have shape \(3,\), expected \(100, 4\)"),
        ({"kind": "oracle"}, ConfigError, "unknown calibration 'oracle'.*confidence, temperature"),
    ]
    for change, error, message in bad:
        given = {"kind": "confidence", "sums": sums, "labels": labels, "gain": GAIN} | change
        with pytest.raises(error, match=message):
            calibrate(given.pop("kind"), given.pop("sums"), given.pop("labels"), **given)
    for options in ({"drop": -1}, {"level": 0}, {"confidence": 1}, {"epsilon": 1}, {"episodes": 0}):
        with pytest.raises(ConfigError):
            CalibrationOptions(**options)  # type: ignore[arg-type]


def test_predictions_and_confidences_used_here_are_those_of_the_policies() -> None:
    sums, _ = runs(11, samples=50)
    policy = ConfidencePolicy(4, GAIN)
    assert (max_softmax(policy.read(sums)) == max_softmax(read_logits(sums, GAIN))).all()
    assert (
        predicted(np.moveaxis(sums, 1, 2))[:, -1] == decide(policy, sums).predictions
    ).mean() > 0.5
