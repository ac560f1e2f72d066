"""``neucodex bench train``: what it measures, and what it says where peers are missing."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import train, train_client
from benchmarks.train_block import conv_norm, peak_bytes, spikes
from benchmarks.train_steps import our_block, slayer_block
from neucodex_lava.bench import run_bench
from neucodex_lava.cli.main import run
from neucodex_lava.errors import ConfigError, SimulationError


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "ROUNDS", 2)
    monkeypatch.setattr(train, "WARM_UP", 1)


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(train, "PEER_PYTHON", tmp_path / ".venv-peers" / "bin" / "python")


@pytest.mark.usefixtures("no_peers")
def test_ours_against_convolution_and_slayer(capsys: pytest.CaptureFixture[str]) -> None:
    cases = ["--case", "conv", "--case", "slayer", "--case", "snntorch"]
    assert run(["bench", "train", *cases, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    conv, slayer = result["cases"]
    assert [conv["case"], slayer["case"]] == ["conv", "slayer"]
    for found in result["cases"]:
        assert found["ratio"] == pytest.approx(found["baseline_s"] / found["ours_s"])
        assert found["rounds"] == 2
    assert conv["baseline_s"] == min(conv["layouts_s"].values())
    assert conv["goal"] == pytest.approx(1 / 1.4)
    # A map of float32 is 8 MiB: a convolution holds its output and the gradient of its input.
    assert 16 < conv["baseline_peak_mib"] < 34
    assert slayer["ours_peak_mib"] < slayer["baseline_peak_mib"] / 2
    assert slayer["dropin_peak_mib"] < slayer["baseline_peak_mib"] / 2
    (skipped,) = result["skipped"]
    assert skipped["case"] == "snntorch"
    assert skipped["hint"] == "make peers"


@pytest.mark.usefixtures("no_peers")
def test_peers_that_are_missing_are_left_out_with_the_way_to_get_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bench", "train", "--case", "conv", "--case", "spikingjelly"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "spikingjelly left out" in shown
    assert "make peers" in shown
    assert run(["bench", "train", "--case", "spikingjelly", "--case", "snntorch"]) == 2
    assert "there is no .venv-peers" in capsys.readouterr().err


def test_a_peer_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own environment has no snnTorch, so its Python stands for a broken one."""
    monkeypatch.setattr(train_client, "PEER_PYTHON", Path(sys.executable))
    with (
        train_client.peer_worker(True) as ask,
        pytest.raises(SimulationError, match=r"snntorch could not be measured: ModuleNotFound"),
    ):
        ask("time", "snntorch", "nchw")


@pytest.mark.skipif(not train_client.PEER_PYTHON.is_file(), reason="needs `make peers`")
def test_peers_run_beside_ours() -> None:
    result = run_bench("train", cases=["snntorch", "spikingjelly"])
    assert [c["case"] for c in result["cases"]] == ["snntorch", "spikingjelly"]
    for found in result["cases"]:
        assert found["baseline"].startswith(found["case"])
        assert found["baseline_s"] > 0
        assert found["baseline_peak_mib"] > found["ours_peak_mib"] > 16


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(ConfigError, match="no benchmark case 'norse'"):
        train.run(cases=["norse"])


def test_peak_memory_is_what_is_held_at_once() -> None:
    def step() -> None:
        a = torch.ones(1 << 18)
        b = a + 1
        del a, b
        torch.ones(1 << 17)

    assert peak_bytes(step) == pytest.approx(2 << 20, abs=64)


def test_all_sides_do_the_same_work() -> None:
    """Same input, same weights; each leaves gradients nowhere, so that no round pays for another's."""
    assert torch.equal(spikes("nchw"), spikes("channels_last"))
    assert torch.equal(conv_norm("nchw")[0].weight, conv_norm("channels_last")[0].weight)
    assert 0.19 < spikes("nchw").mean() < 0.21
    for make in (lambda: our_block(torch.float32), lambda: slayer_block(fast=True)):
        assert peak_bytes(make()) == peak_bytes(make())
