"""Temperature scaling: one number that makes probabilities fit (Guo et al., ICML 2017)."""

from __future__ import annotations

import numpy as np

from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.confidence import ConfidencePolicy, max_softmax
from neucodex_lava.exits.logits import Floats, Reading, read_logits
from neucodex_lava.exits.metrics import Labels, calibration_error

COLDEST, HOTTEST = 0.01, 100.0
HALVINGS = 40


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature of least negative log-likelihood.

    In b = 1 / temperature the likelihood is convex, with slope

        sum_n ( sum_k softmax(b y_n)_k y_nk - y_n,label )

    which is negative while b is too small: it is halved in on.

    Args:
        logits: (N, K); rows with a NaN are left out.
        labels: classes, (N,).

    Returns:
        Between 0.01 and 100. Where all answers are right no temperature is too low: then the highest
        at which the slope is 0 to the last bit.
    """
    kept = ~np.isnan(logits).any(axis=1)
    y, labels = logits[kept], labels[kept]
    own = y[np.arange(len(y)), labels]
    z = y - y.max(axis=1, keepdims=True)
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(HALVINGS):
        b = (low * high) ** 0.5
        e = np.exp(b * z)
        slope = float(((e * y).sum(axis=1) / e.sum(axis=1) - own).sum())
        low, high = (b, high) if slope < 0 else (low, b)
    return float(1 / (low * high) ** 0.5)


def temperature_of(data: CalibrationData, logits: Reading) -> float:
    """The temperature that fits the logits of all timesteps taken together."""
    y = read_logits(data.sums, data.gain, logits)
    return fit_temperature(y.reshape(-1, data.classes), np.repeat(data.labels, data.t_max))


def calibrate_temperature(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The confidence policy with alpha as asked for, and probabilities that fit.

    Reports `calibration_error` over all timesteps before and after.
    """
    temperature = temperature_of(data, options.logits)
    y = read_logits(data.sums, data.gain, options.logits)
    policy = ConfidencePolicy(
        data.t_max, data.gain, options.alpha, logits=options.logits, temperature=temperature
    )
    correct = data.right.ravel()
    return Calibration.of(
        policy,
        data,
        alpha=options.alpha,
        temperature=temperature,
        calibration_error_before=calibration_error(max_softmax(y).ravel(), correct),
        calibration_error=calibration_error(max_softmax(y / temperature).ravel(), correct),
    )
