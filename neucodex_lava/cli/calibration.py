"""calibrate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line


@dataclass(frozen=True, kw_only=True)
class Calibrate(Command):
    """Find the numbers of exit policies on held-out samples, and keep them in the bundle.

    Also trains its coding tables, by which codes are sent in fewer bits, on training samples.
    Samples that ``train --holdout`` held out are used; where there are none, one half of the test
    split, which evaluations of these policies then leave out. The bundle's name and answers stay.
    """

    bundle: Positional[Path]
    """Folder of a bundle, or of a base with its split bundles."""
    kind: tuple[str, ...] = ()
    """Kinds of calibration, by default all: confidence, entropy and patience (for --drop; kept as
    confidence-calibrated, ...), temperature, topk, topk-snncutoff (for --epsilon), guaranteed (for
    --level and --confidence), qlearning; place, where an exit head lies before a cut; and coding: no
    policy but the coding tables."""
    drop: float = 0.001
    """Accuracy that may be lost against all timesteps, as a share."""
    epsilon: float = 0.0
    """topk-snncutoff: share of the samples that exit that may be wrong then or later."""
    level: float = 0.01
    """guaranteed: extra error that is not exceeded, as a share; of a split bundle against its base."""
    confidence: float = 0.9
    """guaranteed: how sure that is."""
    family: Literal["confidence", "topk"] = "confidence"
    """guaranteed: the policies it chooses from; topk needs twice as many samples."""
    seed: int = 0
    """Draws the half of the test split, and all else that is drawn."""
    samples: int = 0
    """At most so many samples to calibrate on; 0 for all there are."""
    base: Annotated[Path | None, tyro.conf.arg(metavar="BUNDLE")] = None
    """Base of a split bundle; by default the sibling folder that fits."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""

    def run(self) -> int:
        """Calibrate."""
        from neucodex_lava.coding import KIND, train_coding
        from neucodex_lava.evaluation.calibration.bundles import calibrate_bundles, targets
        from neucodex_lava.exits.calibration import CalibrationOptions

        options = CalibrationOptions(
            drop=self.drop,
            epsilon=self.epsilon,
            level=self.level,
            confidence=self.confidence,
            family=self.family,
            seed=self.seed,
        )
        kinds = tuple(kind for kind in self.kind if kind != KIND)
        with self.progress() as progress:
            found = (
                calibrate_bundles(
                    self.bundle,
                    kinds=kinds,
                    options=options,
                    samples=self.samples,
                    base=self.base,
                    data_root=self.data_root,
                    command=command_line(),
                    progress=progress,
                )
                if kinds or not self.kind
                else []
            )
            coding = (
                [train_coding(one, self.data_root, progress) for one in targets(self.bundle)]
                if KIND in self.kind or not self.kind
                else []
            )
        self.output(
            {
                "target": str(self.bundle),
                "bundles": [one.to_dict() for one in found],
                "coding": [one.to_dict() for one in coding],
            },
            *(one.table() for one in found),
            *(one.line() for one in coding),
        )
        return 0
