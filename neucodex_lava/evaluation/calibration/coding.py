"""Coding tables of bundles, trained on training samples: part of ``export`` and ``calibrate``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle, coding_bytes, cuts_of, load_coding, put_coding
from neucodex_lava.bundle.manifest import CODING_FILE
from neucodex_lava.cloud.coding import SAMPLES, train_tables
from neucodex_lava.errors import DataError
from neucodex_lava.evaluation.samples import EncodedSamples, open_samples
from neucodex_lava.progress import Progress, silent

KIND = "coding"
BATCH = 64


@dataclass(frozen=True)
class TrainedCoding:
    """What became of a bundle's coding tables.

    Attributes:
        bundle: with them, or as it was.
        samples: that they were trained on; 0 where they were not.
        problem: why they were not, with the way out; empty where they were.
    """

    bundle: Bundle
    samples: int
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: sha256 of the tables by cut."""
        found = {str(cut): load_coding(self.bundle, cut) for cut in cuts_of(self.bundle.manifest)}
        return {
            "bundle": str(self.bundle.path),
            "samples": self.samples,
            "file": self.bundle.manifest.files.get(CODING_FILE),
            "tables": {cut: tables.sha256 for cut, tables in found.items() if tables is not None},
            "problem": self.problem,
        }

    def line(self) -> str:
        """One line for the terminal."""
        path, cuts = self.bundle.path, len(cuts_of(self.bundle.manifest))
        if self.problem:
            return f"{path}: no coding tables trained: {self.problem}"
        where = "its cut" if cuts == 1 else f"{cuts} cuts"
        return f"{path}: coding tables for {where}, from {self.samples} training samples"


def train_coding(
    bundle: Bundle, data_root: Path | None = None, progress: Progress = silent
) -> TrainedCoding:
    """Train the coding tables of every cut of a bundle and keep them in it.

    A few hundred samples of the training split are run through the executor; the test split is never
    looked at. Where the dataset is not there the bundle stays as it is.

    Args:
        bundle: on disk as it was read.
        data_root: where datasets other than the embedded one lie.
        progress: called as batches finish.

    Raises:
        BundleError: the dataset does not fit the bundle, or the tables cannot be written.
    """
    try:
        samples = open_samples(bundle, SAMPLES, data_root=data_root, split="train")
    except DataError as problem:
        return TrainedCoding(bundle, 0, str(problem))
    task = f"coding tables {bundle.manifest.split or 'base'}"
    tables = train_tables(
        bundle.net,
        cuts_of(bundle.manifest),
        _batches(samples),
        lambda done: progress(task, done, len(samples)),
    )
    trained = {"dataset": samples.data.dataset, "split": "train", "samples": len(samples)}
    return TrainedCoding(put_coding(bundle, coding_bytes(tables, trained)), len(samples))


def _batches(samples: EncodedSamples) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(samples), BATCH):
        yield samples.take(slice(first, first + BATCH))
