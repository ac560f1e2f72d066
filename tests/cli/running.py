"""Commands as people run them: real processes, real terminals, real sockets. Nothing outlives a test.

Imported by the tests of this folder, which put it on `sys.path`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil

NEUCODEX = str(Path(sys.executable).with_name("neucodex"))
START_S = 60.0
"""Longest start: imports of torch and Lava, on a machine that trains besides."""
SHM = Path("/dev/shm")


def wait_until(what: Callable[[], Any], within_s: float, message: Callable[[], str]) -> Any:
    """The first true value of `what`, looked at every 10 ms; fails when time is up."""
    until = time.monotonic() + within_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < until, message()
        time.sleep(0.01)


class Program:
    """One running command in a session of its own.

    Args:
        args: the command line without ``neucodex``.
        terminal: run it in a pseudo-terminal that is its stdin and stderr, and its stdout unless
            `args` ask for JSON; `press` types into it.
        command: another program than ``neucodex``.
        cwd: its working directory.
    """

    def __init__(
        self,
        *args: object,
        terminal: bool = False,
        command: list[str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.args = [str(a) for a in args]
        self.shm = {path.name for path in SHM.iterdir()}
        with contextlib.ExitStack() as stack:
            self._out = stack.enter_context(tempfile.TemporaryFile())
            self._err = stack.enter_context(tempfile.TemporaryFile())
            self._files = stack.pop_all()
        self._master: int | None = None
        self._shown = b""
        streams: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": self._out,
            "stderr": self._err,
        }
        slave = -1
        if terminal:
            self._master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x32\x00\xa0\x00\x00\x00\x00\x00")
            streams["stdin"] = streams["stderr"] = slave
            if "--json" not in self.args:
                streams["stdout"] = slave
        self.process = subprocess.Popen(
            [*(command or [NEUCODEX]), *self.args],
            preexec_fn=_own_terminal if terminal else os.setsid,
            env=os.environ | {"TERM": "xterm"},
            cwd=cwd,
            **streams,
        )
        if terminal:
            os.close(slave)
            threading.Thread(target=self._read_terminal, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        """What came to stdout so far."""
        return _content(self._out)

    @property
    def err(self) -> str:
        """What came to stderr so far; in a terminal what it shows, without its control codes."""
        if self._master is None:
            return _content(self._err)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._shown.decode(errors="replace"))
        return text.replace("\r", "\n")

    @property
    def lines(self) -> list[str]:
        """Lines on stderr, less blank ones and progress."""
        kept = [line.replace("^C", "").strip() for line in self.err.splitlines()]
        return [line for line in kept if line and "━" not in line and not _PROGRESS.search(line)]

    def described(self) -> str:
        """For messages of failing tests."""
        return (
            f"neucodex {' '.join(self.args)}: status {self.process.poll()}\n"
            f"stdout: {self.out}\nstderr: {self.err[-3000:]}"
        )

    def press(self, keys: bytes) -> None:
        """Type into the terminal."""
        assert self._master is not None
        os.write(self._master, keys)

    def await_text(self, pattern: str, within_s: float = START_S) -> re.Match[str]:
        """Wait for a pattern on stdout or stderr."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.out) or re.search(pattern, self.err)
            assert found or self.process.poll() is None, self.described()
            return found

        return wait_until(look, within_s, self.described)

    def await_import(self) -> None:
        """Wait until the command's own imports have begun: numpy is the first large one."""
        maps = Path(f"/proc/{self.pid}/maps")
        wait_until(lambda: "_multiarray_umath" in maps.read_text(), START_S, self.described)

    def await_end(self, within_s: float) -> int:
        """Wait for the end; the exit status."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end after {within_s} s\n{self.described()}") from None

    def members(self) -> list[psutil.Process]:
        """Its session's processes that still run; itself among them."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def lava_children(self) -> list[psutil.Process]:
        """Processes that Lava forked: they carry their parent's command line."""
        own = psutil.Process(self.pid).cmdline()
        found: list[psutil.Process] = []
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.cmdline() == own and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    def assert_nothing_left(self, within_s: float = 0.5) -> None:
        """No process of its session runs, no shared memory that nobody maps was left."""

        def left() -> str:
            names = {path.name for path in SHM.iterdir()} - self.shm
            files = names - _mapped() if names else names
            pids = [f"{p.pid} {' '.join(p.cmdline())}" for p in self.members()]
            return f"processes {pids}, shared memory {files}" if pids or files else ""

        wait_until(lambda: not left(), within_s, lambda: f"{left()}\n{self.described()}")

    def kill(self) -> None:
        """End everything of its session."""
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        if self._master is not None:
            os.close(self._master)
            self._master = None
        self._files.close()

    def _read_terminal(self) -> None:
        master = self._master
        assert master is not None
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                self._shown += data


_PROGRESS = re.compile(r": \d+/\d+ done$")


def _content(file: IO[bytes]) -> str:
    # Read in place: the file's position belongs to the command that writes.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _mapped() -> set[str]:
    """Names in /dev/shm that a running process maps."""
    names: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            names.update(re.findall(r" /dev/shm/(\S+)", maps.read_text()))
    return names


@contextlib.contextmanager
def running(*args: object, **options: Any) -> Iterator[Program]:
    """A `Program` that is killed, with all its children, when the block ends."""
    program = Program(*args, **options)
    try:
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def served(*args: object) -> Iterator[tuple[Program, dict[str, Any]]]:
    """``neucodex serve`` on a free port, and the JSON line it printed when it was ready."""
    with running("serve", *args, "--port", 0, "--json") as server:
        server.await_text(r"\n")
        wait_until(lambda: server.out.endswith("\n"), START_S, server.described)
        yield server, json.loads(server.out)


def error_of(program: Program) -> str:
    """The one line on stderr with which a command refused, status 2, nothing on stdout."""
    assert program.process.returncode == 2, program.described()
    assert program.out == "", program.described()
    assert len(program.lines) == 1, program.described()
    assert program.lines[0].startswith("neucodex: "), program.described()
    return program.lines[0]


class SlowLink:
    """A network between an edge and a server: every answer takes a while; counts them.

    Args:
        port: of the server on this machine.
        delay_s: added to every answer.

    Attributes:
        answers: from the server so far; those of the handshake are among them.
        connections: made so far.
        open: cleared, no answer passes.
    """

    def __init__(self, port: int, delay_s: float) -> None:
        self.answers = self.connections = 0
        self.open = threading.Event()
        self.open.set()
        self._server = ("127.0.0.1", port)
        self._delay_s = delay_s
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut the link."""
        self.open.set()
        for sock in (self._listener, *self._sockets):
            _cut(sock)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                edge, _ = self._listener.accept()
                cloud = socket.create_connection(self._server)
                self._sockets += [edge, cloud]
                self.connections += 1
                for source, sink, slow in ((edge, cloud, False), (cloud, edge, True)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, slow), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if slow:
                    time.sleep(self._delay_s)
                    self.open.wait()
                    self.answers += 1
                sink.sendall(data)
        _cut(source)
        _cut(sink)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextlib.contextmanager
def slow_link(port: int, delay_s: float = 0.03) -> Iterator[SlowLink]:
    """A `SlowLink` while the block runs."""
    link = SlowLink(port, delay_s)
    try:
        yield link
    finally:
        link.close()
