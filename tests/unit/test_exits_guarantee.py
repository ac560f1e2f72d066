"""The guarantee: its bounds against brute force, and its promise against random splits."""

import math

import numpy as np
import pytest

from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.exits import FixedPolicy, decide
from neucodex_lava.exits.calibration import CalibrationData, CalibrationOptions, calibrate
from neucodex_lava.exits.calibration.families import Family, confidence_family
from neucodex_lava.exits.calibration.guarantee import (
    binomial_tails,
    learn_then_test,
    samples_needed,
    upper_bound,
)

GAIN = 1.0


def population(seed: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Running sums, labels, and the answers of a base network without a bottleneck."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 4
    means = 0.5 * rng.normal(size=(samples, 4))
    means[np.arange(samples), labels] += rng.exponential(2.0, samples)
    steps = means[:, :, None] + rng.normal(size=(samples, 4, 3))
    sums = steps.cumsum(axis=2)
    # The bottleneck costs about one sample in a hundred.
    base = np.where(rng.random(samples) < 0.05, labels, sums[..., -1].argmax(axis=1))
    return sums, labels, base


def true_risk(policy, sums, labels, reference) -> float:  # type: ignore[no-untyped-def]
    wrong = decide(policy, sums).predictions != labels
    return float((wrong & (reference == labels)).mean())


@pytest.mark.parametrize(("trials", "share"), [(1, 0.5), (10, 0.3), (60, 0.01), (200, 0.97)])
def test_binomial_tails_are_the_sums_of_the_terms(trials: int, share: float) -> None:
    terms = [
        math.comb(trials, i) * share**i * (1 - share) ** (trials - i) for i in range(trials + 1)
    ]
    assert binomial_tails(trials, share) == pytest.approx(np.cumsum(terms), abs=1e-12)


def test_the_samples_needed_are_the_least_that_can_show_it() -> None:
    assert samples_needed(0.01, 0.9) == 230
    for level, confidence in ((0.01, 0.9), (0.05, 0.95), (0.5, 0.75), (0.002, 0.99)):
        n = samples_needed(level, confidence)
        assert (1 - level) ** n <= 1 - confidence + 1e-12
        assert (1 - level) ** (n - 1) > 1 - confidence


def test_the_upper_bound_by_hand() -> None:
    # no loss in n: (1 - p)^n = 0.1
    assert upper_bound(0, 50, 0.9) == pytest.approx(1 - 0.1 ** (1 / 50), abs=1e-9)
    # one of two: P(at most one) = 1 - p^2 = 0.1
    assert upper_bound(1, 2, 0.9) == pytest.approx(math.sqrt(0.9), abs=1e-9)
    assert upper_bound(2, 2, 0.9) == 1.0


def test_the_policy_chosen_is_the_last_before_the_first_that_fails() -> None:
    sums, labels, base = population(0, 1500)
    options = CalibrationOptions(level=0.03)
    found = calibrate("guaranteed", sums, labels, gain=GAIN, options=options, reference=base)
    passing: list[float] = []
    for alpha, policy in confidence_family(CalibrationData(sums, labels, GAIN)).policies():
        lost = round(true_risk(policy, sums, labels, base) * len(labels))
        tail = sum(math.comb(1500, i) * 0.03**i * 0.97 ** (1500 - i) for i in range(lost + 1))
        if tail > 0.1:
            break
        passing.append(alpha)
    assert found.report["parameter"] == passing[-1]
    assert "bound" not in found.report, "after a choice among policies it would be none"
    assert found.report["reference"] == "given"
    assert found.report["mean_timesteps"] < 3


def test_a_negative_seed_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(ConfigError, match="seed -1 is negative.*0 or more"):
        CalibrationOptions(seed=-1)


def test_nothing_after_the_first_that_fails_is_taken() -> None:
    # The answers at t = 2 are wrong, those at t = 1 and t = 3 right: t = 1 comes too late in the order.
    sums = np.array([[[9, 0, 9], [0, 9, 0]]] * 300)
    labels = np.zeros(300, int)
    family = Family("fixed", (3.0, 2.0, 1.0), lambda t: FixedPolicy(3, int(t)))
    data = CalibrationData(sums, labels, GAIN)
    assert learn_then_test(family, data, 0.01, 0.9) == (3.0, FixedPolicy(3, 3), 0)
    skipping = Family("fixed", (3.0, 1.0), family.make)
    assert learn_then_test(skipping, data, 0.01, 0.9)[0] == 1.0


def test_thresholds_are_shaped_on_one_half_and_tested_on_the_other() -> None:
    sums, labels, _ = population(5, 1001)
    options = CalibrationOptions(level=0.03, family="topk")
    report = calibrate("guaranteed", sums, labels, gain=GAIN, options=options).report
    assert report["samples"] == 501
    assert 0.001 < report["lost"] / 501 <= 0.03


@pytest.mark.parametrize(("family", "through_bottleneck"), [("confidence", True), ("topk", False)])
def test_the_promise_is_kept_in_random_splits(family: str, through_bottleneck: bool) -> None:
    # Calibration samples are drawn from 5,000 with replacement, so the risk itself is known exactly. Of
    # 100 calibrations at 90 % confidence 90 or more keep the level on average; fewer than 82 would come
    # up once in 200 times if each kept it with 90 %.
    sums, labels, base = population(1, 5000)
    reference = base if through_bottleneck else sums[..., -1].argmax(axis=1)
    options = CalibrationOptions(level=0.04, confidence=0.9, family=family)  # type: ignore[arg-type]
    rng = np.random.default_rng(2)
    kept, used = 0, []
    for _ in range(100):
        rows = rng.integers(0, len(labels), 600)
        given = reference[rows] if through_bottleneck else None
        found = calibrate(
            "guaranteed", sums[rows], labels[rows], gain=GAIN, options=options, reference=given
        )
        kept += true_risk(found.policy, sums, labels, reference) <= 0.04
        used.append(found.report["mean_timesteps"])
    assert kept >= 82
    assert np.mean(used) < 2.7


def test_too_few_samples_are_refused_with_the_number_needed() -> None:
    sums, labels, _ = population(3, 200)
    with pytest.raises(DataError, match="at least 230 calibration samples, found 200") as caught:
        calibrate("guaranteed", sums, labels, gain=GAIN)
    level = float(caught.value.hint.split()[-1])
    assert samples_needed(level, 0.9) <= 200 < samples_needed(level - 0.001, 0.9)
    halves = CalibrationOptions(family="topk", level=0.02)
    with pytest.raises(DataError, match="at least 228 calibration samples, found 200"):
        calibrate("guaranteed", sums, labels, gain=GAIN, options=halves)


def test_where_no_early_exit_is_safe_enough_it_never_exits_early() -> None:
    # At t = 1 every answer is wrong and certain, at t = 2 every answer is right.
    labels = np.arange(300) % 2
    right = np.eye(2)[labels]
    sums = np.stack([1000 * (1 - right), 2000 * right], axis=2)
    found = calibrate("guaranteed", sums, labels, gain=GAIN)
    assert found.policy == FixedPolicy(2)
    assert (found.report["lost"], found.report["mean_timesteps"]) == (0, 2)


def test_a_bottleneck_that_alone_costs_too_much_is_refused() -> None:
    sums, labels, _ = population(4, 2000)
    with pytest.raises(DataError, match="without early exits .* the bottleneck alone"):
        calibrate("guaranteed", sums, labels, gain=GAIN, reference=labels)
