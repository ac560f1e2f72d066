"""The command line: help, errors in one line with status 2, JSON with nothing else on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neucodex_lava.cli.main import COMMANDS, parse, run
from neucodex_lava.errors import ConfigError

VERBS = (
    "demo train finetune convert export verify calibrate simulate serve infer evaluate sweep energy "
    "report reproduce certs export-tail"
)


def neucodex(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from neucodex_lava.cli import main; main()"]
    return subprocess.run(
        [*command, *map(str, args)], capture_output=True, text=True, timeout=120, cwd=cwd
    )


def test_every_verb_has_help_that_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(VERBS.split()) | {"doctor", "bench"} == set(COMMANDS)
    for verb in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            run([verb, "--help"])
        assert stop.value.code == 0, verb
        told = capsys.readouterr()
        assert "--json" in told.out
        assert told.err == ""


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
    "unknown dataset": (["train", "--dataset", "cifar11"], "cifar11"),
    "unknown architecture": (["train", "--arch", "vgg99"], "unknown architecture 'vgg99'"),
    "unknown encoding": (["train", "--encoding", "morse"], "morse"),
    "no timesteps": (["train", "--timesteps", "0"], "T_max is 0"),
    "decay of an average": (["train", "--ema", "1"], "ema 1.0 is outside [0, 1)"),
    "negative cutout": (["train", "--cutout", "-2"], "cutout -2 is negative"),
    "cutout of drawings": (["train", "--cutout", "2"], "for photographs, and digits holds none"),
    "no such start": (["train", "--init", "x"], "'x' is not a run"),
    "reproduce what": (["reproduce", "table9"], "table9"),
    "reproduce nothing": (["reproduce", "table1", "--exports", "x"], "'x' is not a folder"),
    "negative epochs": (["train", "--epochs", "-1"], "epochs is -1"),
    "not a split point": (["finetune", "x", "--split", "blue"], "'blue' is not a split point"),
    "split point 0": (["finetune", "x", "--split", "SP0"], "'SP0' is not a split point"),
    "no channels": (["finetune", "x", "--channels", "0"], "C' is 0"),
    "bottleneck stride": (["finetune", "x", "--stride", "3"], "stride 3 is not 1, 2 or 4"),
    "leak of no number": (
        ["convert", "x", "--method", "transfer", "--leak", "nan"],
        "--leak nan is",
    ),
    "endless leak": (["convert", "x", "--method", "transfer", "--leak", "inf"], "--leak inf is"),
    "negative leak": (
        ["convert", "x", "--method", "transfer", "--leak", "-1e-5"],
        "outside [0, 1]",
    ),
    "leak of qcfs": (["convert", "x", "--leak", "0.5"], "--leak has no effect on qcfs"),
    "no run": (["finetune", "x"], "'x' is not a run"),
    "export without run": (["export", "x"], "'x' is not a run"),
    "no bundle": (["verify", "x"], "'x'"),
    "demo alpha": (["demo", "--alpha", "1.5"], "alpha 1.5 is outside (0, 1]"),
    "demo policy": (["demo", "--policy", "hope"], "unknown exit policy 'hope'"),
    "negative holdout": (["train", "--holdout", "-1"], "holdout -1 is negative"),
    "calibrate nothing": (["calibrate", "x"], "'x' is no folder"),
    "no such calibration": (["calibrate", "x", "--kind", "hope"], "unknown calibration 'hope'"),
    "level of a guarantee": (["calibrate", "x", "--level", "1"], "level 1.0 is outside (0, 1)"),
    "no ledger": (["energy", "x.json"], "x.json"),
    "no results": (["report", "x.json"], "x.json"),
    "not a folder": (["sweep", "x"], "'x' is not a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_clear_line_and_status_2(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    args, expected = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert run(args) == 2
    told = capsys.readouterr()
    assert expected in told.err
    assert told.err.count("\n") == 1, told.err
    assert told.err.startswith("neucodex: ")
    assert told.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize("case", ["unknown verb", "no run"])
def test_a_mistake_ends_the_process_with_status_2(case: str, tmp_path: Path) -> None:
    args, expected = BAD[case]
    done = neucodex(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("case", ["unknown option", "unknown dataset", "no bundle"])
def test_with_json_a_mistake_is_one_object_on_stdout(case: str, tmp_path: Path) -> None:
    args, expected = BAD[case]
    done = neucodex(*args, "--json", cwd=tmp_path)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"type", "message", "hint"}
    assert expected in error["message"]


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["demo", "--fast"], "Unrecognized options: --fast", "see neucodex demo --help"),
        (
            ["train", "--optimizer", "adam"],
            "invalid choice 'adam' for argument '--optimizer'. Expected one of ('adamw', 'sgd')",
            "see neucodex train --help",
        ),
        (
            ["train", "--epochs", "many"],
            "Error parsing --epochs: invalid literal for int() with base 10: 'many'",
            "see neucodex train --help",
        ),
        (
            ["verify"],
            "Missing from neucodex verify: PATH Folder of a bundle, or a NetX file. (required)",
            "see neucodex verify --help",
        ),
    ],
)
def test_what_the_parser_says_is_one_sentence(args: list[str], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse(args)
    assert found.value.message == message
    assert found.value.hint == hint


def test_a_file_system_error_is_one_clear_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = neucodex("train", "--out", blocked / "run", "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Not a directory" in done.stderr
