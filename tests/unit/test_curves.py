"""Curves move each policy's number from never early to at once, over calibration's own families."""

import numpy as np
import pytest
from numpy.typing import NDArray

from neucodex_lava.evaluation.curves import policy_curve
from neucodex_lava.exits import (
    ConfidencePolicy,
    EntropyPolicy,
    FixedPolicy,
    OraclePolicy,
    PatiencePolicy,
    TopKPolicy,
    decide,
)
from neucodex_lava.exits.policy import OfflinePolicy

GAIN, T_MAX, CLASSES = 64.0, 4, 100


def runs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearly even sums of many classes: no confidence comes near a tenth."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 50)
    steps = rng.integers(0, 30, (50, CLASSES, T_MAX))
    steps[np.arange(50), labels] += 10
    return steps.cumsum(axis=2), labels


@pytest.mark.parametrize(
    ("policy", "soonest"),
    [
        (ConfidencePolicy(T_MAX, GAIN), 1),
        (EntropyPolicy(T_MAX, GAIN), 1),
        (FixedPolicy(T_MAX), 1),
        # Two equal sums in front are never a gap; patience waits until an answer came twice.
        (TopKPolicy(T_MAX, GAIN, (0.2,) * T_MAX), 2),
        (PatiencePolicy(T_MAX), 3.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_curve_runs_from_at_once_to_t_max(policy: OfflinePolicy, soonest: float) -> None:
    sums, labels = runs()
    found = policy_curve("SP1", "name", policy, sums, labels)
    assert found is not None
    assert found.timesteps == sorted(found.timesteps)
    assert 1 <= found.timesteps[0] <= soonest
    assert found.timesteps[-1] == T_MAX
    assert found.accuracy[-1] == (sums[..., -1].argmax(axis=1) == labels).mean()


def test_a_curve_keeps_its_policys_reading_and_temperature() -> None:
    sums, labels = runs()
    plain, cooled = (
        policy_curve(None, "c", policy, sums, labels)
        for policy in (
            ConfidencePolicy(T_MAX, GAIN),
            ConfidencePolicy(T_MAX, GAIN, logits="sum", temperature=0.5),
        )
    )
    assert plain is not None
    assert cooled is not None
    assert plain.timesteps != cooled.timesteps


def test_an_oracle_has_no_number_to_move() -> None:
    sums, labels = runs()
    oracle = OraclePolicy(T_MAX, labels)
    assert decide(oracle, sums).timesteps.max() <= T_MAX
    assert policy_curve(None, "oracle", oracle, sums, labels) is None
