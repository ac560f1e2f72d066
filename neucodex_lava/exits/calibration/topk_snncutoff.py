"""Top-K thresholds exactly as SNNCutoff's code chooses them."""

from __future__ import annotations

import numpy as np

from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.logits import read_logits
from neucodex_lava.exits.topk import TopKPolicy, top_gap

BINS = 100


def snncutoff_thresholds(data: CalibrationData, epsilon: float) -> tuple[float, ...]:
    """beta_1 ... beta_T by SNNCutoff's algorithm.

    With Y(t) the summed outputs, ok[t] = right at t and at every later timestep, and the candidates
    beta_m = m / 100 of the largest gap of all samples and timesteps, m = 0..99:

        conf[m, t] = share of ok[t] among the samples whose gap at t exceeds beta_m
        beta_t = the smallest beta_m with conf[m, t] >= 1 - epsilon, or beta_99

    Wu et al., arXiv 2301.09522; ``snncutoff/cutoff/topk_cutoff.py`` in github.com/Dengyu-Wu/snncutoff.
    It calibrates on the training set with a dropout of 0.3 active; here the caller gives the data.
    """
    gap = top_gap(read_logits(data.sums, data.gain, "sum"))
    ok = np.logical_and.accumulate(data.right[:, ::-1], axis=1)[:, ::-1]
    betas = np.arange(BINS) * (float(np.nanmax(gap)) / BINS)
    exceeds = gap > betas[:, None, None]
    support = exceeds.sum(axis=1)
    with np.errstate(invalid="ignore"):
        kept = (exceeds & ok).sum(axis=1) / support >= 1 - epsilon
    kept[-1] = True
    return tuple(betas[kept.argmax(axis=0)].tolist())


def calibrate_topk_snncutoff(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The Top-K policy over the sum, with `snncutoff_thresholds`."""
    thresholds = snncutoff_thresholds(data, options.epsilon)
    policy = TopKPolicy(data.t_max, data.gain, thresholds, logits="sum")
    return Calibration.of(policy, data, epsilon=options.epsilon)
