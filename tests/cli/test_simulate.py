"""simulate: all samples in the executor, some confirmed in Lava; lone NetX files; what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import START_S, running

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.evaluation.samples import load_samples

pytestmark = pytest.mark.lava


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    assert run([str(a) for a in args] + ["--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_all_samples_on_the_executor_some_confirmed_in_lava(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["simulate", released / "sp1", "--backend", "twin", "--samples", 0, "--confirm", 7]
    whole = answer(capsys, *args, "--ledger", tmp_path / "a.json")
    assert (whole["samples"], whole["backend"], whole["schedule"]) == (360, "twin", "gated")
    assert whole["ran"] == {"twin": 360, "fused": 7}
    assert len(set(whole["confirmed"])) == 7
    assert set(whole["confirmed"]) < set(range(360))
    assert set(whole["seconds"]) == {"twin", "fused"}
    assert all(s > 0 for s in whole["seconds"].values())
    other = answer(capsys, *args, "--seed", 1, "--batch-size", 50, "--ledger", tmp_path / "b.json")
    assert other["confirmed"] != whole["confirmed"]
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    fused = answer(capsys, "simulate", released / "sp1", "--samples", 0)
    assert fused["layers"] == whole["layers"]
    assert (fused["ran"], fused["confirmed"]) == ({"fused": 360}, [])


def test_the_table_says_who_ran_what(released: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["simulate", released / "sp1", "--backend", "twin", "--samples", "30", "--confirm", "2"]
    assert run([str(a) for a in args]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "30 samples, gated: 30 on twin in" in text
    assert "2 on fused in" in text
    assert "these 2 agree in every spike of the code, sum and count" in text


@pytest.mark.parametrize("backend", ["fused", "reference", "twin"])
def test_a_lone_file_on_a_file_of_samples(
    backend: str, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load_bundle(released / "sp1")
    inputs, _ = load_samples(bundle, 4)
    np.save(tmp_path / "x.npy", inputs)
    schedule = ["--schedule", "pipelined"] if backend != "twin" else []
    args = ["simulate", released / "sp1" / "edge.net", "--input", tmp_path / "x.npy"]
    found = answer(capsys, *args, "--backend", backend, *schedule)
    same = ["simulate", released / "sp1", "--samples", 4, "--backend", backend, *schedule]
    assert found["layers"] == answer(capsys, *same)["layers"]
    assert found["samples"] == 4


def test_a_lone_file_on_random_input(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = released / "sp1" / "edge.net"
    args = ["simulate", file, "--samples", 3, "--rate", 0.5, "--backend", "twin", "--confirm", 3]
    first = answer(capsys, *args)
    assert (first["samples"], first["confirmed"]) == (3, [0, 1, 2])
    assert answer(capsys, *args)["layers"] == first["layers"]
    assert answer(capsys, *args, "--seed", 5)["layers"] != first["layers"]
    short = answer(capsys, *args, "--timesteps", 2)
    updates = [layer["dendrite_updates"] for layer in first["layers"]]
    assert [2 * layer["dendrite_updates"] for layer in short["layers"]] == updates
    assert answer(capsys, "simulate", file)["samples"] == 10


def bad_arrays(folder: Path) -> dict[str, Path]:
    shape = (2, 1, 8, 8, 4)
    arrays: dict[str, Any] = {
        "float": np.zeros(shape),
        "axes": np.zeros(shape[1:], np.uint8),
        "shape": np.zeros((2, 3, 8, 8, 4), np.uint8),
        "value": np.full(shape, 2, np.uint8),
        "none": np.zeros((0, 1, 8, 8, 4), np.uint8),
    }
    paths = {name: folder / f"{name}.npy" for name in (*arrays, "pickle", "short", "text", "huge")}
    for name, array in arrays.items():
        np.save(paths[name], array)
    np.save(paths["pickle"], np.array([{"a": 1}], object), allow_pickle=True)
    np.save(paths["short"], np.zeros(shape, np.uint8))
    whole = paths["short"].read_bytes()
    paths["short"].write_bytes(whole[:-1])
    paths["huge"].write_bytes(whole.replace(b"(2, 1, 8, 8, 4)", b"(2, 9999999999, 8, 8, 4)")[:900])
    paths["text"].write_text("0 1 0")
    paths["several"] = folder / "several.npz"
    np.savez(paths["several"], a=arrays["value"], b=arrays["value"])
    for name in ("zip", "cut", "header", "bools"):
        paths[name] = folder / f"{name}.npy"
    paths["zip"].write_bytes(b"PK" + whole[2:])
    paths["cut"].write_bytes(paths["several"].read_bytes()[:-30])
    paths["header"].write_bytes(whole.replace(b"(2, 1,", b"(2, ((", 1))
    paths["bools"].write_bytes(whole.replace(b"(2, 1, 8, 8, 4)", b"(True,1,8,8,4) "))
    paths["missing"] = folder / "missing.npy"
    return paths


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float", "holds float64 of 5 axes"),
        ("axes", "holds uint8 of 4 axes"),
        ("shape", "input has shape (3, 8, 8), the network takes (1, 8, 8)"),
        ("value", "input value 2 is above 1"),
        ("none", "there is nothing to run"),
        ("pickle", "holds no array that can be read"),
        ("short", "holds no array that can be read"),
        ("text", "holds no array that can be read"),
        ("huge", "holds no array that can be read"),
        ("zip", "holds no array that can be read"),
        ("cut", "holds no array that can be read"),
        ("header", "holds no array that can be read"),
        ("bools", "holds no array that can be read"),
        ("several", "holds several arrays"),
        ("missing", "is no file"),
    ],
)
@pytest.mark.parametrize("backend", ["twin", "fused"])
def test_input_files_that_are_refused(
    backend: str,
    name: str,
    expected: str,
    released: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = bad_arrays(tmp_path)[name]
    args = ["simulate", released / "sp1" / "edge.net", "--input", path, "--backend", backend]
    assert run([str(a) for a in args]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["{sp1}", "--confirm", "5"], "--confirm goes with --backend twin, not with fused"),
        (["{sp1}", "--out", "x"], "--out goes with --backend twin"),
        (["{sp1}", "--batch-size", "5"], "--batch-size goes with --backend twin"),
        (["{sp1}", "--device", "cuda"], "--device goes with --backend twin"),
        (["{sp1}", "--backend", "twin", "--confirm", "-1"], "-1 samples to confirm"),
        (["{sp1}", "--backend", "twin", "--batch-size", "0"], "batch size 0 is below 1"),
        (["{sp1}", "--backend", "twin", "--device", "tpu9"], "device 'tpu9' cannot be used"),
        (["{sp1}", "--input", "x.npy"], "--input is for a lone NetX file"),
        (["{sp1}", "--skip-layers", "1"], "--skip-layers is for a lone NetX file"),
        (["{net}", "--split", "SP1"], "--split is for a bundle"),
        (["{net}", "--data-root", "x"], "--data-root is for a bundle"),
        (["{net}", "--samples", "0"], "0 samples asked for"),
        (["{net}", "--input", "{npy}", "--rate", "0.1"], "--input brings its own"),
        (["{net}", "--input", "{npy}", "--samples", "1"], "--input brings its own"),
        (["{sp1}/none.net"], "none.net"),
    ],
)
def test_options_that_are_refused(
    args: list[str],
    expected: str,
    released: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 8, 8, 4), np.uint8))
    names = {
        "sp1": released / "sp1",
        "net": released / "sp1" / "edge.net",
        "npy": tmp_path / "x.npy",
    }
    assert run(["simulate", *(a.format(**names) for a in args)]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.terminal
def test_ctrl_c_and_the_same_command_goes_on(released: Path, tmp_path: Path) -> None:
    folder, ledger = tmp_path / "run", tmp_path / "ledger.json"
    args = ["simulate", released / "sp1" / "edge.net", "--backend", "twin", "--samples", 6_000]
    args += ["--confirm", 2, "--batch-size", 1]
    with running(*args, "--out", folder, terminal=True) as program:
        program.await_text("simulate twin .* ([3-9][0-9]{2}|[1-9][0-9]{3})/6000")
        program.press(b"\x03")
        assert program.await_end(START_S) == 130, program.described()
        kept = f"neucodex: what was finished is kept in '{folder}', the same command goes on from there"
        assert program.lines == [kept, "neucodex: interrupted"], program.described()
        program.assert_nothing_left()
    assert not ledger.exists()
    finished = len(list(folder.glob("part-*.npz")))
    assert 1 <= finished < 24
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", *[".npz"] * finished]
    with running(*args, "--out", folder, "--ledger", ledger, "--json") as program:
        assert program.await_end(2 * START_S) == 0, program.described()
        found = json.loads(program.out)
    assert found["ran"] == {"twin": 6_000, "fused": 2}
    assert found["resumed"] == 250 * finished
    whole = tmp_path / "whole.json"
    with running(*args[:-2], "--ledger", whole, "--json") as program:
        assert program.await_end(2 * START_S) == 0, program.described()
        assert json.loads(program.out)["resumed"] == 0
    assert ledger.read_bytes() == whole.read_bytes()
