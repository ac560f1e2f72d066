"""SPARQ's variants of a network as they were measured, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle.paperwork import now
from neucodex_lava.config import from_dict
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.files import replacing
from neucodex_lava.integer_net import IntegerNet

FP32, INT8 = "horowitz-45nm-fp32", "horowitz-45nm"
"""Energy models of float and of 8-bit weights."""
VARIANTS = ("ANN", "ANN, 8 bit", "dynamic ANN", "SNN", "QSNN", "QDSNN", "QDSNN, Top-K")
FILE = "sparq.json"
FORMAT, VERSION = "neucodex-variants", 1
LIMIT_BYTES = 1 << 22


@dataclass(frozen=True)
class Variant:
    """One of SPARQ's variants of one network, measured.

    Attributes:
        architecture, dataset: of the network, the width in its name.
        variant: ``ANN``, ``ANN, 8 bit``, ``dynamic ANN``, ``SNN``, ``QSNN`` or ``QDSNN``.
        what: which of our runs or bundles it is, and how it was made.
        timesteps: T; 1 of an artificial network.
        samples, correct: of the test split.
        syn_ops, macs: means per sample.
        energy_j, energy_low_j: by the 45 nm model, mean per sample; low without memory.
        exits: names of its exits; empty where it has one answer.
        exit_histogram: samples that each of them answered.
        exit_histogram_by_class: the same of each class.
        source: when and by which command it was measured; ``this run``.
        seed: of the training.
    """

    architecture: str
    dataset: str
    variant: str
    what: str
    timesteps: int
    samples: int
    correct: int
    syn_ops: float
    macs: float
    energy_j: float
    energy_low_j: float
    exits: tuple[str, ...] = ()
    exit_histogram: tuple[int, ...] = ()
    exit_histogram_by_class: tuple[tuple[int, ...], ...] = ()
    source: str = "this run"
    seed: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Which group of the table it is in."""
        return self.architecture, self.dataset


def write_variants(folder: Path, variants: Sequence[Variant], command: str) -> None:
    """Keep what was measured beside the bundles; what an earlier command measured keeps its source.

    Raises:
        OSError: the folder cannot be written to.
    """
    source = f"{now()[:10]}, {command or 'command not recorded'}"
    kept = [replace(v, source=source) if v.source == "this run" else v for v in variants]
    raw = {"format": FORMAT, "version": VERSION, "variants": [asdict(v) for v in kept]}
    with replacing(folder / FILE) as file:
        file.write((json.dumps(raw, indent=1) + "\n").encode())


def read_variants(folder: Path) -> list[Variant]:
    """What `write_variants` kept; nothing where it kept nothing.

    Raises:
        FormatError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    hint = "delete it, or make it again: neucodex reproduce sparq --record"
    try:
        with path.open("rb") as file:
            text = file.read(LIMIT_BYTES + 1)
        raw = json.loads(text) if len(text) <= LIMIT_BYTES else None
        if not isinstance(raw, dict) or (raw.get("format"), raw.get("version")) != (
            FORMAT,
            VERSION,
        ):
            raise FormatError(f"'{path}' is no file of variants of version {VERSION}", hint)
        found = [from_dict(Variant, variant) for variant in raw["variants"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise FormatError(f"'{path}' cannot be read: {error}", hint) from error
    for variant in found:
        if variant.variant not in VARIANTS or not 0 <= variant.correct <= variant.samples > 0:
            raise FormatError(f"'{path}': a variant '{variant.variant}' that cannot be", hint)
    return found


def histograms(
    taken: NDArray[np.int64], labels: NDArray[np.int64], shape: Sequence[int]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Samples that left at each exit (numbers from 0), of all and of each class; `shape` is (K, E)."""
    table = np.zeros(shape, np.int64)
    np.add.at(table, (labels, taken), 1)
    return tuple(table.sum(axis=0).tolist()), tuple(map(tuple, table.tolist()))


def body(net: IntegerNet) -> list[str]:
    """Names of the nodes that are no exit heads."""
    heads = {head.name for head in net.exit_heads}
    return [node.name for node in net.nodes if node.name not in heads]
