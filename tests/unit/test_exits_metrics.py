"""OCT, histograms, calibration error and curves, against values worked out by hand."""

import numpy as np
import pytest

from neucodex_lava.errors import ConfigError
from neucodex_lava.exits import (
    CurvePoint,
    FixedPolicy,
    calibration_error,
    curve,
    decide,
    exit_histogram,
    optimal_cutoff,
    right,
)


def sums_of(predictions: list[list[int]], classes: int = 3) -> np.ndarray:
    """Sums (N, K, T) whose largest class at each timestep is as given."""
    return np.eye(classes)[np.array(predictions)].transpose(0, 2, 1)


def test_oct_is_the_first_timestep_from_which_the_prediction_stays_right() -> None:
    predictions = [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [1] * 4]
    sums, labels = sums_of(predictions), np.zeros(6, int)
    assert optimal_cutoff(sums, labels).tolist() == [1, 2, 3, 4, 4, 4]
    assert right(sums, labels)[3].tolist() == [True, False, False, True]


def test_oct_with_a_nan_takes_the_largest_number() -> None:
    sums = np.array([[[np.nan, 1.0], [2.0, 5.0]]])
    assert optimal_cutoff(sums, np.array([1])).tolist() == [1]


def test_histogram_of_all_and_of_each_class() -> None:
    exits = decide(FixedPolicy(3, 2), sums_of([[0, 0, 0], [1, 1, 1], [1, 1, 1]]))
    exits.timesteps[0] = 1
    whole, per_class = exit_histogram(exits, 3, np.array([0, 1, 0]), classes=3)
    assert whole == [1, 2, 0]
    assert per_class == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_calibration_error_by_hand() -> None:
    # bin [0.8, 1]: confidence 0.9, 0.9, accuracy 1/2; bin [0.2, 0.4): 0.3, right
    confidence = np.array([0.9, 0.9, 0.3, np.nan])
    correct = np.array([True, False, True, True])
    expected = 2 / 3 * 0.4 + 1 / 3 * 0.7
    assert calibration_error(confidence, correct, bins=5) == pytest.approx(expected)
    assert calibration_error(np.array([1.0]), np.array([True]), bins=5) == 0
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0


def test_a_curve_over_a_family() -> None:
    sums, labels = sums_of([[1, 0], [0, 0]]), np.zeros(2, int)
    family = ((float(t), FixedPolicy(2, t)) for t in (2, 1))
    assert curve(family, sums, labels) == [CurvePoint(2.0, 2.0, 1.0), CurvePoint(1.0, 1.0, 0.5)]
    with pytest.raises(ConfigError, match="no samples"):
        curve([], sums[:0], labels[:0])
