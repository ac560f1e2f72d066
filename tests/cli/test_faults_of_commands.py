"""Ctrl-C in a real terminal, killed processes, SIGTERM: commands end within 2 s and leave nothing."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from load import fault_s
from running import START_S, Program, SlowLink, running, served, slow_link, wait_until

pytestmark = [pytest.mark.lava, pytest.mark.timeout(150)]


@dataclass(frozen=True)
class Cloud:
    """A server that serves `bundle`, for all tests here."""

    bundle: Path
    port: int
    program: Program

    def open_sessions(self) -> int:
        log = self.program.err
        return len(re.findall(r"session \w+ opened", log)) - len(
            re.findall(r"session [0-9a-f]{16} ended", log)
        )


@pytest.fixture(scope="module")
def cloud(released: Path) -> Iterator[Cloud]:
    with served(released / "sp1") as (program, ready):
        yield Cloud(released / "sp1", ready["port"], program)


@contextmanager
def inferring(cloud: Cloud, **options: Any) -> Iterator[tuple[Program, SlowLink]]:
    """`neucodex infer` in the middle of its samples, on a link that makes them last."""
    with slow_link(cloud.port) as link:
        args = ["infer", cloud.bundle, "--cloud", link.address, "--samples", 0]
        with running(*args, **options) as program:
            wait_until(
                lambda: link.answers > 12 or program.process.poll() is not None,
                START_S,
                program.described,
            )
            assert cloud.open_sessions() == 1
            assert len(program.lava_children()) >= 2
            yield program, link


def press_ctrl_c(program: Program, before: list[str] | None = None) -> None:
    """Interrupt it as a user does, and check how it ends."""
    program.press(b"\x03")
    assert program.await_end(fault_s()) == 130, program.described()
    wait_until(lambda: "interrupted" in program.err, fault_s(), program.described)
    assert program.lines == [*(before or []), "neucodex: interrupted"], program.described()
    program.assert_nothing_left()


def unfinished(folder: Path) -> list[Path]:
    """Files under a temporary name."""
    return [p for p in folder.rglob("*") if "tmp" in p.name or "partial" in p.name]


@pytest.mark.terminal
def test_ctrl_c_during_infer(cloud: Cloud) -> None:
    with inferring(cloud, terminal=True) as (program, _):
        press_ctrl_c(program)
        wait_until(lambda: cloud.open_sessions() == 0, fault_s(), lambda: cloud.program.err)


@pytest.mark.terminal
def test_ctrl_c_during_infer_with_json_leaves_stdout_empty(cloud: Cloud) -> None:
    with slow_link(cloud.port) as link:
        args = ["infer", cloud.bundle, "--cloud", link.address, "--samples", 0, "--json"]
        with running(*args, terminal=True) as program:
            # While Lava is being compiled and started; everything else has been waited for before.
            wait_until(lambda: program.lava_children(), START_S, program.described)
            press_ctrl_c(program)
            assert program.out == ""


@pytest.mark.terminal
def test_ctrl_c_during_a_reference_simulation(released: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.json"
    args = ["simulate", released / "sp1", "--backend", "reference", "--samples", 0]
    with running(*args, "--ledger", ledger, terminal=True) as program:
        program.await_text("simulate reference .* [1-9][0-9]*/360")
        assert len(program.lava_children()) > 4
        press_ctrl_c(program)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.terminal
def test_ctrl_c_during_evaluate(released: Path, tmp_path: Path) -> None:
    sizes = ["--samples", 200, "--confirm", 200]
    args = ["evaluate", released / "sp1", *sizes, "--out", tmp_path / "report"]
    with running(*args, terminal=True) as program:
        program.await_text(r"Lava\+bridge .* [1-9][0-9]*/200")
        press_ctrl_c(program)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.terminal
def test_ctrl_c_during_train_and_the_same_command_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    sizes = ["--width", 0.25, "--train-limit", 1024, "--batch-size", 16]
    args = ["train", "--epochs", 8, "--qat-epochs", 1, *sizes]
    with running(*args, "--out", folder, terminal=True) as program:
        # After the first of nine epochs of 64 batches, which take seconds in all.
        program.await_text(r"train base .* ([7-9][0-9]|[1-4][0-9][0-9])/576")
        told = [line for line in program.lines if line.startswith("train base: epoch ")]
        assert len(told) >= 1
        press_ctrl_c(program, before=told)
    assert unfinished(tmp_path) == []
    before = json.loads((folder / "run.json").read_text())["history"]
    assert 1 <= len(before) < 9
    with running(*args, "--out", folder, "--json") as program:
        assert program.await_end(START_S) == 0, program.described()
        assert json.loads(program.out)["epochs"] == 9
    after = json.loads((folder / "run.json").read_text())["history"]
    assert after[: len(before)] == before, "the finished epochs were not trained again"
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.pt", "run.json"]


@pytest.mark.terminal
def test_ctrl_c_while_the_demo_trains(tmp_path: Path) -> None:
    with running("demo", "--out", tmp_path / "demo", terminal=True) as program:
        program.await_text(r"train base .* [1-9][0-9]*/")
        said = [line for line in program.lines if line.startswith("1/5 ")]
        assert len(said) == 1
        press_ctrl_c(program, before=said)
    assert unfinished(tmp_path) == []
    assert [p.name for p in (tmp_path / "demo").iterdir()] == ["runs"]


@pytest.mark.terminal
@pytest.mark.parametrize("after_s", [0.05, 0.6])
def test_ctrl_c_while_a_command_starts(after_s: float, released: Path) -> None:
    with running("simulate", released / "sp1", terminal=True) as program:
        # From the moment at which Python imports our code; its own start is not ours to answer for.
        program.await_import()
        time.sleep(after_s)
        press_ctrl_c(program)


def test_a_killed_lava_child_during_infer(cloud: Cloud) -> None:
    with inferring(cloud) as (program, _):
        program.lava_children()[0].kill()
        assert program.await_end(fault_s()) == 2, program.described()
        assert program.out == ""
        (line,) = program.lines
        assert re.fullmatch(r"neucodex: Lava process '.+' was killed by signal 9", line)
        program.assert_nothing_left()
        wait_until(lambda: cloud.open_sessions() == 0, fault_s(), lambda: cloud.program.err)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_infer_leaves_nothing_and_the_server_frees_its_session(
    number: int, cloud: Cloud
) -> None:
    with inferring(cloud) as (program, _):
        program.process.send_signal(number)
        assert program.await_end(fault_s()) in (-number, 128 + number)
        program.assert_nothing_left(within_s=fault_s())
        wait_until(lambda: cloud.open_sessions() == 0, fault_s(), lambda: cloud.program.err)
        assert program.out == ""
        assert program.lines == []


def test_a_terminated_evaluate_leaves_nothing(released: Path, tmp_path: Path) -> None:
    args = ["evaluate", released / "sp1", "--confirm", 360, "--out", tmp_path / "report"]
    with running(*args) as program:
        wait_until(lambda: len(program.lava_children()) >= 4, START_S, program.described)
        program.process.send_signal(signal.SIGTERM)
        assert program.await_end(fault_s()) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        program.assert_nothing_left(within_s=fault_s())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
