"""Families of bundles, a base and its split bundles, and what the four configurations gave on each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energy import device
from neucodex_lava.bundle import Bundle
from neucodex_lava.config import parse_split
from neucodex_lava.errors import BundleError, DataError, MissingDependencyError
from neucodex_lava.evaluation.configurations import EDGE_ONLY, EDGE_ONLY_DYNAMIC, plan
from neucodex_lava.evaluation.evaluate import evaluate
from neucodex_lava.evaluation.paper.figures import CONFIGURATIONS
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.evaluation.sweep import find_sweep
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Results, Row

ENERGY_MODEL = "paper-23pJ"
NAME = re.compile(r"(?P<name>.+?)(-w(?P<width>[0-9.]+))?(-h(?P<head>[0-9.]+)sp(?P<split>[0-9]+))?")
PAPERS_POLICIES = ("", "fixed", "confidence")
"""NeuCODEX's own; tables of before there were others name none."""
UNCUT = {EDGE_ONLY: "F-B", EDGE_ONLY_DYNAMIC: "D-B"}
"""The base as a whole on the edge is F-B and D-B uncut: its answers do not depend on the cut."""


@dataclass(frozen=True)
class Cell:
    """One configuration of one family.

    Attributes:
        split: None where the network is not cut.
        configuration: one of `CONFIGURATIONS`.
        samples, accuracy, accuracy_interval: share of right answers, 95 % Wilson interval.
        mean_timesteps, syn_ops, macs, payload_bits, energy_j: means per sample; None where not
            measured.
        source: who measured it: ``this run``, or what the manifest says.
        code_shape: (C', H', W') of the bottleneck's code; None without one.
    """

    split: str | None
    configuration: str
    samples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    mean_timesteps: float | None
    syn_ops: float | None
    macs: float | None
    payload_bits: float | None
    energy_j: float | None
    source: str
    code_shape: tuple[int, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Cells of one key differ in their seed only, in families of one kind."""
        return self.split, self.configuration, self.code_shape


@dataclass(frozen=True, eq=False)
class Family:
    """A base bundle and its split bundles.

    Attributes:
        folder: of the family.
        base, splits: its bundles.
    """

    folder: Path
    base: Bundle
    splits: list[Bundle]

    @property
    def architecture(self) -> str:
        """Its name without the width."""
        return self._name()["name"]

    @property
    def width(self) -> float:
        """Factor on all channel counts."""
        return float(self._name()["width"] or 1)

    @property
    def head(self) -> str:
        """In words, where the edge head is narrower (or wider) than the rest; else empty."""
        name = self._name()
        return f"head to SP{name['split']} times {name['head']}" if name["head"] else ""

    def _name(self) -> re.Match[str]:
        name = self.base.manifest.architecture
        found = NAME.fullmatch(name.replace("\n", " "))
        assert found is not None, "any line is a name"
        return found

    @property
    def coding(self) -> str:
        """How samples become input, in words."""
        manifest = self.base.manifest
        name = str(manifest.encoding["name"])
        return f"{name}, {manifest.input_bits} bits" if manifest.input_bits > 1 else name

    @property
    def kind(self) -> tuple[str, ...]:
        """Families of one kind differ in their seed only, as far as their manifests say."""
        m = self.base.manifest
        recipe = dict((m.training or {}).get("config", {})) | {"seed": 0, "threads": 0}
        text = json.dumps([recipe, m.data], sort_keys=True)
        return (m.architecture, m.dataset, str(m.t_max), self.coding, text)


def find_families(exports: Path) -> list[Family]:
    """Every family in a folder of families, or the one that the folder is itself.

    Raises:
        BundleError: no such folder, nothing in it, a damaged bundle, or a family without exactly one
            base.
    """
    if not exports.is_dir():
        raise BundleError(f"'{exports}' is not a folder", "pass a folder of exported bundles")
    folders = [p for p in [exports, *sorted(exports.iterdir())] if any(p.glob("*/manifest.json"))]
    if not folders:
        raise BundleError(f"'{exports}' holds no bundles", "export some first: neucodex export RUN")
    return [Family(folder, *find_sweep(folder)) for folder in folders]


def run_family(
    family: Family,
    *,
    samples: int = 0,
    alpha: float | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> list[Cell]:
    """F-B, D-B, F+B and D+B of a family on its test split, in the executor.

    Args:
        family: base and splits.
        samples: spread evenly over the test split; 0 for all.
        alpha: confidence to reach; None takes the bundles'.
        data_root: where datasets other than the embedded one lie.
        progress: called as batches finish.

    Raises:
        DataError: the dataset is not there.
    """
    inputs, labels = load_samples(family.base, samples, data_root=data_root)
    bundles = [family.base, *family.splits]
    policies = {b.sha256: make_policy(b, "confidence", alpha) for b in bundles}
    splits = [b.manifest.split for b in family.splits if b.manifest.split]
    rows = evaluate(
        plan(family.base, splits, family.splits),
        inputs,
        labels,
        policy_for=lambda c: policies[c.bundle.sha256],
        energy_model=device(ENERGY_MODEL),
        confirm=0,
        progress=progress,
    )
    return _cells(rows, "this run")


def recorded_family(family: Family) -> list[Cell]:
    """The same from what the manifests keep: the measured tables, else the accuracy at export."""
    cells: dict[tuple[Any, ...], Cell] = {}
    for bundle in (family.base, *family.splits):
        measured = bundle.manifest.measured or {}
        if "table" in measured:
            table = Results.from_dict(measured["table"])
            source = f"manifest: {measured['date'][:10]}, {table.command or 'command not recorded'}"
            own = _cells(
                [r for r in table.rows if r.split in (None, bundle.manifest.split)], source
            )
            cells = {cell.key: cell for cell in own} | cells
    for bundle in (family.base, *family.splits):
        for cell in _from_accuracy(family.base, bundle):
            cells.setdefault(cell.key, cell)
    return sorted(cells.values(), key=order)


def order(cell: Cell) -> tuple[int, int]:
    """Uncut first, then by split point; F-B, D-B, F+B, D+B at each."""
    place = parse_split(cell.split) if cell.split else 0
    return place, CONFIGURATIONS.index(cell.configuration)


def measured_family(family: Family, **options: Any) -> tuple[list[Cell], str]:
    """What `run_family` measures, or where the dataset is not there what the manifests keep.

    Returns:
        The cells, and a line that says why nothing was run (empty where it was).
    """
    try:
        return run_family(family, **options), ""
    except (DataError, MissingDependencyError) as problem:
        name = family.folder.name
        return recorded_family(family), f"{name}: from the manifests, not run: {problem}"


def _cells(rows: list[Row], source: str) -> list[Cell]:
    found: list[Cell] = []
    for row in rows:
        configuration = UNCUT.get(row.configuration, row.configuration)
        if configuration in CONFIGURATIONS and row.policy in PAPERS_POLICIES:
            found.append(
                Cell(
                    row.split,
                    configuration,
                    row.samples,
                    row.accuracy,
                    row.accuracy_interval,
                    row.mean_timesteps,
                    row.syn_ops,
                    row.macs,
                    row.payload_bits,
                    row.energy_j,
                    source,
                    row.code_shape if configuration.endswith("+B") else None,
                )
            )
    return found


def _from_accuracy(base: Bundle, bundle: Bundle) -> Iterator[Cell]:
    pairs = [(base, "F-B")] if bundle is base else [(base, "F-B"), (bundle, "F+B")]
    for one, configuration in pairs:
        if "test" not in one.manifest.accuracy:
            continue
        found = one.manifest.accuracy_of("test")
        yield Cell(
            bundle.manifest.split,
            configuration,
            found.samples,
            found.value,
            found.interval,
            float(one.manifest.t_max),
            None,
            None,
            None,
            None,
            f"manifest: {one.manifest.created[:10]}, measured at export",
            tuple(one.manifest.code_shape) if one is not base else None,
        )
