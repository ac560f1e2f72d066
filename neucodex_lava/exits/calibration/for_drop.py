"""The cheapest policy of a family that loses no more accuracy than allowed."""

from __future__ import annotations

from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.calibration.families import (
    Family,
    cheapest,
    confidence_family,
    entropy_family,
    patience_family,
)


def calibrate_family(family: Family, data: CalibrationData, drop: float) -> Calibration:
    """The policy of least mean timesteps whose accuracy on the data is at most `drop` below T_max's."""
    point = cheapest(family, data, drop)
    policy = family.make(point.parameter)
    return Calibration.of(policy, data, parameter=point.parameter, allowed_drop=drop)


def calibrate_confidence(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """Alpha of the confidence policy for an accuracy drop."""
    return calibrate_family(confidence_family(data, options.logits), data, options.drop)


def calibrate_entropy(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The threshold of the entropy policy for an accuracy drop."""
    return calibrate_family(entropy_family(data, options.logits), data, options.drop)


def calibrate_patience(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """Patience for an accuracy drop."""
    return calibrate_family(patience_family(data), data, options.drop)
