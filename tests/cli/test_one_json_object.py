"""With --json every verb writes one JSON object to stdout and nothing else: no warning of a library."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from running import START_S, running

pytestmark = [pytest.mark.lava, pytest.mark.timeout(150)]

SMALL = "--epochs 1 --qat-epochs 1 --batch-size 32".split()
MANY = """
import json, os, sys
from neucodex_lava.cli.main import run

for number, words in enumerate(json.loads(sys.argv[1])):
    sys.stdout.flush()
    os.dup2(os.open(f"{sys.argv[2]}/{number}", os.O_WRONLY | os.O_CREAT), 1)
    assert run(words + ["--json"]) == 0, words
"""
"""Several verbs in one process, which saves the imports: the standard output of each in a file."""

DEMO = """
import sys
from neucodex_lava import demo
from neucodex_lava.cli import main
from neucodex_lava.config import DataConfig, TrainConfig

demo.DATA = DataConfig(dataset="digits", timesteps=2, train_limit=64)
demo.BOTTLENECKS = demo.BOTTLENECKS[:1]
demo.base_training = demo.split_training = lambda seed: TrainConfig(epochs=0, qat_epochs=1, seed=seed)
main(sys.argv[1:])
"""
"""The demo as it is, on a network that hardly learns."""


def answer(*args: object, **options: Any) -> dict[str, Any]:
    """The one object that a process printed."""
    with running(*args, "--json", **options) as program:
        assert program.await_end(120) == 0, program.described()
        assert "Traceback" not in program.err
        return one_object(program.out)


def one_object(out: str) -> dict[str, Any]:
    assert out.endswith("}\n"), out
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_train_finetune_and_export_in_processes_of_their_own(tmp_path: Path) -> None:
    # Each of them is the first to import lava-dl, which prints.
    run, split = tmp_path / "base", tmp_path / "sp1"
    sizes = ["--train-limit", 64, "--width", 0.25, "--timesteps", 2]
    trained = answer("train", *SMALL, *sizes, "--out", run)
    assert (trained["run"], trained["epochs"]) == (str(run), 2)
    tuned = answer("finetune", run, "--split", "SP1", *SMALL, "--out", split)
    assert (tuned["run"], tuned["epochs"]) == (str(split), 2)
    exported = answer("export", run, "--out", tmp_path / "bundles" / "base")
    assert (exported["kind"], exported["split"]) == ("base", None)
    assert exported["bundle"] == str(tmp_path / "bundles" / "base")


def test_the_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    args = ("--out", out, "--confirm", 2, "--policy", "confidence", "topk")
    found = answer("demo", *args, command=[sys.executable, "-c", DEMO])
    rows = [(r["configuration"], r["policy"]) for r in found["rows"] if r["split"] == "SP1"]
    assert rows == [
        ("F-B", "fixed"), ("D-B", "confidence"), ("D-B", "topk"),
        ("F+B", "fixed"), ("D+B", "confidence"), ("D+B", "topk"),
    ]  # fmt: skip
    assert found["left_out"] == 180, "the half that topk was calibrated on"
    assert Path(found["report"]).is_file()


def test_every_other_verb(released: Path, tmp_path: Path) -> None:
    sp1, ledger, report = released / "sp1", tmp_path / "ledger.json", tmp_path / "report"
    commands: list[tuple[list[object], str]] = [
        (["verify", sp1], "spike_differences"),
        (["simulate", sp1, "--samples", 2, "--ledger", ledger], "layers"),
        (["simulate", sp1, "--samples", 2, "--backend", "reference"], "layers"),
        (["energy", ledger], "energy_j"),
        (["evaluate", sp1, "--samples", 8, "--confirm", 2, "--out", report], "rows"),
        (["sweep", released, "--samples", 8, "--confirm", 0, "--out", report], "rows"),
        (["report", report / "results.json", "--out", tmp_path / "again"], "report"),
        (["reproduce", "table1", "--exports", released, "--samples", 8, "--out", report], "groups"),
        (["doctor"], "ok"),
        (["bench", "bridge", "--case", "echo_p50"], "cases"),
    ]
    words = json.dumps([[str(word) for word in command] for command, _ in commands])
    folder = tmp_path / "stdout"
    folder.mkdir()
    with running(words, folder, command=[sys.executable, "-c", MANY]) as program:
        assert program.await_end(START_S) == 0, program.described()
        assert program.out == "", program.described()
    for number, (command, key) in enumerate(commands):
        found = one_object((folder / str(number)).read_text())
        assert key in found, command
