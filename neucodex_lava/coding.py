"""Coding tables of bundles, trained on training samples: part of ``export`` and ``calibrate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neucodex_lava.bundle import Bundle, coding_bytes, cuts_of, load_coding, put_coding
from neucodex_lava.bundle.manifest import CODING_FILE
from neucodex_lava.cloud.coding import SAMPLES, train_tables
from neucodex_lava.config import DataConfig, from_dict
from neucodex_lava.data import load
from neucodex_lava.errors import DataError
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
        NetError: the dataset does not fit the network.
        BundleError: the tables cannot be written.
    """
    data = replace(from_dict(DataConfig, bundle.manifest.data), timesteps=bundle.manifest.t_max)
    try:
        found = load(data, data_root, "train")
    except DataError as problem:
        return TrainedCoding(bundle, 0, str(problem))
    count = min(SAMPLES, len(found))
    samples = found.take(np.linspace(0, len(found) - 1, count).astype(int))
    task = f"coding tables {bundle.manifest.split or 'base'}"
    tables = train_tables(
        bundle.net,
        cuts_of(bundle.manifest),
        (batch.inputs(data) for batch in samples.batches(BATCH)),
        lambda done: progress(task, done, count),
    )
    trained = {"dataset": data.dataset, "split": "train", "samples": count}
    return TrainedCoding(put_coding(bundle, coding_bytes(tables, trained)), count)
