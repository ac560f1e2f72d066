"""`manifest.json`: what a bundle is, checked when made, JSON and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from neucodex_lava.bundle.paperwork import check_exits, check_measured, check_training
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.integer_net import INPUT_BITS_MAX, IntegerNet, Shape
from neucodex_lava.json_fields import Fields
from neucodex_lava.statistics import wilson_interval
from neucodex_lava.structure import NODES_LIMIT, TIMESTEPS_LIMIT, shape_from_json

FORMAT_VERSION, PAPERS_SINCE, CODING_SINCE = 3, 2, 3
LIMIT_BYTES = 1 << 22
KINDS = ("base", "split")
EDGE_FILE, TAIL_FILE, GOLDEN_FILE = "edge.net", "tail.safetensors", "golden.npz"
CODING_FILE = "coding.safetensors"
BESIDE_IDENTITY = (GOLDEN_FILE, CODING_FILE)
"""Files that decide no answer: a bundle is the same without them."""
MANIFEST_FILE = "manifest.json"
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SPLIT = re.compile(r"SP[1-9][0-9]{0,3}")
CLASSES_LIMIT = 1 << 20
DEFAULT_EXITS: Mapping[str, Any] = {"confidence": {"alpha": 0.9}}
IDENTITY = (
    "kind", "split", "cut", "t_max", "input_shape", "input_bits", "code_shape", "classes",
    "encoding", "gains", "split_points", "base",
)  # fmt: skip
"""What decides a bundle's answers, beside its files; the other fields say how it came about."""
SINCE_2 = ("training", "measured")


def version_for(files: Iterable[str]) -> int:
    """The oldest format version that a bundle of these files can be written in."""
    return CODING_SINCE if CODING_FILE in files else PAPERS_SINCE


