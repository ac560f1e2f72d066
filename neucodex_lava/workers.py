"""A few threads that share out one kernel's work; Numba's own pool does not outlive Lava's fork.

The threads begin with the first work in the process that does it, so an engine may be built and used,
then forked, and used on. They are daemons: a process ends without waiting for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from threading import Lock, Thread
from weakref import finalize

from neucodex_lava.errors import ConfigError

Job = Callable[[int], object]


class Workers:
    """`threads` - 1 helping threads and the caller's own.

    Args:
        threads: at least 1; with 1 there is no helper.

    Raises:
        ConfigError: fewer.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ConfigError(f"{threads} threads cannot work", "give at least 1")
        self.threads = threads
        self._pid = 0
        self._todo: list[SimpleQueue[Job | None]] = []
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(self, job: Job) -> None:
        """Call job(0), ..., job(threads - 1) at the same time; returns when all are done.

        Raises:
            What the first of the jobs raised.
        """
        if self._pid != os.getpid():
            self._begin()
        for todo in self._todo:
            todo.put(job)
        failures: list[BaseException | None] = []
        try:
            job(0)
        finally:
            failures += [self._done.get() for _ in self._todo]
        for failure in failures:
            if failure is not None:
                raise failure

    def _begin(self) -> None:
        """Threads and fresh queues for this process: those of before a fork exist only there."""
        self._pid = os.getpid()
        self._done = SimpleQueue()
        self._todo = [SimpleQueue() for _ in range(self.threads - 1)]
        for share, todo in enumerate(self._todo, start=1):
            Thread(target=_work, args=(share, todo, self._done), daemon=True).start()
            finalize(self, todo.put, None).atexit = False


def _work(
    share: int, todo: SimpleQueue[Job | None], done: SimpleQueue[BaseException | None]
) -> None:
    while (job := todo.get()) is not None:
        try:
            job(share)
        except BaseException as failure:
            done.put(failure)
        else:
            done.put(None)
        del job


_lock = Lock()


@cache
def _shared(threads: int) -> Workers:
    return Workers(threads)


def share_out(pieces: int, threads: int, job: Callable[[int, int, int], object]) -> None:
    """Call job(first, last, share) on all `pieces`, shared out among threads that all callers use.

    Args:
        pieces: how many; share i gets those from `first` to `last` - 1, the same in every call.
        threads: how many shares; with 1 the caller does all.
        job: called once for each share, at the same time.

    Raises:
        What the first of the jobs raised.
    """
    if threads == 1:
        job(0, pieces, 0)
        return
    bounds = [pieces * i // threads for i in range(threads + 1)]
    with _lock:
        _shared(threads).run(lambda i: job(bounds[i], bounds[i + 1], i))
