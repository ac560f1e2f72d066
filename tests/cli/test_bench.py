"""``neucodex bench``: each benchmark runs and gives the ratio it promises."""

import json
from pathlib import Path

import pytest

from neucodex_lava import bench
from neucodex_lava.cli.main import run
from neucodex_lava.errors import ConfigError, MissingDependencyError


@pytest.mark.parametrize(
    ("name", "case"),
    [("sim", "small_resnet"), ("executor", "resnet18_sp3_48_images"), ("bridge", "echo_p50")],
)
def test_a_benchmark_gives_ratios(name: str, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", name, "--case", case, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == name
    assert case in [c["case"] for c in result["cases"]]
    for found in result["cases"]:
        assert found["baseline"]
        assert found["ratio"] == pytest.approx(found["baseline_s"] / found["ours_s"])


def test_codec_is_within_its_limit_and_never_above_packed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bench", "codec", "--case", "8k_0.10", "--case", "digits_sp1", "--json"]) == 0
    synthetic, released = json.loads(capsys.readouterr().out)["cases"]
    assert (synthetic["raw_bits"], synthetic["packed_bytes"]) == (8192, 1024)
    assert synthetic["activity"] == pytest.approx(0.1, abs=0.005)
    assert synthetic["most_over_limit_bytes"] <= 0
    assert synthetic["limit_bytes"] - 1 < synthetic["coded_bytes"] < synthetic["zstd_bytes"] < 1024
    assert synthetic["own_entropy_bytes"] <= synthetic["limit_bytes"]
    for found in (synthetic, released):
        assert found["baseline"] == "bit-packed"
        assert found["ratio"] == pytest.approx(found["baseline_s"] / found["ours_s"])
        assert found["most_over_packed_bytes"] <= 0
    assert released["coded_bytes"] < 0.9 * released["packed_bytes"]


def test_without_a_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    with pytest.raises(MissingDependencyError, match="'sim' is not installed"):
        bench.run_bench("sim")


def test_a_case_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no benchmark case 'big'"):
        bench.run_bench("sim", cases=["big"])
    with pytest.raises(ConfigError, match="no benchmark case 'big'"):
        bench.run_bench("executor", cases=["big"])
    with pytest.raises(ConfigError, match="no benchmark case 'big'"):
        bench.run_bench("bridge", cases=["big"])
    with pytest.raises(ConfigError, match="no benchmark case 'big'"):
        bench.run_bench("codec", cases=["big"])
    with pytest.raises(ConfigError, match="'exits' has no cases"):
        bench.run_bench("exits", cases=["one"])