@dataclass(frozen=True)
class Accuracy:
    """A measured accuracy.

    Attributes:
        correct, samples: right answers, and of how many.
    """

    correct: int
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0 <= self.correct <= self.samples:
            raise ConfigError(f"{self.correct} right of {self.samples} is no accuracy")

    @property
    def value(self) -> float:
        """Share of right answers, 0..1."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `value`."""
        return wilson_interval(self.correct, self.samples)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the interval with them."""
        return asdict(self) | {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class Manifest:
    """What a bundle is. Dictionaries hold plain JSON values.

    Attributes:
        kind: ``base`` (no bottleneck, stored uncut) or ``split``.
        architecture, dataset: names.
        split: None for a base, else ``SP1``, ...
        cut: nodes before the cut; all of them for a base.
        t_max: timesteps.
        input_shape, code_shape: (C, H, W) of the input and of what crosses the cut.
        input_bits: 1 for spikes, b for graded input.
        classes: outputs of the readout.
        encoding: name, parameters and seed.
        model, data: configurations.
        bottleneck: configuration; None for a base.
        gains: of each node, real value times gain = integer; the readout's turns sums into logits.
        split_points: of a base, the cut of each ``SPi``.
        base: sha256 that the base bundle is known by; None for a base.
        files: sha256 of each other file, by name.
        accuracy: measured, by name: ``correct``, ``samples``, and derived ``value``, ``interval``.
        exits: numbers of exit policies by name, calibrated ones with how they were found (`paperwork`).
        command, seed: how it was trained.
        versions: of what it rests on.
        created: date and time, ISO 8601.
        training: commands, configuration and log of the run (`paperwork`); None where not known.
        measured: the table that `evaluate --record` measured, and SLAYER on the test split
            (`paperwork`); None where nobody did.
        format_version: of this format; the oldest that holds all this (`version_for`).

    Raises:
        BundleError: when a field is not what it should be; names it.
    """

    kind: str
    architecture: str
    dataset: str
    split: str | None
    cut: int
    t_max: int
    input_shape: Shape
    input_bits: int
    code_shape: Shape
    classes: int
    encoding: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    bottleneck: dict[str, Any] | None
    gains: dict[str, float]
    split_points: dict[str, int]
    base: str | None
    files: dict[str, str]
    accuracy: dict[str, dict[str, Any]]
    command: str
    seed: int
    versions: dict[str, str]
    created: str
    exits: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_EXITS))
    training: dict[str, Any] | None = None
    measured: dict[str, Any] | None = None
    format_version: int = PAPERS_SINCE

    def __post_init__(self) -> None:
        try:
            text = json.dumps(asdict(self), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as problem:
            raise BundleError(f"manifest: not plain JSON values ({problem})") from problem
        # Through JSON, so that a manifest just made equals the same one read back.
        fields = Fields.parse(text.encode(), "manifest", LIMIT_BYTES, BundleError)
        for name, value in _checked(fields).items():
            object.__setattr__(self, name, value)

    def accuracy_of(self, name: str) -> Accuracy:
        """The accuracy measured under this name.

        Raises:
            BundleError: when there is none.
        """
        if name not in self.accuracy:
            raise BundleError(f"manifest: no accuracy '{name}' was measured")
        found = self.accuracy[name]
        return Accuracy(int(found["correct"]), int(found["samples"]))

    def identity(self) -> str:
        """sha256 that the bundle is known by: of what decides its answers, and of nothing else.

        A new log, table, golden record or coding table leaves it as it is, so that split bundles keep
        their base and an edge its cloud.
        """
        values = {name: getattr(self, name) for name in IDENTITY}
        values["files"] = {n: sha for n, sha in self.files.items() if n not in BESIDE_IDENTITY}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode("ascii")).hexdigest()

    def identity_in_format_1(self) -> str:
        """sha256 by which split bundles of format 1 name this base: of the whole manifest then.

        Nothing was calibrated then, and there were no coding tables.
        """
        exits = dict(DEFAULT_EXITS)
        files = {name: sha for name, sha in self.files.items() if name != CODING_FILE}
        then = replace(
            self, training=None, measured=None, exits=exits, files=files, format_version=1
        )
        return hashlib.sha256(then.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The file's bytes: sorted, indented, the same for the same manifest."""
        values = asdict(self)
        if self.format_version == 1:
            for name in SINCE_2:
                del values[name]
        return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Manifest:
        """Read a manifest; `where` is its path, for messages.

        Raises:
            BundleError: not JSON, of a newer version, or a field that is not what it should be.
        """
        fields = Fields.parse(text, where, LIMIT_BYTES, BundleError)
        version = fields.integer("format_version", 1, 1 << 30)
        if version > FORMAT_VERSION:
            raise fields.fail(
                f"format version {version}, this program reads up to {FORMAT_VERSION}",
                "update neucodex-lava",
            )
        return cls(**_checked(fields))

    def check_net(self, net: IntegerNet, where: str) -> None:
        """Raise BundleError unless this manifest describes `net`, naming what differs."""
        found = {
            "cut": net.cut,
            "t_max": net.timesteps,
            "input_shape": net.input_shape,
            "input_bits": net.input_bits,
            "code_shape": net.code_shape,
            "classes": net.nodes[-1].size,
        }
        for name, value in found.items():
            if getattr(self, name) != value:
                raise BundleError(
                    f"{where}: manifest says {name} {getattr(self, name)}, the network has {value}"
                )
        legal = net.legal_cuts()
        for split, cut in self.split_points.items():
            if cut not in legal:
                raise BundleError(
                    f"{where}: the network cannot be cut at {cut} ({split})", f"legal cuts: {legal}"
                )
        names = {node.name for node in net.nodes}
        for name in self.gains:
            if name not in names:
                raise BundleError(f"{where}: a gain for '{name[:80]}', which is no node")


