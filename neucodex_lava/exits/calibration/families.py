"""Families of policies with one parameter each, the safest first: what calibration chooses from.

Parameters are fixed beforehand, not taken from data: a guarantee needs that, and curves of different
networks can be laid over each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from neucodex_lava.exits.calibration.data import CalibrationData
from neucodex_lava.exits.confidence import ConfidencePolicy
from neucodex_lava.exits.entropy import EntropyPolicy
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.logits import Reading
from neucodex_lava.exits.metrics import CurvePoint, curve
from neucodex_lava.exits.patience import PatiencePolicy
from neucodex_lava.exits.policy import ExitPolicy

STEPS = 140
SUREST = 14.0
"""Log-odds of the highest confidence asked for: about one in a million is wrong."""


@dataclass(frozen=True)
class Family:
    """Policies that differ in one number.

    Attributes:
        name: the policy's.
        parameters: from the safest policy, which exits latest, to the one that always exits at once.
        make: the policy of a parameter.
    """

    name: str
    parameters: tuple[float, ...]
    make: Callable[[float], ExitPolicy]

    def policies(self) -> Iterator[tuple[float, ExitPolicy]]:
        """All of them, with their parameters."""
        return ((parameter, self.make(parameter)) for parameter in self.parameters)


def confidence_family(
    data: CalibrationData, logits: Reading = "mean", temperature: float = 1.0, steps: int = STEPS
) -> Family:
    """Alphas in even steps of log-odds, down to 1 / K."""
    lowest = -np.log(max(data.classes - 1, 1))
    alphas = 1 / (1 + np.exp(-np.linspace(SUREST, lowest, steps)))
    return Family(
        "confidence",
        (1.0, *alphas.tolist()),
        lambda alpha: ConfidencePolicy(
            data.t_max, data.gain, alpha, logits=logits, temperature=temperature
        ),
    )


def entropy_family(
    data: CalibrationData, logits: Reading = "mean", temperature: float = 1.0, steps: int = STEPS
) -> Family:
    """Thresholds in even steps of their logarithm, up to 1."""
    return Family(
        "entropy",
        (0.0, *np.geomspace(1e-5, 1, steps).tolist()),
        lambda threshold: EntropyPolicy(
            data.t_max, data.gain, threshold, logits=logits, temperature=temperature
        ),
    )


def patience_family(data: CalibrationData) -> Family:
    """Patience from T_max, which never stops early, to 1."""
    return Family(
        "patience",
        tuple(float(k) for k in range(data.t_max, 0, -1)),
        lambda k: PatiencePolicy(data.t_max, int(k)),
    )


def fixed_family(data: CalibrationData) -> Family:
    """From T_max to 1 timestep."""
    return Family(
        "fixed",
        tuple(float(t) for t in range(data.t_max, 0, -1)),
        lambda t: FixedPolicy(data.t_max, int(t)),
    )


def cheapest(family: Family, data: CalibrationData, drop: float) -> CurvePoint:
    """The policy of least mean timesteps among those that lose no more accuracy than allowed.

    Args:
        family: whose first policy loses nothing worth speaking of.
        data: calibration data.
        drop: accuracy that may be lost against T_max, as a share.

    Returns:
        Its parameter, mean timesteps and accuracy; the first policy's where none keeps the drop.
    """
    points = curve(family.policies(), data.sums, data.labels)
    least = float(data.right[:, -1].mean()) - drop
    kept = [p for p in points if p.accuracy >= least - 1e-12] or points[:1]
    return min(kept, key=lambda p: p.mean_timesteps)
