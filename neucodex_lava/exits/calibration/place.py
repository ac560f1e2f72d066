"""What calibration data say of a local head and a cloud readout: a `PlaceModel`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.calibration.data import CalibrationData
from neucodex_lava.exits.calibration.place_costs import Link, Prices
from neucodex_lava.exits.calibration.place_record import BINS_LIMIT, Record
from neucodex_lava.exits.calibration.place_tables import PlaceModel
from neucodex_lava.exits.confidence import max_softmax
from neucodex_lava.exits.logits import Floats, read_logits
from neucodex_lava.exits.metrics import Labels
from neucodex_lava.exits.place import Placed, PlacePolicy, Row, binned, decide_place
from neucodex_lava.exits.policy import Action, Sums

__all__ = ["Link", "PlaceModel", "Prices", "calibrate_place", "place_model"]

BINS = 8
PSEUDO = 1.0
"""Pseudo-samples that draw a bin's shares towards those of all bins."""


def place_model(
    local: CalibrationData,
    cloud: CalibrationData,
    *,
    step_j: float | NDArray[Any],
    code_bits: int,
    bins: int = BINS,
) -> PlaceModel:
    """What two readouts' calibration data say.

    Args:
        local, cloud: of the same samples.
        step_j: joules of an edge timestep: one number, (T,) or (N, T).
        code_bits: bits of one timestep's code.
        bins: of confidence, each with about as many samples, at most 8.

    Raises:
        ConfigError: data of different shapes.
        DataError: a class without samples.
    """
    require(
        local.sums.shape == cloud.sums.shape,
        f"local sums have shape {local.sums.shape}, the cloud's {cloud.sums.shape}",
    )
    require(1 <= bins <= BINS_LIMIT, f"{bins} bins, outside 1 to {BINS_LIMIT}")
    require(code_bits >= 0, f"{code_bits} bits of a code: too few")
    local.require_all_classes()
    t_max, n = local.t_max, len(local)
    local_c = np.nan_to_num(max_softmax(read_logits(local.sums, local.gain)))
    cloud_c = np.nan_to_num(max_softmax(read_logits(cloud.sums, cloud.gain)))
    local_edges, cloud_edges = _edges(local_c, bins), _edges(cloud_c, bins)
    b, c = binned(local_c, local_edges), binned(cloud_c, cloud_edges)
    one = np.eye(bins)
    spent = np.broadcast_to(np.asarray(step_j, np.float64), (n, t_max)).mean(axis=0)
    before, after = range(t_max - 1), range(1, t_max)
    return PlaceModel(
        t_max=t_max,
        local_gain=local.gain,
        cloud_gain=cloud.gain,
        local_edges=local_edges,
        cloud_edges=cloud_edges,
        local_right=tuple(
            _row(_shares(b[:, t], local.right[:, t, None], bins)) for t in range(t_max)
        ),
        cloud_right=tuple(
            _row(_shares(c[:, t], cloud.right[:, t, None], bins)) for t in range(t_max)
        ),
        wait=tuple(_table(_shares(b[:, t], one[b[:, u]], bins)) for t, u in zip(before, after)),
        ask=tuple(_table(_shares(b[:, t], one[c[:, t]], bins)) for t in range(t_max)),
        go_on=tuple(_table(_shares(c[:, t], one[b[:, u]], bins)) for t, u in zip(before, after)),
        step_j=_row(spent),
        code_bits=code_bits,
        first=_row(np.bincount(b[:, 0], minlength=bins) / n),
        record=Record(b, c, local.right, cloud.right).to_text(),
    )


def calibrate_place(
    model: PlaceModel,
    local_sums: Sums,
    cloud_sums: Sums,
    labels: Labels,
    *,
    link: Link,
    prices: Prices,
) -> tuple[PlacePolicy, dict[str, Any]]:
    """The policy for a link, and plain numbers of how it does on whole runs.

    Among them what the model expects of its tables (`tables_expected`), what those really give
    (`tables_utility`), and which strategy was taken, and what that gives.

    Args:
        model: from `place_model`.
        local_sums, cloud_sums: (N, K, T_max), the calibration data or others.
        labels: classes, (N,).
        link, prices: what things cost.
    """
    tables, expected = model.tables(link, prices)
    policy, _, strategy = model.solve(link, prices)

    def earned(placed: Placed) -> tuple[NDArray[np.bool_], Floats, Floats, float]:
        """Right answers, joules, seconds, and mean utility."""
        correct = placed.predictions == labels
        joules, seconds = model.costs(placed.timesteps, placed.sent, link)
        return correct, joules, seconds, float((correct - prices(joules, seconds)).mean())

    placed = decide_place(policy, local_sums, cloud_sums)
    correct, joules, seconds, utility = earned(placed)
    return policy, {
        "samples": len(labels),
        "strategy": strategy,
        "accuracy": float(correct.mean()),
        "local_share": float((placed.actions == Action.LOCAL).mean()),
        "mean_timesteps": float(placed.timesteps.mean()),
        "mean_sent": float(placed.sent.mean()),
        "mean_asked": float(placed.asked.mean()),
        "mean_edge_j": float(joules.mean()),
        "mean_seconds": float(seconds.mean()),
        "utility": utility,
        "tables_expected": expected,
        "tables_utility": earned(decide_place(tables, local_sums, cloud_sums))[-1],
    }


def _edges(confidence: Floats, bins: int) -> tuple[Row, ...]:
    shares = np.arange(1, bins) / bins
    return tuple(_row(np.quantile(column, shares)) for column in confidence.T)


def _shares(bin_: NDArray[np.int64], outcome: NDArray[Any], bins: int) -> Floats:
    """Mean outcome (N, M) in each bin, drawn towards that of all samples: (bins, M)."""
    total = np.zeros((bins, outcome.shape[1]))
    np.add.at(total, bin_, outcome.astype(np.float64))
    count = np.bincount(bin_, minlength=bins)[:, None]
    return (total + PSEUDO * outcome.mean(axis=0)) / (count + PSEUDO)


def _row(values: Floats) -> Row:
    return tuple(values.ravel().tolist())


def _table(values: Floats) -> tuple[Row, ...]:
    return tuple(map(_row, values))