def _checked(f: Fields) -> dict[str, Any]:
    """Every field of a manifest with its type checked, and what they say about each other."""
    f.only(*Manifest.__dataclass_fields__)
    values: dict[str, Any] = {
        "kind": f.text("kind"),
        "split": f.optional_text("split"),
        "cut": f.integer("cut", 1, NODES_LIMIT),
        "t_max": f.integer("t_max", 1, TIMESTEPS_LIMIT),
        "input_shape": shape_from_json(f, "input_shape"),
        "input_bits": f.integer("input_bits", 1, INPUT_BITS_MAX),
        "code_shape": shape_from_json(f, "code_shape"),
        "classes": f.integer("classes", 1, CLASSES_LIMIT),
        "bottleneck": f.optional_mapping("bottleneck"),
        "base": f.optional_text("base"),
        "seed": f.integer("seed", -(1 << 63), (1 << 64) - 1),
        "format_version": f.integer("format_version", 1, FORMAT_VERSION),
        "exits": check_exits(f.inside("exits")),
    }
    for name in ("architecture", "dataset", "command", "created"):
        values[name] = f.text(name, 1 << 16)
    for name in ("encoding", "model", "data"):
        values[name] = f.mapping(name)
    gains, points = f.inside("gains"), f.inside("split_points")
    versions, files = f.inside("versions"), f.inside("files")
    values["gains"] = {name: gains.number(name) for name in gains.values}
    values["split_points"] = {name: points.integer(name, 0, NODES_LIMIT) for name in points.values}
    values["versions"] = {name: versions.text(name) for name in versions.values}
    values["files"] = {name: files.text(name) for name in files.values}
    values["accuracy"] = _checked_accuracy(f.inside("accuracy"))
    for name, check in (("training", check_training), ("measured", check_measured)):
        found = f.optional_mapping(name) if name in f.values else None
        values[name] = check(f.inside(name)) if found is not None else None
        if found is not None and values["format_version"] < PAPERS_SINCE:
            raise f.fail(f"unknown key '{name}' in format version 1")
    _check_kind(f, values)
    _check_names(f, values)
    return values


def _checked_accuracy(f: Fields) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name in f.values:
        one = f.inside(name).only("correct", "samples", "value", "interval")
        samples = one.integer("samples", 1, 1 << 40)
        accuracy = Accuracy(one.integer("correct", 0, samples), samples).to_json()
        # What is derived is derived again, so that a manifest cannot claim another share.
        for key in ("value", "interval"):
            if key in one.values and not _close(one.values[key], accuracy[key]):
                raise one.fail(f"'{key}' does not follow from 'correct' and 'samples'")
        result[name] = accuracy
    return result


def _close(found: Any, expected: float | list[float]) -> bool:
    if isinstance(expected, list):
        if not isinstance(found, list):
            return False
        items = cast("list[Any]", found)
        return len(items) == len(expected) and all(map(_close, items, expected))
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and abs(found - expected) < 1e-9


def _check_kind(f: Fields, values: dict[str, Any]) -> None:
    kind, split, base, files = (values[k] for k in ("kind", "split", "base", "files"))
    if kind not in KINDS:
        raise f.fail(f"'kind' is '{kind[:40]}', it must be one of {', '.join(KINDS)}")
    if kind == "base" and not (split is base is values["bottleneck"] is None):
        raise f.fail("a base bundle has no 'split', 'bottleneck' or 'base' of its own")
    if kind == "split" and (split is None or not SPLIT.fullmatch(split)):
        raise f.fail(f"'split' is {split!r:.40}, a split bundle needs SP1, SP2, ...")
    if kind == "split" and base is None:
        raise f.fail("a split bundle names its base by sha256 in 'base'")
    needed = {EDGE_FILE, GOLDEN_FILE} | ({TAIL_FILE} if kind == "split" else set())
    for name in sorted(needed - set(files)):
        raise f.fail(f"'files' does not list {name}")
    if CODING_FILE in files and values["format_version"] < CODING_SINCE:
        raise f.fail(f"{CODING_FILE} in format version {values['format_version']}")
    if kind == "base" and TAIL_FILE in files:
        raise f.fail(f"a base bundle is stored uncut, without {TAIL_FILE}")


def _check_names(f: Fields, values: dict[str, Any]) -> None:
    hashes = dict(values["files"]) | ({"base": values["base"]} if values["base"] else {})
    for name, sha256 in hashes.items():
        if not SHA256.fullmatch(sha256):
            raise f.fail(f"'{name[:80]}': {sha256!r:.40} is no sha256")
    for name in values["files"]:
        # A plain name: nothing outside the folder can be named.
        if not FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
            raise f.fail(f"'files': {name!r:.80} is no name of a file of a bundle")
    for name in values["split_points"]:
        if not SPLIT.fullmatch(name):
            raise f.fail(f"'split_points': {name!r:.40} is not SP1, SP2, ...")
    for name, gain in values["gains"].items():
        if gain <= 0:
            raise f.fail(f"the gain of '{name[:80]}' is {gain}, it must be positive")
