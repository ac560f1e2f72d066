"""How calibrated exit policies do on samples they did not see, over many random halves of a test split.

    python -m benchmarks.calibration_splits BUNDLE [--base BASE] [--splits 100] [--data-root DIR]

The test split runs once in the executor; then each of the halves calibrates, and the other is
looked at: points of accuracy lost and mean timesteps as calibrated; mean timesteps where each family's
number is chosen on the other half itself (at most a tenth of a point lost: families are compared, not
luck); the oracle; and how often the guarantee was kept. Prints one JSON object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import DataError
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.exits import decide, predicted
from neucodex_lava.exits.calibration import CalibrationData, CalibrationOptions, calibrate
from neucodex_lava.exits.calibration.families import cheapest, confidence_family
from neucodex_lava.exits.calibration.topk import topk_family
from neucodex_lava.exits.metrics import optimal_cutoff
from neucodex_lava.progress import progress_bars

DROP = 0.001
KINDS = ("confidence", "topk", "topk-snncutoff")
LEVELS = (0.01, 0.02, 0.05)
SIGMAS = 1.645
"""One-sided 95 %: a half of the test split says the true share of lost samples only so well."""


@dataclass(frozen=True)
class Splits:
    """Many random halves of a bundle's test split: how calibrated exit policies do.

    Attributes:
        bundle: base or split.
        base: whose answers at T_max the guarantee counts against; by default the bundle's own.
        splits: random halves.
        confidence: of the guarantee.
        data_root: where datasets lie; by default the environment variable NEUCODEX_DATA.
    """

    bundle: tyro.conf.Positional[Path]
    base: Annotated[Path | None, tyro.conf.arg(metavar="BUNDLE")] = None
    splits: int = 100
    confidence: float = 0.9
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None


def whole_runs(bundle: Bundle, data_root: Path | None) -> CalibrationData:
    """The test split through the executor."""
    inputs, labels = load_samples(bundle, data_root=data_root)
    with progress_bars() as show:
        result = run_twin(
            Executor(bundle.net),
            inputs,
            count=False,
            progress=lambda done, total: show(f"executor {bundle.path}", done, total),
        )
    assert result.sums is not None, "bundles end in a readout"
    return CalibrationData(result.sums, labels, bundle.readout_gain)


def halves(samples: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Calibration rows and the others."""
    order = np.random.default_rng(seed).permutation(samples)
    return order[: samples // 2], order[samples // 2 :]


def compare(data: CalibrationData, splits: int) -> dict[str, Any]:
    """Means over halves: of each kind as calibrated, and of each family at an equal drop."""
    found: dict[str, list[tuple[float, float]]] = {}
    refused = 0
    for seed in range(splits):
        first, second = (data.rows(rows) for rows in halves(len(data), seed))
        whole = float(second.right[:, -1].mean())
        try:
            first.require_all_classes()
        except DataError:
            refused += 1
            continue
        for kind in KINDS:
            options = CalibrationOptions(drop=DROP, seed=seed)
            policy = calibrate(
                kind, first.sums, first.labels, gain=data.gain, options=options
            ).policy
            exits = decide(policy, second.sums)
            lost = whole - float((exits.predictions == second.labels).mean())
            found.setdefault(kind, []).append((float(exits.timesteps.mean()), lost))
        for family in (confidence_family(first), topk_family(first)):
            point = cheapest(family, second, DROP)
            found.setdefault(f"{family.name}, equal drop", []).append(
                (point.mean_timesteps, whole - point.accuracy)
            )
    return {"refused": refused} | {
        name: {
            "mean_timesteps": float(np.mean([t for t, _ in pairs])),
            "points_lost": 100 * float(np.mean([lost for _, lost in pairs])),
        }
        for name, pairs in found.items()
    }


def promises(data: CalibrationData, splits: int, confidence: float) -> list[dict[str, Any]]:
    """How often the guarantee was kept on the other half, by family and level."""
    rows: list[dict[str, Any]] = []
    reference = predicted(data.sums[..., -1]) if data.reference is None else data.reference
    for family in ("confidence", "topk"):
        for level in LEVELS:
            risks: list[float] = []
            for seed in range(splits):
                first, second = halves(len(data), seed)
                options = CalibrationOptions(
                    level=level, confidence=confidence, family=family, seed=seed
                )
                try:
                    policy = calibrate(
                        "guaranteed",
                        data.sums[first],
                        data.labels[first],
                        gain=data.gain,
                        options=options,
                        reference=reference[first],
                    ).policy
                except DataError:
                    continue
                answers = decide(policy, data.sums[second]).predictions
                right = data.labels[second]
                risks.append(float(((reference[second] == right) & (answers != right)).mean()))
            error = SIGMAS * np.sqrt(level * (1 - level) / (len(data) - len(data) // 2))
            rows.append(
                {
                    "family": family,
                    "level": level,
                    "given": len(risks),
                    "kept": int(np.sum(np.array(risks) <= level)),
                    "kept_within_sampling_error": int(np.sum(np.array(risks) <= level + error)),
                }
            )
    return rows


def run(options: Splits) -> dict[str, Any]:
    """All of it."""
    bundle = load_bundle(options.bundle)
    data = whole_runs(bundle, options.data_root)
    if options.base is not None:
        base = whole_runs(load_bundle(options.base), options.data_root)
        answers = predicted(base.sums[..., -1])
        data = CalibrationData(data.sums, data.labels, data.gain, reference=answers)
    return {
        "bundle": str(options.bundle),
        "samples": len(data),
        "t_max": data.t_max,
        "splits": options.splits,
        "accuracy": data.right.mean(axis=0).tolist(),
        "oct": float(optimal_cutoff(data.sums, data.labels).mean()),
        "policies": compare(data, options.splits),
        "guarantee": promises(data, options.splits, options.confidence),
    }


if __name__ == "__main__":
    print(json.dumps(run(tyro.cli(Splits, description=__doc__)), indent=2))
