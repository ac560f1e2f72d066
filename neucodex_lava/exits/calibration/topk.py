"""Our Top-K thresholds: at every timestep the gap beyond which the answer is equally sure to stay.

How likely an answer is still to change depends on its lead, on a scale of its own at each timestep:

    P( prediction at T_max differs from that at t | gap u ) = sigmoid(a_t + b_t u / scale_t)
    beta_t = the gap at which this risk is z (as log-odds), the same z at all t

scale_t is the standard deviation of the gap at t. Each logistic regression is drawn towards the one of
all timesteps together, so that few changes at one timestep do not decide alone; targets are smoothed
as in Platt scaling (Lin et al., Machine Learning 68, 2007). beta_t / scale_t never rises with t, and a
timestep whose threshold hardly a sample exceeds is not exited at. One number, z, is then chosen for the
accuracy drop. SNNCutoff's own thresholds (`topk_snncutoff`) stand on the largest gap of all timesteps
and on single samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.calibration.families import Family
from neucodex_lava.exits.logits import Floats, Reading, read_logits
from neucodex_lava.exits.policy import decide, predicted
from neucodex_lava.exits.topk import TopKPolicy, top_gap

SAFEST, BOLDEST, STEPS = -14.0, 4.0, 145
"""Log-odds of the risk: from one in a million to nearly certain."""
SUPPORT, SUPPORT_SHARE = 20, 0.05
"""Calibration samples that must exceed a threshold, or the timestep is not exited at: so many, or this
share of few."""
DRAWN = 3.0
"""How strongly one timestep's regression is drawn towards the common one."""
FREE = 1e-3
"""The same for the common one, towards no slope: only so that it exists."""
NEWTON_STEPS = 50
LONGEST_STEP = 3.0


def fit_logistic(x: Floats, happened: NDArray[np.bool_], prior: Floats, strength: float) -> Floats:
    """Logistic regression on one feature, by Newton's method.

    Minimises the negative log-likelihood of smoothed targets plus strength / 2 times the
    squared distance to the prior.

    Args:
        x: (N,).
        happened: (N,).
        prior: intercept and slope to be drawn towards.
        strength: how strongly, above 0.

    Returns:
        Intercept and slope, (2,).
    """
    yes = int(happened.sum())
    target = np.where(happened, (yes + 1) / (yes + 2), 1 / (len(x) - yes + 2))
    features = np.stack([np.ones_like(x), x], axis=1)
    w = prior.copy()
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(features @ w)
        slope = features.T @ (p - target) + strength * (w - prior)
        curvature = (features * (p * (1 - p))[:, None]).T @ features + strength * np.eye(2)
        move = np.linalg.solve(curvature, slope)
        longest = float(np.abs(move).max())
        w = w - move * min(1.0, LONGEST_STEP / max(longest, 1e-12))
        if longest < 1e-9:
            break
    return w


def _sigmoid(z: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(z, -50, 50)))


@dataclass(frozen=True, eq=False)
class GapRisk:
    """How likely something is, given the gap, before each timestep's exit.

    Attributes:
        scale: standard deviation of the gap, (T - 1,).
        intercept, slope: of the log-odds in u / scale, (T - 1,); slopes are negative.
    """

    scale: Floats
    intercept: Floats
    slope: Floats

    @staticmethod
    def of(gap: Floats, happened: NDArray[np.bool_]) -> GapRisk:
        """Fitted to whole runs; timesteps whose gap is no number are left out.

        Args:
            gap: (N, T).
            happened: (N, T); the last timestep is not used.
        """
        gap, happened = gap[:, :-1], happened[:, :-1]
        kept = np.isfinite(gap)
        scale = np.array([np.std(u[k]) if k.any() else 1.0 for u, k in zip(gap.T, kept.T)])
        scale = np.maximum(scale, 1e-12)
        x = gap / scale
        common = fit_logistic(x[kept], happened[kept], np.zeros(2), FREE)
        fitted = np.array(
            [fit_logistic(x[k, t], happened[k, t], common, DRAWN) for t, k in enumerate(kept.T)]
        ).reshape(-1, 2)
        return GapRisk(scale, fitted[:, 0], np.minimum(fitted[:, 1], -1e-6))

    def at(self, gap: Floats) -> Floats:
        """The risk of each sample at each timestep, (N, T); 0 at the last, and for a NaN."""
        x = np.nan_to_num(gap[:, :-1] / self.scale, nan=np.inf, posinf=np.inf)
        risk = np.zeros_like(gap)
        risk[:, :-1] = _sigmoid(self.intercept + self.slope * np.minimum(x, 1e9))
        return risk

    def thresholds(self, log_odds: float) -> Floats:
        """Gaps at which the risk is as given, never rising with t on their own scale, (T - 1,)."""
        relative = (log_odds - self.intercept) / self.slope
        return np.maximum.accumulate(relative[::-1])[::-1] * self.scale


def topk_family(data: CalibrationData, logits: Reading = "mean") -> Family:
    """Top-K policies of equal risk, from one in a million on; shaped by the data, not by its labels."""
    gap = top_gap(read_logits(data.sums, data.gain, logits))
    answers = predicted(np.moveaxis(np.asarray(data.sums), 1, 2))
    risk = GapRisk.of(gap, answers != answers[:, -1:])

    least = min(SUPPORT, max(1, SUPPORT_SHARE * len(data)))

    def make(log_odds: float) -> TopKPolicy:
        betas = risk.thresholds(log_odds)
        supported = (gap[:, :-1] > betas).sum(axis=0) >= least
        row = [float(b) if ok else None for b, ok in zip(betas, supported)]
        return TopKPolicy(data.t_max, data.gain, (*row, None), logits=logits)

    return Family("topk", tuple(np.linspace(SAFEST, BOLDEST, STEPS).tolist()), make)


def calibrate_topk(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The Top-K policy of equal risk with the least mean timesteps that keeps the drop twice over.

    Once by counting on the calibration data, and once as modelled: with the risks that an answer right
    at T_max is still wrong, and the other way round, each as a regression on the gap. The model has
    less chance in it than the handful of samples that a tenth of a point is.
    """
    gap = top_gap(read_logits(data.sums, data.gain, options.logits))
    last = data.right[:, -1:]
    cost = GapRisk.of(gap, last & ~data.right).at(gap) - GapRisk.of(gap, ~last & data.right).at(gap)
    rows, least = np.arange(len(data)), float(last.mean()) - options.drop - 1e-12
    family = topk_family(data, options.logits)
    chosen, modelled, timesteps = family.parameters[0], 0.0, np.inf
    for parameter, policy in family.policies():
        exits = decide(policy, data.sums)
        at = exits.timesteps - 1
        loss, mean = float(cost[rows, at].mean()), float(exits.timesteps.mean())
        if loss <= options.drop and data.right[rows, at].mean() >= least and mean < timesteps:
            chosen, modelled, timesteps = parameter, loss, mean
    return Calibration.of(
        family.make(chosen),
        data,
        parameter=chosen,
        allowed_drop=options.drop,
        modelled_drop=modelled,
    )
