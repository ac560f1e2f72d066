"""The simulation benchmark gives what it promises, and `fused` is far ahead."""

import pytest

from benchmarks import sim
from neucodex_lava.errors import ConfigError

pytestmark = pytest.mark.lava


def test_bench_sim() -> None:
    result = sim.run(cases=["small_resnet"])
    (case,) = result["cases"]
    assert result["name"] == "sim"
    assert case["ratio"] == case["baseline_s"] / case["ours_s"]
    assert case["ratio"] > 10
    assert case["synops_per_s"] > 0
    assert 0.05 < case["firing_rate"] < 0.5


def test_an_unknown_case() -> None:
    with pytest.raises(ConfigError, match="'big'"):
        sim.run(cases=["big"])
