"""The demo as people run it, small: all stages really run, and a tampered one is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from main_job import T_MAX, Events, answer, command, configurations, rows_of, silence_slayer

import neucodex_lava.demo as demo_module
from neucodex_lava.bundle import load_bundle
from neucodex_lava.config import BottleneckConfig, DataConfig, ResNetConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's settings, shrunk: its stages stay as they are."""

    def base_training(seed: int) -> TrainConfig:
        return TrainConfig(epochs=2, qat_epochs=1, batch_size=32, lr=0.03, seed=seed, threads=1)

    def split_training(seed: int) -> TrainConfig:
        return replace(base_training(seed), epochs=1, lr=0.02)

    small = ResNetConfig("resnet-small", widths=(4, 8, 16), blocks=(1, 1, 1))
    monkeypatch.setattr(demo_module, "RESNETS", {"resnet-small": small})
    monkeypatch.setattr(demo_module, "DATA", DataConfig(timesteps=T_MAX, train_limit=600))
    bottlenecks = (BottleneckConfig(1, 4, 2), BottleneckConfig(3, 8, 1))
    monkeypatch.setattr(demo_module, "BOTTLENECKS", bottlenecks)
    monkeypatch.setattr(demo_module, "base_training", base_training)
    monkeypatch.setattr(demo_module, "split_training", split_training)


@pytest.mark.lava
@pytest.mark.usefixtures("small_demo")
def test_the_demo_runs_to_its_end_and_refuses_bundles_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    with monkeypatch.context() as watched:
        events.watch(watched)
        status, out, err = command(
            "demo", "--out", tmp_path, "--confirm", 3, "--alpha", 0.2, "--json"
        )
    assert status == 0, err
    results = json.loads(out)
    for stage in range(1, 6):
        assert f"{stage}/5 " in err
    rows = rows_of(results)
    assert list(rows) == configurations("SP1", "SP3")
    assert {r["samples"] for r in rows.values()} == {360}
    assert {r["measured_samples"] for r in rows.values()} == {3}
    assert len(events.measured) == len(rows)
    assert sum(int(m.exits.timesteps.sum()) for m in events.measured if m.ledger is not None) == (
        len(events.edge)
    )
    page = Path(results["report"])
    assert page.is_file()
    assert page.is_relative_to(tmp_path)
    assert json.loads((page.parent / "results.json").read_text())["rows"] == results["rows"]

    exports = tmp_path / "netx_exports" / "resnet-small-digits"
    bundles = {p.name: load_bundle(p) for p in sorted(exports.iterdir())}
    assert list(bundles) == ["base", "sp1", "sp3"]
    for name, bundle in bundles.items():
        assert f"{name}: exact on slayer, twin, fused, reference" in err
        report = answer(
            "verify", bundle.path, "--run", tmp_path / "runs" / name, "--backends", "slayer", "twin"
        )
        assert report["backends"] == ["slayer", "twin"]
        accuracy = bundle.manifest.accuracy["test"]["value"]
        row = (None, "edge-only") if name == "base" else (name.upper(), "F+B")
        assert rows[row]["accuracy"] == accuracy
        assert rows["SP1", "F-B"]["accuracy"] == rows[None, "edge-only"]["accuracy"]

    # The same folder again: nothing is left to train, and SLAYER's record is now another.
    silence_slayer(monkeypatch)
    status, _, err = command("demo", "--out", tmp_path, "--confirm", 3)
    assert status == 2
    assert "differs" in err.splitlines()[-1]
    assert "4/5" not in err
