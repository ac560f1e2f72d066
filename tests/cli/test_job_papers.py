"""The papers of a small job's bundles: log and commands, measured table, SLAYER on test data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from main_job import T_MAX, TRAINING, Job, answer, command, silence_slayer

from neucodex_lava.bundle import load_bundle

SAMPLES = 40


@pytest.fixture
def bundles(job: Job, tmp_path: Path) -> Path:
    """A copy of the job's bundles, to write into."""
    shutil.copytree(job.folder / "bundles", tmp_path / "bundles")
    return tmp_path / "bundles"


def test_export_keeps_the_log_and_every_command(job: Job, bundles: Path) -> None:
    runs = {n: json.loads((job.run_of(n) / "run.json").read_text()) for n in ("base", "sp1")}
    papers = {name: load_bundle(bundles / name).manifest.training for name in runs}
    for name, run in runs.items():
        place = len(papers[name]["commands"]) - 1
        assert papers[name]["log"] == [epoch | {"run": place} for epoch in run["history"]]
        assert papers[name]["config"] == run["train"]
        assert len(papers[name]["log"]) == run["train"]["epochs"] + run["train"]["qat_epochs"]
    assert papers["base"]["commands"] == [runs["base"]["command"]]
    assert papers["sp1"]["commands"] == [runs["base"]["command"], runs["sp1"]["command"]]


def test_a_run_from_another_keeps_both_logs(job: Job, tmp_path: Path) -> None:
    base = job.run_of("base")
    made = json.loads((base / "run.json").read_text())
    answer(
        "train", "--width", 0.25, "--timesteps", T_MAX, "--train-limit", 200, "--epochs", 1,
        *TRAINING, "--init", base, "--out", tmp_path / "run",
    )  # fmt: skip
    answer("export", tmp_path / "run", "--out", tmp_path / "bundle")
    own = json.loads((tmp_path / "run" / "run.json").read_text())
    papers = load_bundle(tmp_path / "bundle").manifest.training
    assert papers["commands"] == [made["command"], own["command"]]
    logs = [[e for e in papers["log"] if e["run"] == i] for i in (0, 1)]
    assert [len(log) for log in logs] == [len(made["history"]), len(own["history"])] == [4, 2]
    assert papers["log"] == logs[0] + logs[1]
    assert papers["float_accuracy"] == own["float_accuracy"]


def test_a_sweep_records_each_bundle_its_rows_and_nothing_breaks(bundles: Path) -> None:
    before = {n: load_bundle(bundles / n) for n in ("base", "sp1")}
    printed = answer(
        "sweep", bundles, "--confirm", 0, "--alpha", 0.5, "--record", "--out", bundles / "out"
    )
    rows = {(r["split"], r["configuration"]): r for r in printed["rows"]}
    kept = {
        "base": {(None, "edge-only"), (None, "edge-only dynamic"), (None, "cloud-only"),
                 ("SP1", "F-B"), ("SP1", "D-B")},
        "sp1": set(rows),
    }  # fmt: skip
    for name, expected in kept.items():
        bundle = load_bundle(bundles / name)
        table = bundle.manifest.measured["table"]
        found = {(r["split"], r["configuration"]): r for r in table["rows"]}
        assert set(found) == expected
        for key, row in found.items():
            assert row == rows[key] | {"layers": []}
        assert (table["alpha"], table["command"]) == (0.5, printed["command"])
        assert bundle.sha256 == before[name].sha256
        assert bundle.net == before[name].net
    # The table of one bundle alone leaves the other as it is.
    other = (bundles / "base" / "manifest.json").read_bytes()
    answer("evaluate", bundles / "sp1", "--confirm", 0, "--samples", 9, "--record", "--out",
           bundles / "out")  # fmt: skip
    assert load_bundle(bundles / "sp1").manifest.measured["table"]["rows"][0]["samples"] == 9
    assert (bundles / "base" / "manifest.json").read_bytes() == other


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_slayer_gives_the_executors_sums_on_test_samples(
    name: str, job: Job, bundles: Path
) -> None:
    found = answer(
        "verify", bundles / name, "--run", job.run_of(name), "--backends", "twin",
        "--dataset-samples", SAMPLES, "--record",
    )["dataset"]  # fmt: skip
    assert found["samples"] == SAMPLES
    assert found["sum_differences"] == found["spike_differences"] == 0
    assert found["first_difference"] is None
    recorded = load_bundle(bundles / name).manifest.measured["slayer"]
    assert (recorded["samples"], recorded["correct"]) == (SAMPLES, found["slayer_correct"])
    whole = answer("verify", bundles / name, "--run", job.run_of(name), "--backends", "twin",
                   "--dataset-samples", 0)["dataset"]  # fmt: skip
    accuracy = load_bundle(bundles / name).manifest.accuracy_of("test")
    assert (whole["executor_correct"], whole["samples"]) == (accuracy.correct, accuracy.samples)


def test_another_slayer_is_found_and_not_recorded(
    job: Job, bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence_slayer(monkeypatch)
    before = (bundles / "sp1" / "manifest.json").read_bytes()
    found = answer(
        "verify", bundles / "sp1", "--run", job.run_of("sp1"), "--backends", "twin",
        "--dataset-samples", 9, "--record", status=1,
    )["dataset"]  # fmt: skip
    assert found["sum_differences"] > 0
    assert found["spike_differences"] > 0
    first = found["first_difference"]
    assert (first["layer"], first["sample"], first["timestep"]) == ("stem", 0, 1)
    assert (first["quantity"], first["found"]) == ("spikes", 0)
    assert first["expected"] > 0
    assert (bundles / "sp1" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (("verify", "sp1", "--dataset-samples", 5), "pass --run DIR"),
        (("verify", "sp1", "--record"), "--record keeps what --dataset-samples found"),
        (("verify", "sp1/edge.net", "--record"), "--record is for a bundle"),
        (("verify", "sp1/edge.net", "--dataset-samples", 5), "--dataset-samples is for a bundle"),
        (("evaluate", "sp1", "--dataset", "mnist", "--record"), "leave out --dataset or --record"),
    ],
)
def test_what_cannot_be_recorded_is_one_clear_line(
    args: tuple[object, ...], problem: str, bundles: Path
) -> None:
    status, out, err = command(args[0], bundles / str(args[1]), *args[2:])
    assert (status, out) == (2, "")
    assert problem in err
    assert len(err.splitlines()) == 1
