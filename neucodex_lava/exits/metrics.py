"""How good exits are: OCT, histograms, calibration error, accuracy against mean timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.logits import Floats
from neucodex_lava.exits.policy import Exits, OfflinePolicy, Sums, decide, predicted

Labels = NDArray[np.integer[Any]]
CALIBRATION_BINS = 15


def right(sums: Sums, labels: Labels) -> NDArray[np.bool_]:
    """Whether the prediction after each timestep is right.

    Args:
        sums: S_t, (N, K, T).
        labels: classes, (N,).

    Returns:
        (N, T).
    """
    return predicted(np.moveaxis(np.asarray(sums), 1, 2)) == np.asarray(labels)[:, None]


def optimal_cutoff(sums: Sums, labels: Labels) -> NDArray[np.int64]:
    """Optimal cutoff timestep of each sample: the first t from which the prediction stays right.

    OCT of SNNCutoff (arXiv 2301.09522): its mean is the least that any policy can need that loses
    nothing. Samples that are wrong at the end count T.

    Args:
        sums: S_t, (N, K, T).
        labels: classes, (N,).

    Returns:
        (N,), from 1 to T.
    """
    correct = right(sums, labels)
    stays = np.logical_and.accumulate(correct[:, ::-1], axis=1)[:, ::-1]
    first = np.where(stays.any(axis=1), stays.argmax(axis=1), correct.shape[1] - 1)
    return first.astype(np.int64) + 1


def exit_histogram(
    exits: Exits, t_max: int, labels: Labels, classes: int
) -> tuple[list[int], list[list[int]]]:
    """Samples that stopped after 1..T_max timesteps, of all and of each class (SPARQ's figure).

    Args:
        exits: where samples stopped.
        t_max: T_max.
        labels: classes, (N,).
        classes: K.

    Returns:
        T_max counts, and K rows of T_max counts.
    """
    table = np.zeros((classes, t_max), np.int64)
    np.add.at(table, (np.asarray(labels), exits.timesteps - 1), 1)
    return exits.histogram(t_max), table.tolist()


def calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: how far confidence is from accuracy.

        ECE = sum_b (n_b / N) abs(accuracy of bin b - mean confidence of bin b)

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: (N,), in [0, 1]; NaN is left out.
        correct: (N,).
        bins: equal steps of [0, 1].

    Returns:
        In [0, 1]; 0 without samples.
    """
    kept = ~np.isnan(confidence)
    confidence, correct = confidence[kept], correct[kept]
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(which, correct - confidence, bins)
    return float(np.abs(gap).sum() / max(len(confidence), 1))


@dataclass(frozen=True)
class CurvePoint:
    """One policy on one set of samples.

    Attributes:
        parameter: the policy's, as given.
        mean_timesteps: timesteps run per sample.
        accuracy: share of right answers.
    """

    parameter: float
    mean_timesteps: float
    accuracy: float


def curve(
    policies: Iterable[tuple[float, OfflinePolicy]], sums: Sums, labels: Labels
) -> list[CurvePoint]:
    """Accuracy against mean timesteps over a family of policies.

    Args:
        policies: parameter and policy.
        sums: S_t, (N, K, T).
        labels: classes, (N,).

    Raises:
        ConfigError: no samples, or sums of another shape.
    """
    require(len(labels) > 0, "no samples to measure a policy on")
    points: list[CurvePoint] = []
    for parameter, policy in policies:
        exits = decide(policy, sums)
        accuracy = float((exits.predictions == labels).mean())
        points.append(CurvePoint(parameter, float(exits.timesteps.mean()), accuracy))
    return points
