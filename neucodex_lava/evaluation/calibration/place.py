"""What a bundle has to know to choose between an exit head and the cloud, from held-out samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from energy import DeviceModel, Ledger, device, price
from neucodex_lava.bundle import Bundle
from neucodex_lava.config import to_dict
from neucodex_lava.evaluation.calibration.results import Calibrated, Check
from neucodex_lava.evaluation.place.placement import LinkPrices, Site, sites
from neucodex_lava.exits.calibration.data import CalibrationData
from neucodex_lava.exits.calibration.place import calibrate_place, place_model
from neucodex_lava.exits.metrics import optimal_cutoff
from neucodex_lava.exits.place import decide_place
from neucodex_lava.exits.policy import predicted

if TYPE_CHECKING:
    from neucodex_lava.cloud.twin import TwinResult

Labels = NDArray[np.int64]
KIND = "place"


def calibrated_places(
    bundle: Bundle,
    own: tuple[TwinResult, Labels],
    check: tuple[TwinResult, Labels],
    class_names: tuple[str, ...] = (),
) -> list[Calibrated]:
    """What the manifest keeps for every cut that has an exit head before it.

    The model holds whatever the link costs; how it does is told for `LinkPrices` as they are by
    default, and for edge energy by the default device model.

    Args:
        bundle: base or split.
        own: whole runs on the calibration samples, counted, and their classes.
        check: the same on samples to check on.
        class_names: for messages.

    Raises:
        DataError: a class without calibration samples.
    """
    return [_calibrated(site, own, check, class_names) for site in sites(bundle)]


def _calibrated(
    site: Site,
    own: tuple[TwinResult, Labels],
    check: tuple[TwinResult, Labels],
    class_names: tuple[str, ...],
) -> Calibrated:
    (result, labels), (other, other_labels) = own, check
    energy_model, costs = device(), LinkPrices()
    local, cloud = site.sums(result)
    local_gain, cloud_gain = site.gains
    model = place_model(
        CalibrationData(local, labels, local_gain, class_names),
        CalibrationData(cloud, labels, cloud_gain, class_names),
        step_j=energy_of_steps(site.edge(result.ledger), energy_model),
        code_bits=int(np.prod(site.net.code_shape)) * site.net.code_bits,
    )
    policy, report = calibrate_place(
        model, local, cloud, labels, link=costs.link, prices=costs.prices
    )
    whole = float((predicted(cloud[..., -1]) == labels).mean())
    entry = {
        "policy": {"name": KIND, "model": to_dict(model)},
        "calibration": {
            "kind": KIND,
            "energy_model": energy_model.name,
            "accuracy_t_max": whole,
            "drop": whole - report["accuracy"],
            **report,
        },
    }
    sums = site.sums(other)
    placed = decide_place(policy, *sums)
    right = placed.predictions == other_labels
    kept = predicted(sums[1][..., -1]) == other_labels
    found = Check(
        samples=len(other_labels),
        accuracy_t_max=float(kept.mean()),
        accuracy=float(right.mean()),
        mean_timesteps=float(placed.timesteps.mean()),
        oct=float(optimal_cutoff(sums[1], other_labels).mean()),
        lost=float((kept & ~right).mean()),
    )
    return Calibrated(KIND, site.name, entry, found)


def energy_of_steps(ledger: Ledger, model: DeviceModel) -> NDArray[np.float64]:
    """Joules of each sample's timesteps, (N, T), modelled."""
    until = (np.full(ledger.samples, t) for t in range(ledger.timesteps + 1))
    total = [price(ledger.until(t), model).per_sample_j for t in until]
    return np.diff(np.stack(total, axis=1), axis=1)
