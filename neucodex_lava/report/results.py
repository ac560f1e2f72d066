"""What an evaluation found: plain numbers that go to JSON, tables and the HTML page.

Bits, bytes, SynOps, joules and seconds are means per sample.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from neucodex_lava.errors import FormatError
from neucodex_lava.report import check

MAX_FILE_BYTES = 32 * 2**20
MAX_ROWS, MAX_TIMESTEPS = 1000, 256
_SPLIT = re.compile(r"SP[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class LayerRow:
    """Mean counts per sample of one node.

    Attributes:
        name: the node.
        side: ``edge`` (before the cut, counted as chip work) or ``cloud``.
        syn_ops, syn_ops_nonzero, macs, dendrite_updates, spikes_in, axon_out: see the ledger.
        firing_rate: spikes per neuron and timestep run, 0..1.
    """

    name: str
    side: str
    syn_ops: float
    syn_ops_nonzero: float
    macs: float
    dendrite_updates: float
    spikes_in: float
    axon_out: float
    firing_rate: float


@dataclass(frozen=True)
class Row:
    """One configuration at one split point.

    Attributes:
        split: ``SP1`` ..., or None for edge-only and cloud-only.
        configuration: ``F-B``, ``D-B``, ``F+B``, ``D+B`` (fixed or dynamic timesteps, without or
            with the bottleneck), ``edge-only``, ``edge-only dynamic``, ``cloud-only``.
        samples: samples behind accuracy and counts.
        accuracy, accuracy_interval: share correct and its 95 % Wilson interval.
        mean_timesteps: timesteps run per sample.
        raw_bits: payload as the paper sends it, 32-bit floats (modelled).
        packed_bits: payload bit-packed, without headers.
        payload_bits: payload as sent by the codec used.
        coded_bits: payload as the codec `auto`, by size, would send it, in whole bytes, under the
            bundle's coding tables where it has them (modelled from counts); None where not worked out.
        entropy_bits: the limit: cross-entropy of the codes under these tables, or without them their
            own entropy channel by channel; None where not worked out.
        wire_bytes: our messages with gRPC's and HTTP/2's framing of each, both directions
            (modelled from their sizes; TCP, IP and control frames are not in it).
        syn_ops, macs: of the edge part.
        energy_j: edge energy of the counts under the energy model (modelled); pipelined, with the
            sample's share of the run's work outside of the samples' windows.
        energy_paper_j: the paper's formula (MACs x firing rate x timesteps x 23 pJ).
        edge_s: the simulator's wall time on the edge, no chip time (measured).
        roundtrip_s, cloud_s: bridge and tail (measured); None where no bridge ran.
        exit_histogram: samples that stopped after 1, 2, ... T_max timesteps.
        code_shape: (C', H', W') crossing the cut per timestep, None for edge-only.
        measured_samples: samples that really went through Lava and the bridge; the timings are
            theirs, and their spikes, counts and answers were compared with the executor's.
        reductions: factors against baselines; each names its quantity, e.g.
            {"energy vs edge-only": 2.5, "payload vs raw F-B": 180.0}.
        layers: mean counts per node.
        outside_energy_j: the part of energy_j that is no sample's own (modelled): filling and
            draining the pipeline, relays, and what nodes do in timesteps that were not fed.
        edge_depth: pipelined, Lava steps from a frame to its code; else 0.
        edge_timesteps: pipelined, timesteps fed per sample: min(T, t + edge_depth) for a decision by
            timestep t; None where nothing is pipelined.
        policy: exit policy; ``fixed`` for fixed timesteps; empty in files of older versions.
        oct: mean timesteps of an oracle that stops each sample as soon as its answer is right and
            stays right (SNNCutoff's optimal cutoff timestep); a wrong sample counts T_max.
        ece: expected calibration error of the confidences that samples were answered with.
        not_numbers: timesteps whose logits held NaN, on which no policy stops.
        exit_histogram_by_class: `exit_histogram` of the samples of each class.
        local_share: share of samples that an exit head answered in the cloud's place; None where
            that is not possible.
        exits: of rows with structural exits, the names of the exits in depth order, which the
            histograms then count in place of timesteps; else empty.
    """

    split: str | None
    configuration: str
    samples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    mean_timesteps: float
    raw_bits: float
    packed_bits: float
    payload_bits: float
    wire_bytes: float
    syn_ops: float
    macs: float
    energy_j: float
    energy_paper_j: float
    edge_s: float | None
    roundtrip_s: float | None
    cloud_s: float | None
    exit_histogram: list[int]
    code_shape: tuple[int, int, int] | None = None
    measured_samples: int = 0
    reductions: dict[str, float] = field(default_factory=dict)
    layers: list[LayerRow] = field(default_factory=list)
    outside_energy_j: float = 0.0
    edge_depth: int = 0
    edge_timesteps: float | None = None
    policy: str = ""
    oct: float | None = None
    ece: float | None = None
    not_numbers: int = 0
    exit_histogram_by_class: list[list[int]] = field(default_factory=list)
    local_share: float | None = None
    exits: list[str] = field(default_factory=list)
    coded_bits: float | None = None
    entropy_bits: float | None = None

    @property
    def dynamic(self) -> bool:
        """Whether an exit policy may stop its samples early."""
        named = self.configuration[:1] in ("D", "P") or self.configuration.endswith("dynamic")
        return named or bool(self.exits)


@dataclass(frozen=True)
class Curve:
    """What an exit policy gives on one network as one of its numbers is moved.

    Attributes:
        split: of the split bundle that it is about; None for the base.
        policy: its name.
        timesteps, accuracy: mean timesteps and share of right answers of each setting.
    """

    split: str | None
    policy: str
    timesteps: list[float]
    accuracy: list[float]


@dataclass(frozen=True)
class Results:
    """A whole evaluation: `rows` in the order they should be shown.

    Attributes:
        policy: exit policies of the dynamic rows, by commas.
        alpha: of the confidence policy; 1 without one.
        left_out: test samples that were left out since a policy was calibrated on them.
        calibrations: by policy, how its numbers were found, where they were calibrated.
        curves: for the plot of accuracy against timesteps.
    """

    dataset: str
    architecture: str
    encoding: str
    seed: int
    t_max: int
    policy: str
    alpha: float
    backend: str
    schedule: str
    energy_model: str
    rows: list[Row]
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    report: str | None = None
    left_out: int = 0
    calibrations: dict[str, str] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, keys as the command line documents them.

        A factor against zero (edge energy of cloud-only, say) has no number and is left out.
        """
        raw = asdict(self)
        for row in raw["rows"]:
            row["reductions"] = {k: v for k, v in row["reductions"].items() if math.isfinite(v)}
        return raw

    def to_json(self) -> str:
        """JSON text that `from_json` reads back.

        Raises:
            FormatError: a figure is infinite or not a number, which JSON cannot hold.
        """
        try:
            return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        except ValueError as error:
            raise FormatError(f"results: a figure is not a finite number: {error}") from error

    @classmethod
    def from_dict(cls, raw: Any) -> Results:
        """Read what `to_dict` gave; keys of newer versions are ignored.

        Raises:
            FormatError: a missing key, a value of the wrong type, or one out of range.
        """
        results = check.build(cls, raw, "file")
        if not 1 <= results.t_max <= MAX_TIMESTEPS:
            check.fail("t_max", f"{results.t_max} is outside [1, {MAX_TIMESTEPS}]")
        if len(results.rows) > MAX_ROWS:
            check.fail("rows", f"{len(results.rows)} rows, at most {MAX_ROWS} are read")
        for index, row in enumerate(results.rows):
            _check_row(row, results.t_max, f"rows[{index}]")
        return results

    @classmethod
    def from_json(cls, text: str | bytes) -> Results:
        """Read what `to_json` wrote.

        Raises:
            FormatError: not JSON, or not results.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            problem = "nested too deep" if isinstance(error, RecursionError) else error
            raise FormatError(f"results: not JSON: {problem}", check.HINT) from error
        return cls.from_dict(raw)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a results.json.

        Raises:
            FormatError: unreadable, larger than 32 MiB, or not results.
        """
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise FormatError(f"cannot read {path}: {error.strerror}", check.HINT) from error
        if len(text) > MAX_FILE_BYTES:
            raise FormatError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB", check.HINT)
        return cls.from_json(text)


def _check_row(row: Row, t_max: int, where: str) -> None:
    low, high = row.accuracy_interval
    # A Wilson bound at 0 or 100 % may miss it by a rounding error.
    order = (0.0, low, row.accuracy, high, 1.0)
    if any(a > b + 1e-9 for a, b in itertools.pairwise(order)):
        check.fail(where, f"accuracy {row.accuracy:g} in [{low:g}, {high:g}] is no share in order")
    if row.split is not None and not _SPLIT.fullmatch(row.split):
        check.fail(f"{where}.split", "expected SP1, SP2, ... or null")
    entries, most = len(row.exit_histogram), len(row.exits) or t_max
    if entries > most:
        limit = f"there are {most} exits" if row.exits else f"t_max is {t_max}"
        check.fail(f"{where}.exit_histogram", f"{entries} entries, {limit}")
    for layer in row.layers:
        if not 0 <= layer.firing_rate <= 1:
            check.fail(f"{where}.layers", f"firing rate {layer.firing_rate:g} is outside [0, 1]")
    negative = _first_negative(asdict(row) | {"accuracy_interval": ()}, where)
    if negative:
        check.fail(negative, "a negative number")


def _first_negative(value: Any, where: str) -> str | None:
    if isinstance(value, (int, float)):
        return where if value < 0 else None
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        parts = [(f"{where}.{key[:40]}", item) for key, item in named.items()]
    elif isinstance(value, (list, tuple)):
        listed = cast("list[Any]", value)
        parts = [(f"{where}[{i}]", item) for i, item in enumerate(listed)]
    else:
        return None
    return next((bad for path, item in parts if (bad := _first_negative(item, path))), None)
