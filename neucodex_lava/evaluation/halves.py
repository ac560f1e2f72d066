"""Which samples exit policies are calibrated on, and which are left to evaluate them.

A run that held training samples out (``train --holdout N``) calibrates on these, and the whole test
split is left. Otherwise one half of the test split calibrates, drawn by a seed in proportion of its
classes, and evaluations of what came of it use the other half only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.data.splits import stratified
from neucodex_lava.errors import ConfigError


@dataclass(frozen=True)
class CalibrationHalf:
    """A half of a test split that exit policies were calibrated on.

    Attributes:
        dataset: its name.
        samples: of the whole test split.
        seed: draws the half.
    """

    dataset: str
    samples: int
    seed: int

    @classmethod
    def of(cls, calibration: Mapping[str, Any]) -> CalibrationHalf | None:
        """The one that a calibration in a manifest names; None where training samples were used."""
        if calibration["data"] != "test":
            return None
        return cls(calibration["dataset"], calibration["test_samples"], calibration["seed"])

    def mask(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which samples of the test split it holds, (N,).

        Args:
            labels: of the whole test split, (N,).

        Raises:
            ConfigError: the test split has another size now, so another half would be left out.
        """
        if len(labels) != self.samples:
            raise ConfigError(
                f"the policy was calibrated on half of {self.samples:,} test samples of"
                f" '{self.dataset}', of which {len(labels):,} are here",
                "calibrate it again on these: neucodex calibrate BUNDLE",
            )
        return stratified(labels, len(labels) // 2, self.seed)
