"""The command line: help, errors in one line with status 2, JSON with nothing else on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neucodex_lava.cli.main import COMMANDS, first_problem

VERBS = "demo train finetune export verify simulate serve infer evaluate sweep energy report"


def neucodex(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from neucodex_lava.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, args)], capture_output=True, text=True, timeout=120, cwd=cwd
    )


def test_every_verb_has_help_that_teaches() -> None:
    assert set(VERBS.split()) | {"doctor", "bench"} == set(COMMANDS)
    for verb in COMMANDS:
        done = neucodex(verb, "--help")
        assert done.returncode == 0, verb
        assert "--json" in done.stdout
        assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from neucodex_lava.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'lava', 'numba', 'h5py', 'grpc', 'matplotlib', 'sklearn', 'scipy'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BAD = {
    "unknown verb": (["trian"], "trian"),
    "unknown option": (["demo", "--fast"], "--fast"),
    "wrong type": (["train", "--epochs", "many"], "many"),
    "unknown dataset": (["train", "--dataset", "cifar11"], "unknown dataset 'cifar11'"),
    "unknown architecture": (["train", "--arch", "vgg99"], "unknown architecture 'vgg99'"),
    "unknown encoding": (["train", "--encoding", "morse"], "unknown encoding 'morse'"),
    "no timesteps": (["train", "--timesteps", "0"], "T_max is 0"),
    "negative epochs": (["train", "--epochs", "-1"], "epochs is -1"),
    "not a split point": (["finetune", "x", "--split", "blue"], "'blue' is not a split point"),
    "split point 0": (["finetune", "x", "--split", "SP0"], "'SP0' is not a split point"),
    "no channels": (["finetune", "x", "--channels", "0"], "C' is 0"),
    "bottleneck stride": (["finetune", "x", "--stride", "3"], "stride 3 is not 1, 2 or 4"),
    "no run": (["finetune", "x"], "'x' is not a run"),
    "export without run": (["export", "x"], "'x' is not a run"),
    "no bundle": (["verify", "x"], "'x'"),
    "demo alpha": (["demo", "--alpha", "1.5"], "alpha 1.5 is outside (0, 1]"),
    "no ledger": (["energy", "x.json"], "x.json"),
    "no results": (["report", "x.json"], "x.json"),
    "not a folder": (["sweep", "x"], "'x' is not a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_clear_line_and_status_2(case: str, tmp_path: Path) -> None:
    args, expected = BAD[case]
    done = neucodex(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("neucodex: ")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize("case", ["unknown option", "unknown dataset", "no bundle"])
def test_with_json_a_mistake_is_one_object_on_stdout(case: str, tmp_path: Path) -> None:
    args, expected = BAD[case]
    done = neucodex(*args, "--json", cwd=tmp_path)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"type", "message", "hint"}
    assert expected in error["message"]


def test_the_message_in_tyros_box_is_found() -> None:
    box = (
        "╭─ Parsing error ────╮\n│ Unrecognized options: │\n│ --fast │\n"
        "│ ──────────── │\n│ For full helptext │\n╰───╯"
    )
    assert first_problem(box) == "Unrecognized options: --fast"
