"""Calibration: a policy's numbers from held-out data. A new kind is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.calibration.agent import calibrate_qlearning
from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.calibration.for_drop import (
    calibrate_confidence,
    calibrate_entropy,
    calibrate_patience,
)
from neucodex_lava.exits.calibration.guarantee import calibrate_guaranteed
from neucodex_lava.exits.calibration.place import calibrate_place, place_model
from neucodex_lava.exits.calibration.place_costs import Link, Prices
from neucodex_lava.exits.calibration.place_tables import PlaceModel
from neucodex_lava.exits.calibration.temperature import calibrate_temperature
from neucodex_lava.exits.calibration.topk import calibrate_topk
from neucodex_lava.exits.calibration.topk_snncutoff import calibrate_topk_snncutoff
from neucodex_lava.exits.metrics import Labels
from neucodex_lava.exits.policy import Sums

Kind = Callable[[CalibrationData, CalibrationOptions], Calibration]

KINDS: Mapping[str, Kind] = {
    "confidence": calibrate_confidence,
    "temperature": calibrate_temperature,
    "entropy": calibrate_entropy,
    "topk": calibrate_topk,
    "topk-snncutoff": calibrate_topk_snncutoff,
    "patience": calibrate_patience,
    "guaranteed": calibrate_guaranteed,
    "qlearning": calibrate_qlearning,
}


def calibrate(
    kind: str,
    sums: Sums,
    labels: Labels,
    *,
    gain: float,
    options: CalibrationOptions | None = None,
    class_names: tuple[str, ...] = (),
    reference: Labels | None = None,
    syn_ops: NDArray[Any] | None = None,
) -> Calibration:
    """A policy from whole runs on samples that are neither trained nor tested on.

    Args:
        kind: one of `KINDS`.
        sums: S_t, (N, K, T_max); of a cascade, the logits of its exit heads in order, and gain 1.
        labels: classes, (N,), each of the K at least once.
        gain: the readout's gain.
        options: what the policy has to keep to.
        class_names: for messages.
        reference: answers to be kept, (N,); see `CalibrationData`.
        syn_ops: SynOps up to each timestep or exit, (N, T_max) or (T_max,).

    Raises:
        ConfigError: an unknown kind, numbers out of range, arrays that do not fit together.
        DataError: too few samples, or a class without any.
    """
    require(kind in KINDS, f"unknown calibration '{kind}'", f"choose one of {', '.join(KINDS)}")
    data = CalibrationData(sums, labels, gain, class_names, reference, syn_ops)
    data.require_all_classes()
    return KINDS[kind](data, options or CalibrationOptions())


__all__ = [
    "KINDS",
    "Calibration",
    "CalibrationData",
    "CalibrationOptions",
    "Link",
    "PlaceModel",
    "Prices",
    "calibrate",
    "calibrate_place",
    "place_model",
]
