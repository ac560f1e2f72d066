"""The how-to on a network that is not ours, its commands run as they are written, with one epoch."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEUCODEX = str(Path(sys.executable).with_name("neucodex"))
HOWTO = ROOT / "docs" / "howto" / "bring_your_own.md"


def commands() -> list[list[str]]:
    """The how-to's shell commands, as arguments."""
    (block,) = re.findall(r"```sh\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    short = re.sub(r"samples \d+", "samples 5", re.sub(r"epochs \d+", "epochs 1", block))
    return [shlex.split(line) for line in short.splitlines()]


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.timeout(600)
def test_the_how_to(tmp_path: Path) -> None:
    lines = commands()
    assert [line[1] for line in lines] == [
        "examples/own_network.py", "export", "finetune", "export", "verify", "evaluate",
    ]  # fmt: skip
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    printed: dict[str, str] = {}
    for program, *arguments in lines:
        command = [sys.executable] if program == "python" else [NEUCODEX]
        json_too = [] if program == "python" else ["--json"]
        done = subprocess.run(
            [*command, *arguments, *json_too], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (arguments, done.stderr[-2000:])
        printed[arguments[0] + ("/base" if "base" in done.stdout else "")] = done.stdout
    accuracy = re.search(r"SLAYER's own accuracy: (0\.\d+)", printed["examples/own_network.py"])
    assert accuracy is not None
    exported = json.loads(printed["export/base"])["accuracy"]["test"]
    assert f"{exported['correct'] / exported['samples']:.4f}" == accuracy[1]
    report = json.loads(printed["verify"])
    assert report["backends"] == ["slayer", "twin", "fused", "reference", "netx"]
    assert (report["spike_differences"], report["counter_differences"]) == (0, 0)
    rows = json.loads(printed["evaluate"])["rows"]
    assert {row["split"] for row in rows} == {"SP2", None}
