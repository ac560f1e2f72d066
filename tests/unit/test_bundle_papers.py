"""A bundle's papers: log, commands and measured table in the manifest, which change nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_bundles import write_base, write_split

from neucodex_lava.bundle import amend, find_base, load_bundle, load_tail
from neucodex_lava.errors import BundleError
from neucodex_lava.evaluation.sweep import find_sweep

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
EPOCH = {
    "run": 1, "epoch": 1, "phase": "float", "loss": 2.5, "train_accuracy": 0.25, "test_accuracy": 0.5,
    "seconds": 3.5,
}  # fmt: skip
TRAINING: dict[str, Any] = {
    "commands": ["neucodex train", "neucodex finetune"],
    "config": {"epochs": 1},
    "log": [EPOCH],
    "float_accuracy": 0.75,
}
SLAYER = {
    "date": "2026-01-02",
    "command": "neucodex verify",
    "samples": 9,
    "correct": 8,
    "executor_correct": 8,
}


CALIBRATION = {
    "date": "2026-01-02", "command": "neucodex calibrate", "dataset": "digits", "data": "test",
    "samples": 5, "seed": 0, "test_samples": 10, "level": 0.05,
}  # fmt: skip
EXITS = {
    "confidence": {"alpha": 0.9},
    "sure": {
        "policy": {"name": "confidence", "t_max": 3, "gain": 64.0, "alpha": 0.5},
        "calibration": CALIBRATION,
    },
}


def exits(**changes: Any) -> dict[str, Any]:
    """The calibrated policy, with other words on how it was calibrated."""
    entry = EXITS["sure"] | {"calibration": CALIBRATION | changes}
    return {"exits": {"sure": entry}}


def table(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        (
            "mean_timesteps", "raw_bits", "packed_bits", "payload_bits", "wire_bytes", "syn_ops",
            "macs", "energy_j", "energy_paper_j",
        ),
        1.0,
    )  # fmt: skip
    row |= {
        "split": "SP3", "configuration": "F+B", "samples": 4, "accuracy": 0.5,
        "accuracy_interval": [0.25, 0.75], "edge_s": None, "roundtrip_s": None, "cloud_s": None,
        "exit_histogram": [4],
    }  # fmt: skip
    results = {
        "dataset": "digits", "architecture": "resnet-small", "encoding": "direct", "seed": 0,
        "t_max": 3, "policy": "confidence", "alpha": 0.9, "backend": "twin", "schedule": "gated",
        "energy_model": "paper-23pJ",
    }  # fmt: skip
    return results | {"rows": [row | changes]}


def test_papers_are_kept_and_change_neither_network_nor_name(tmp_path: Path) -> None:
    before = write_split(tmp_path / "sp3", write_base(tmp_path / "base").sha256)
    measured = {"date": "2026-01-02", "table": table(), "slayer": SLAYER}
    amended = amend(before, training=TRAINING, measured=measured)
    found = load_bundle(tmp_path / "sp3")
    assert found.manifest == amended.manifest
    assert (found.manifest.training, found.manifest.measured) == (TRAINING, measured)
    assert replace(found.manifest, training=None, measured=None) == before.manifest
    assert found.sha256 == before.sha256 == load_tail(tmp_path / "sp3")[2]
    assert (found.net, found.golden) == (before.net, before.golden)
    assert {p.name for p in tmp_path.iterdir()} == {"base", "sp3"}


def test_calibrated_exits_are_kept_and_change_neither_network_nor_name(tmp_path: Path) -> None:
    before = write_base(tmp_path / "base")
    split = write_split(tmp_path / "sp3", before.manifest.identity_in_format_1())
    amended = amend(before, exits=EXITS)
    found = load_bundle(tmp_path / "base")
    assert found.manifest == amended.manifest
    assert found.manifest.exits == EXITS
    assert replace(found.manifest, exits=before.manifest.exits) == before.manifest
    assert found.sha256 == before.sha256
    assert find_base(split).sha256 == before.sha256, "a split of format 1 still names this base"


def test_a_base_exported_again_or_amended_keeps_its_splits(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    split = write_split(tmp_path / "sp3", base.sha256)
    again = write_base(
        tmp_path / "base", created="2030-01-01", seed=8, accuracy={}, training=TRAINING
    )
    assert find_base(split).manifest == again.manifest != base.manifest
    amend(again, measured={"date": "", "table": table()})
    assert find_sweep(tmp_path)[1][0].manifest == split.manifest


@pytest.mark.parametrize(
    "change",
    [{"gains": {"readout": 65.0}}, {"encoding": {"name": "direct"}}, {"split_points": {"SP1": 1}}],
)
def test_what_decides_answers_decides_the_name(change: dict[str, Any], tmp_path: Path) -> None:
    assert write_base(tmp_path / "a").sha256 != write_base(tmp_path / "b", **change).sha256


def test_bundles_of_format_1_load_and_their_splits_find_an_amended_base(tmp_path: Path) -> None:
    for name in ("base", "sp1"):
        shutil.copytree(RELEASED / name, tmp_path / name)
    base, split = load_bundle(tmp_path / "base"), load_bundle(tmp_path / "sp1")
    if base.manifest.format_version == 1:
        assert base.manifest.to_json() == (RELEASED / "base" / "manifest.json").read_bytes()
    old = json.loads((tmp_path / "base" / "manifest.json").read_text())
    for name in ("training", "measured"):
        old.pop(name, None)
    old["exits"] = {"confidence": {"alpha": 0.9}}
    old["files"].pop("coding.safetensors", None)
    text = (json.dumps(old | {"format_version": 1}, indent=2, sort_keys=True) + "\n").encode()
    (tmp_path / "base" / "manifest.json").write_bytes(text)
    base = load_bundle(tmp_path / "base")
    assert (base.manifest.format_version, base.manifest.training) == (1, None)
    told = json.loads((tmp_path / "sp1" / "manifest.json").read_text()) | {"base": base.sha256}
    (tmp_path / "sp1" / "manifest.json").write_text(json.dumps(told))
    split = load_bundle(tmp_path / "sp1")
    assert find_base(split).sha256 == base.sha256
    amended = amend(base, training=TRAINING)
    assert amended.manifest.format_version == 2
    assert amended.sha256 != base.sha256
    assert find_base(split).manifest.training == TRAINING
    assert find_sweep(tmp_path)[0].sha256 == amended.sha256


BAD: list[tuple[dict[str, Any], str]] = [
    ({"training": TRAINING | {"commands": []}}, "'commands' must be a list of 1 to 16"),
    ({"training": TRAINING | {"commands": [7]}}, "must be short strings"),
    ({"training": TRAINING | {"log": [EPOCH | {"loss": "low"}]}}, r"log\[0\].*'loss' is 'low'"),
    ({"training": TRAINING | {"log": [EPOCH | {"run": 2}]}}, r"'run' is 2, outside \[0, 1\]"),
    ({"training": TRAINING | {"float_accuracy": 75}}, "share from 0 to 1"),
    ({"measured": {"date": "", "table": table(accuracy=0.9)}}, "'table'.*accuracy 0.9 in"),
    ({"measured": {"date": "", "table": table(syn_ops=-1)}}, "syn_ops.*negative"),
    ({"measured": {"table": table()}}, "'date' is missing"),
    ({"measured": {"colour": 1}}, "unknown key 'colour'"),
    ({"measured": {"slayer": SLAYER | {"correct": 7}}}, "cannot come of equal sums"),
    ({"measured": {"slayer": SLAYER | {"correct": 10}}}, r"outside \[0, 9\]"),
    ({"exits": {"confidence": 0.9}}, "'confidence' is 0.9, it must be an object"),
    ({"exits": {"confidence": {"alpha": 1.5}}}, r"'alpha' is 1.5, outside \(0, 1\]"),
    ({"exits": {"confidence": {"beta": 1}}}, "unknown key 'beta'"),
    (
        {"exits": {"sure": {"policy": {"t_max": 3}, "calibration": CALIBRATION}}},
        "'name' is missing",
    ),
    ({"exits": {"sure": {"policy": {"name": "fixed"}}}}, "'calibration' is missing"),
    (exits(data="train"), "'data' must be one of holdout, test"),
    (exits(samples=0), r"'samples' is 0, outside \[1"),
    (exits(seed=0.5), "'seed' is 0.5, it must be an integer"),
    (exits(seed=-1), r"'seed' is -1, outside \[0"),
    ({"exits": {"structural-x": {"alpha": 0.5}}}, "structural-x.*'policy' is missing"),
    ({"exits": {"place-sp2": {"alpha": 0.5}}}, "place-sp2.*'policy' is missing"),
    (
        {"exits": {"place-sp2": {"policy": {"name": "place"}, "calibration": CALIBRATION}}},
        "'model' is missing",
    ),
    (
        {"exits": {"place-sp2": EXITS["sure"]}},
        "'model' is missing",
    ),
    ({"exits": {f"p{i}": {"alpha": 0.5} for i in range(65)}}, "65 policies, at most 64"),
]


@pytest.mark.parametrize(("papers", "problem"), BAD, ids=[p for _, p in BAD])
def test_papers_that_are_none_are_one_clear_line(
    papers: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    bundle = write_base(tmp_path / "base")
    before = (tmp_path / "base" / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match=problem):
        amend(bundle, **papers)
    assert (tmp_path / "base" / "manifest.json").read_bytes() == before
    (tmp_path / "base" / "manifest.json").write_text(json.dumps(json.loads(before) | papers))
    with pytest.raises(BundleError, match=problem):
        load_bundle(tmp_path / "base")


def test_format_1_has_no_papers(tmp_path: Path) -> None:
    write_base(tmp_path / "base")
    path = tmp_path / "base" / "manifest.json"
    told = json.loads(path.read_text()) | {"format_version": 1, "training": TRAINING}
    path.write_text(json.dumps(told))
    with pytest.raises(BundleError, match="unknown key 'training' in format version 1"):
        load_bundle(tmp_path / "base")
