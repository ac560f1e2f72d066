"""The cloud's end on its own: no Lava, no SLAYER, a current torch, and the same running sums."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.evaluation.serve import open_tail

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
ALONE = importlib.util.find_spec("lava") is None
WHY = "needs an environment without Lava: make cloud-check"
COMMAND = str(Path(sys.executable).with_name("neucodex"))


@pytest.mark.parametrize("name", ["sp1", "sp2", "sp3"])
def test_a_served_tail_gives_the_golden_sums(name: str) -> None:
    bundle = load_bundle(RELEASED / name)
    golden, tail = bundle.golden, open_tail(RELEASED / name)
    codes = golden.spikes[bundle.net.output]
    assert tail.model == bundle.sha256
    for n in range(golden.samples):
        state = tail.new_state()
        for t in range(bundle.net.timesteps):
            state, sums = tail.step(state, codes[n, ..., t])
            np.testing.assert_array_equal(sums, golden.sums[n, :, t])


def test_a_base_cut_anywhere_gives_the_golden_sums() -> None:
    bundle = load_bundle(RELEASED / "base")
    golden = bundle.golden
    for cut in bundle.net.legal_cuts()[:-1]:
        net = bundle.net.with_cut(cut)
        codes = golden.inputs if cut == 0 else golden.spikes[net.output]
        tail = TorchTail(net, bundle.sha256, bundle.readout_gain)
        state = tail.new_state()
        for t in range(net.timesteps):
            state, sums = tail.step(state, codes[0, ..., t])
            np.testing.assert_array_equal(sums, golden.sums[0, :, t])


@pytest.mark.skipif(not ALONE, reason=WHY)
def test_neither_lava_nor_slayer_is_here_and_torch_is_newer_than_training_s() -> None:
    import torch

    assert sys.version_info >= (3, 11)
    for missing in ("lava", "lava.lib.dl", "numba", "torchvision", "tonic"):
        with pytest.raises(ModuleNotFoundError):
            importlib.util.find_spec(missing) or __import__(missing)
    assert tuple(map(int, torch.__version__.split(".")[:2])) > (2, 3)


@pytest.mark.skipif(not ALONE, reason=WHY)
def test_verify_compares_the_executor_with_the_golden_record() -> None:
    run = subprocess.run(
        [COMMAND, "verify", str(RELEASED / "sp2"), "--backends", "twin", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    report = json.loads(run.stdout)
    assert report["backends"] == ["twin"]
    assert (report["spike_differences"], report["counter_differences"]) == (0, 0)
    assert report["samples"] * report["timesteps"] > 0


@pytest.mark.skipif(not ALONE, reason=WHY)
def test_what_needs_lava_says_so_in_one_line() -> None:
    run = subprocess.run(
        [COMMAND, "simulate", str(RELEASED / "sp3"), "--samples", "1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "needs the package 'numba'" in run.stderr
    assert "doctor" in run.stderr
