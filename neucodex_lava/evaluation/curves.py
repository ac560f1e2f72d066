"""Accuracy against mean timesteps as one number of an exit policy is moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.exits.calibration.data import CalibrationData
from neucodex_lava.exits.calibration.families import (
    confidence_family,
    entropy_family,
    fixed_family,
    patience_family,
)
from neucodex_lava.exits.confidence import ConfidencePolicy
from neucodex_lava.exits.entropy import EntropyPolicy
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.metrics import curve
from neucodex_lava.exits.patience import PatiencePolicy
from neucodex_lava.exits.policy import OfflinePolicy
from neucodex_lava.exits.topk import TopKPolicy
from neucodex_lava.report.results import Curve

POINTS = 25


def policy_curve(
    split: str | None,
    name: str,
    policy: OfflinePolicy,
    sums: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> Curve | None:
    """The curve of a policy on one network; None for a policy without a number to move.

    Confidence: alpha; entropy: its threshold; patience and fixed: every count of timesteps; all from
    the families that calibration chooses from. Top-K: all thresholds times one factor.

    Args:
        split: of the split bundle; None for the base.
        name: of the policy, as asked for.
        policy: where the curve starts from.
        sums: S_t of whole runs, (N, K, T_max).
        labels: classes, (N,).
    """
    points = curve(_settings(policy, sums, labels), sums, labels)
    if len(points) < 2:
        return None
    ends = sorted({(p.mean_timesteps, p.accuracy) for p in points})
    return Curve(split, name, [t for t, _ in ends], [accuracy for _, accuracy in ends])


def _settings(
    policy: OfflinePolicy, sums: NDArray[np.int64], labels: NDArray[np.int64]
) -> Iterator[tuple[float, OfflinePolicy]]:
    if isinstance(policy, TopKPolicy):
        for factor in [0.0, *np.geomspace(0.1, 10, POINTS).tolist()]:
            moved = tuple(None if beta is None else beta * factor for beta in policy.thresholds)
            yield factor, replace(policy, thresholds=moved)
    elif isinstance(policy, ConfidencePolicy):
        data = CalibrationData(sums, labels, policy.gain)
        yield from confidence_family(data, policy.logits, policy.temperature, POINTS).policies()
    elif isinstance(policy, EntropyPolicy):
        data = CalibrationData(sums, labels, policy.gain)
        yield from entropy_family(data, policy.logits, policy.temperature, POINTS).policies()
    elif isinstance(policy, PatiencePolicy):
        yield from patience_family(CalibrationData(sums, labels, gain=1.0)).policies()
    elif isinstance(policy, FixedPolicy):
        yield from fixed_family(CalibrationData(sums, labels, gain=1.0)).policies()
