"""Exits with a guarantee that holds for any distribution of samples (Learn then Test).

A sample is lost where the reference is right and the answer given is not. With the reference at T_max
the answers of the network itself, that is what early exit costs; with those of the base network it is
what the bottleneck and early exit cost together. Of policies in a fixed order, the safest first, each
is tested:

    P( Binomial(n, level) <= lost on calibration data ) <= 1 - confidence

and the last before the first that fails is taken. Then, over the draw of the calibration data,

    P( share of samples lost <= level ) >= confidence

as long as calibration samples and later ones are exchangeable. Angelopoulos et al., "Learn then Test:
Calibrating Predictive Algorithms to Achieve Risk Control", arXiv 2110.01052, section 2 with the
binomial p-value and fixed sequence testing; Bates et al., "Distribution-Free, Risk-Controlling
Prediction Sets", J. ACM 68, 2021.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import DataError
from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.calibration.families import Family, confidence_family
from neucodex_lava.exits.calibration.topk import topk_family
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.policy import ExitPolicy, decide, predicted


def binomial_tails(trials: int, share: float) -> NDArray[np.float64]:
    """P( Binomial(trials, share) <= k ) for k = 0..trials.

    Args:
        trials: n, at least 1.
        share: in (0, 1).
    """
    i = np.arange(1, trials + 1)
    odds = math.log(share) - math.log1p(-share)
    steps = np.log(trials - i + 1) - np.log(i) + odds
    log_mass = trials * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)])
    return np.minimum(np.cumsum(np.exp(log_mass)), 1.0)


def samples_needed(level: float, confidence: float) -> int:
    """Least samples with which a guarantee can be given at all: (1 - level)^n <= 1 - confidence."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-level) - 1e-9)


def upper_bound(lost: int, samples: int, confidence: float) -> float:
    """Exact upper bound of a share (Clopper and Pearson, Biometrika 26, 1934), one-sided.

    Args:
        lost: of the samples, 0..samples.
        samples: at least 1.
        confidence: that the share is below the bound.
    """
    if lost >= samples:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        below = binomial_tails(samples, middle)[lost] <= 1 - confidence
        low, high = (low, middle) if below else (middle, high)
    return high


def losses(policy: ExitPolicy, data: CalibrationData, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which samples are lost: the reference is right (`kept`, (N,)), the answer is not. (N,)."""
    return kept & (decide(policy, data.sums).predictions != data.labels)


def reference_right(data: CalibrationData) -> NDArray[np.bool_]:
    """Which samples the reference gets right, (N,)."""
    reference = predicted(data.sums[..., -1]) if data.reference is None else data.reference
    return reference == data.labels


def learn_then_test(
    family: Family, data: CalibrationData, level: float, confidence: float
) -> tuple[float | None, ExitPolicy, int]:
    """The cheapest policy of a family whose losses are shown to stay within the level.

    Args:
        family: fixed beforehand, the safest policy first.
        data: on which the family was not chosen.
        level: share of samples that may be lost.
        confidence: how sure that must be.

    Returns:
        Its parameter, the policy, and how many of the samples it lost. Where T_max keeps the level but
        none of the family does: no parameter, and the policy that always runs to T_max.

    Raises:
        DataError: too few samples (says how many it needs), or too many are lost even without early
            exits.
    """
    require_samples(len(data), level, confidence)
    tails, kept, found = binomial_tails(len(data), level), reference_right(data), len(data)
    lost = int((kept & ~data.right[:, -1]).sum())
    if tails[lost] > 1 - confidence:
        raise DataError(
            f"even without early exits {lost} of {found} samples that the reference gets right are"
            f" lost: the bottleneck alone may cost {100 * upper_bound(lost, found, confidence):.2f} %,"
            f" the level is {100 * level:g} %",
            "allow a higher level, or compare with the network's own answers at T_max",
        )
    chosen: tuple[float | None, ExitPolicy, int] = None, FixedPolicy(data.t_max), lost
    for parameter, policy in family.policies():
        lost = int(losses(policy, data, kept).sum())
        if tails[lost] > 1 - confidence:
            break
        chosen = parameter, policy, lost
    return chosen


def require_samples(found: int, level: float, confidence: float, parts: int = 1) -> None:
    """Refuse too few samples.

    Args:
        found: samples there are.
        level, confidence: of the guarantee.
        parts: into so many equal parts they will be split, one of which is tested on.

    Raises:
        DataError: says how many it needs.
    """
    needed = parts * samples_needed(level, confidence)
    if found < needed:
        reachable = 1 - (1 - confidence) ** (parts / max(found, parts))
        raise DataError(
            f"at most {100 * level:g} % extra error with {100 * confidence:g} % confidence needs at"
            f" least {needed} calibration samples, found {found}",
            f"calibrate on more samples, or allow a level of {reachable + 5e-4:.3f}",
        )


def calibrate_guaranteed(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The cheapest policy of the family asked for that keeps the promise.

    The confidence family is there beforehand. The Top-K family takes its shape from a seeded half of
    the data, and the promise is tested on the other half.

    Raises:
        DataError: as `learn_then_test`.
    """
    if options.family == "topk":
        order = np.random.default_rng(options.seed).permutation(len(data))
        require_samples(len(data), options.level, options.confidence, parts=2)
        tested = data.rows(order[len(data) // 2 :])
        family = topk_family(data.rows(order[: len(data) // 2]), options.logits)
    else:
        family, tested = confidence_family(data, options.logits), data
    parameter, policy, lost = learn_then_test(family, tested, options.level, options.confidence)
    return Calibration.of(
        policy,
        tested,
        family=family.name,
        parameter=parameter,
        level=options.level,
        confidence=options.confidence,
        lost=lost,
        samples_needed=samples_needed(options.level, options.confidence),
        reference="own answers at T_max" if data.reference is None else "given",
    )
