"""The samples of a bundle's dataset that its exit policies are calibrated on, and those to check on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neucodex_lava.bundle import Bundle
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.evaluation.samples import EncodedSamples, evenly, open_samples


@dataclass(frozen=True, eq=False)
class CalibrationSamples:
    """Two parts of a dataset, neither trained on.

    Attributes:
        calibration: held out of the training split, or a half of the test split.
        check: what evaluations use: the test split, or its other half.
        seed: draws the half.
        test_samples: of the whole test split.
    """

    calibration: EncodedSamples
    check: EncodedSamples
    seed: int
    test_samples: int

    def how(self) -> dict[str, Any]:
        """What a manifest keeps of it."""
        return {
            "dataset": self.calibration.data.dataset,
            "data": self.calibration.samples.split,
            "samples": len(self.calibration),
            "seed": self.seed,
            "test_samples": self.test_samples,
        }


def split_for_calibration(
    bundle: Bundle, seed: int, count: int = 0, data_root: Path | None = None
) -> CalibrationSamples:
    """The samples held out of its training, or where there are none a half of the test split.

    Args:
        bundle: says dataset, encoding, T_max and how many training samples were held out.
        seed: draws the half.
        count: at most so many of each part, spread evenly; 0 for all.
        data_root: where datasets other than the embedded one lie.

    Raises:
        ConfigError: a negative count.
        DataError: the dataset is missing or damaged.
        BundleError: it does not fit the bundle.
    """
    test = open_samples(bundle, data_root=data_root)
    if bundle.manifest.data.get("holdout", 0):
        held = open_samples(bundle, count, data_root=data_root, split="holdout")
        check = replace(test, samples=evenly(test.samples, count))
        return CalibrationSamples(held, check, seed, len(test))
    half = CalibrationHalf(test.data.dataset, len(test), seed).mask(test.samples.labels)
    first, second = (
        replace(test, samples=evenly(test.samples.take(mask), count)) for mask in (half, ~half)
    )
    return CalibrationSamples(first, second, seed, len(test))
