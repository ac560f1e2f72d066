"""Whatever kills a simulation, it ends within 2 s, says so in one line and leaves nothing behind."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from load import fault_s

pytestmark = [pytest.mark.lava, pytest.mark.timeout(90)]

VICTIM = Path(__file__).with_name("victim.py")
BACKENDS = ["fused", "reference"]


class Victim:
    """A running victim program in a session and terminal of its own."""

    def __init__(self, backend: str, fault: str) -> None:
        self.segments: set[str] = set()
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(VICTIM), backend, fault],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_own_terminal,
            cwd=VICTIM.parents[2],
        )
        os.close(slave)
        self.output = ""
        self.pids: list[int] = []
        self.lava: list[int] = []

    def read(self, until: float) -> str:
        """Read what the terminal shows, until the process group closes it or time is up."""
        while time.monotonic() < until:
            ready, _, _ = select.select([self.master], [], [], 0.02)
            if not ready:
                if self.process.poll() is not None:
                    break
                continue
            try:
                data = os.read(self.master, 4096)
            except OSError:
                break
            self.output += data.decode()
            if "ready" in self.output and self.output.endswith("\n") and not self.pids:
                break
        return self.output

    def await_ready(self) -> None:
        self.read(time.monotonic() + 40)
        line = next(x for x in self.output.splitlines() if x.startswith("ready"))
        self.pids = json.loads(line.removeprefix("ready "))
        self.lava = self.pids[1:]
        children = psutil.Process(self.pids[0]).children(recursive=True)
        self.pids = [self.pids[0], *(c.pid for c in children)]
        self.segments = _segments(self.pids[0])
        assert len(self.segments) > 2
        self.output = ""

    def await_end(self) -> float:
        """Wait until the program ended; returns how long that took."""
        began = time.monotonic()
        self.read(began + 10)
        self.process.wait(timeout=5)
        return time.monotonic() - began

    def leftovers(self, within: float) -> tuple[list[int], set[str]]:
        """Processes and shared memory still there when time is up, or earlier when none are."""
        until = time.monotonic() + within
        while True:
            alive = [p for p in self.pids if _runs(p)]
            files = {name for name in self.segments if Path("/dev/shm", name).exists()}
            if (not alive and not files) or time.monotonic() > until:
                return alive, files
            time.sleep(0.02)

    def kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                if _runs(pid):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=5)
        os.close(self.master)


def _segments(pid: int) -> set[str]:
    """Names of the shared memory that a process maps, whether they still exist or not."""
    return set(re.findall(r"/dev/shm/(psm_\w+)", Path(f"/proc/{pid}/maps").read_text()))


def _own_terminal() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def victim(backend: str, fault: str) -> Iterator[Victim]:
    running = Victim(backend, fault)
    try:
        running.await_ready()
        yield running
    finally:
        running.kill_all()


def check_end(v: Victim, status: int, line: str) -> None:
    took = v.await_end()
    assert took < fault_s(), v.output
    assert v.process.returncode == status, v.output
    assert v.output.replace("^C", "").strip().splitlines() == [line]
    assert v.leftovers(within=0.2) == ([], set())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", [0, -1])
def test_a_killed_lava_child(backend: str, which: int) -> None:
    with victim(backend, "none") as v:
        os.kill(v.lava[which], signal.SIGKILL)
        assert v.await_end() < fault_s()
        assert v.process.returncode == 2
        (line,) = v.output.strip().splitlines()
        assert line.startswith("error: Lava process '")
        assert line.endswith("' was killed by signal 9")
        assert ("runtime service" in line) == (which == -1)
        assert v.leftovers(within=0.2) == ([], set())


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_in_a_process_model(backend: str) -> None:
    with victim(backend, "exception") as v:
        assert v.await_end() < fault_s()
        assert v.process.returncode == 2
        (line,) = v.output.strip().splitlines()
        assert line.startswith("error: Lava process '")
        assert line.endswith("failed: ValueError: broken on purpose")
        assert v.leftovers(within=0.2) == ([], set())


@pytest.mark.terminal
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_in_a_terminal(backend: str) -> None:
    with victim(backend, "none") as v:
        time.sleep(0.2)
        os.write(v.master, b"\x03")
        check_end(v, 130, "interrupted")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parent_killed(backend: str) -> None:
    with victim(backend, "none") as v:
        os.kill(v.pids[0], signal.SIGKILL)
        assert v.leftovers(within=fault_s()) == ([], set())


def test_a_session_left_open_at_exit() -> None:
    with victim("fused", "forgotten") as v:
        took = v.await_end()
        assert took < 1 + fault_s()
        assert v.process.returncode == 0
        assert v.output.strip() == "end"
        assert v.leftovers(within=0.2) == ([], set())
