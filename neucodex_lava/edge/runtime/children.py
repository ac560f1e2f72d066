"""Forked children that ignore Ctrl-C and do not outlive their parent."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>; the signal comes when the *thread* that forked ends."""

_libc = ctypes.CDLL(None, use_errno=True)
_armed = threading.local()


def _in_child() -> None:
    """Runs in every process forked while a runtime is being created."""
    parent = getattr(_armed, "parent", None)
    if parent is None:
        return
    # Collecting what the parent left as garbage could wait for threads that were not forked (gRPC's).
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


os.register_at_fork(after_in_child=_in_child)


@contextlib.contextmanager
def children_tied() -> Iterator[None]:
    """Processes that this thread forks inside die with it, and ignore Ctrl-C."""
    _armed.parent = os.getpid()
    try:
        yield
    finally:
        _armed.parent = None


@contextlib.contextmanager
def interrupt_deferred() -> Iterator[list[int]]:
    """Hold Ctrl-C back; it is raised at the end. Yields a list that is not empty once it came."""
    pending: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        pending.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pending
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
    if pending:
        raise KeyboardInterrupt
