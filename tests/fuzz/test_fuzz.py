"""Some hundreds of the fuzzer's cases; `make fuzz` runs 10,000."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")
CASES = 300
EXTRA_BYTES = 512 << 20


def campaign(*arguments: str) -> tuple[int, dict[str, object]]:
    command = [sys.executable, CAMPAIGN, "--json", "--workers", "1", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.timeout(600)  # some 20 s on a free core
def test_damaged_files_end_in_a_net_or_in_one_clear_line() -> None:
    """Only nets and errors of ours, nothing hangs, no memory beyond the limit."""
    status, report = campaign("--cases", str(CASES), "--seed", "11")
    assert report["bad"] == []
    assert status == 0
    assert report["cases"] == CASES
    outcomes = report["outcomes"]
    assert outcomes.keys() <= {"net", "FormatError", "NetError", "ConfigError"}
    assert outcomes["FormatError"] > CASES / 2
    assert outcomes["net"] > CASES / 30
    assert report["peak_extra_bytes"] < EXTRA_BYTES
    assert report["longest_cpu_s"] < 20


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("raise KeyError('x')", "escaped KeyError"),
        ("os.kill(os.getpid(), 11)", "crash -11"),
        ("bytearray(1 << 30)", "escaped MemoryError"),
        ("signal.setitimer(signal.ITIMER_PROF, 0.1)\n    while True: pass", "hang"),
    ],
)
def test_the_fuzzer_finds_what_must_not_be(fault: str, outcome: str, tmp_path: Path) -> None:
    """A reader that fails in each way is caught: the test above can fail."""
    folder = tmp_path / "fuzz"
    folder.mkdir()
    for name in (path.name for path in CAMPAIGN.parent.glob("[!t]*.py")):
        text = CAMPAIGN.with_name(name).read_text()
        if name == "campaign.py":
            text = text.replace("FOLDER.parent.parent", f"Path({str(CAMPAIGN.parents[2])!r})")
        if name == "worker.py":
            text = text.replace(
                "def main()", f"def load_net_target(*_, **__):\n    {fault}\n\n\ndef main()"
            )
            text = text.replace("import json\n", "import json\nimport os\n")
        (folder / name).write_text(text)
    ended = subprocess.run(
        [sys.executable, folder / "campaign.py", "--json", "--workers", "1", "--cases", "2"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    report = json.loads(ended.stdout)
    assert ended.returncode == 1
    assert report["outcomes"] == {outcome: 2}
    assert [bad["case"] for bad in report["bad"]] == [0, 1]
