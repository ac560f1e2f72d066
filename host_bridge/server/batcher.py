"""Steps of many sessions, taken together by one tail in one thread of its own."""

from __future__ import annotations

import asyncio
import math
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from host_bridge.server.limits import Limits
from host_bridge.server.stats import Stats
from host_bridge.server.step import Step, run_steps
from host_bridge.tail import Tail

_SMOOTHING: Final = 0.2


class StepOwner(Protocol):
    """Who is told, on the event loop, what became of a step."""

    def step_done(self, step: Step) -> None:
        """It has been run; it holds its outcome."""
        ...

    def step_late(self, step: Step) -> None:
        """It waited beyond its deadline and was not run."""
        ...


class Batcher:
    """Takes what waits, as much as fits, and runs it together; what comes meanwhile waits for the next.

    A batch holds one step of a session at most, because a session hands in its next step only when the
    one before it is done. All methods are for the event loop's thread.

    Args:
        tail: what computes.
        limits: of batches and queue.
        stats: to count in.
    """

    def __init__(self, tail: Tail, limits: Limits, stats: Stats) -> None:
        self.last_lone_s = math.inf
        """What the latest step that ran alone took, in seconds; infinite before the first."""
        self._tail = tail
        self._stats = stats
        self._max_batch = min(limits.max_batch, getattr(tail, "best_batch", limits.max_batch))
        self._max_queue = limits.max_queue
        self._max_wait_s = limits.max_wait_s or math.inf
        self._wait_s = limits.batch_wait_us * 1e-6
        # Ordered as they came; one that is cancelled leaves at once, whatever its place.
        self._waiting: OrderedDict[Step, None] = OrderedDict()
        self._running = False
        self._starting = False
        self._cold = True
        self._step_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._batches: queue.SimpleQueue[list[Step] | None] = queue.SimpleQueue()
        # A daemon: a tail that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="neucodex-tail", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._running and not self._waiting

    def submit(self, step: Step) -> float | None:
        """Queue a step; its owner hears of it. None, or in how many seconds to try again: no room."""
        queue_s = len(self._waiting) * self._step_s
        if len(self._waiting) >= self._max_queue or queue_s > self._max_wait_s:
            return queue_s
        step.arrived_s = self._loop.time()
        step.withdraw = self._withdraw
        self._waiting[step] = None
        self._stats.queued += 1
        if not self._running and not self._starting:
            self._starting = True
            # Not at once: what the same round of the event loop has read goes into the same batch.
            if self._wait_s and len(self._waiting) < self._max_batch:
                self._loop.call_later(self._wait_s, self._start)
            else:
                self._loop.call_soon(self._start)
        return None

    def run_now(self, step: Step) -> None:
        """Run a step on the event loop itself; only while `idle`."""
        run_steps(self._tail, [step])
        self._count([step])

    def close(self) -> None:
        """End the thread after the batch that it has."""
        self._batches.put(None)

    def _start(self) -> None:
        self._starting = False
        if self._running:
            return
        now = self._loop.time()
        batch: list[Step] = []
        late: list[Step] = []
        while self._waiting and len(batch) < self._max_batch:
            step = next(iter(self._waiting))
            self._withdraw(step)
            waited_s = now - step.arrived_s
            if waited_s > step.deadline_s:
                late.append(step)
                continue
            self._stats.queue_s.observe(waited_s)
            batch.append(step)
        if batch:
            self._running = True
            self._batches.put(batch)
        for step in late:
            step.owner.step_late(step)

    def _withdraw(self, step: Step) -> None:
        del self._waiting[step]
        step.withdraw = None
        self._stats.queued -= 1

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            run_steps(self._tail, batch)
            try:
                self._loop.call_soon_threadsafe(self._done, batch)
            except RuntimeError:  # The event loop has been closed: nobody waits.
                return
            # Not held while waiting for the next: a sample's state goes with its session.
            del batch

    def _done(self, batch: list[Step]) -> None:
        self._running = False
        self._count(batch)
        # First what hands in the sessions' next steps, so that they go into the next batch.
        self._starting = True
        for step in batch:
            step.owner.step_done(step)
        self._start()

    def _count(self, batch: Sequence[Step]) -> None:
        took_s = batch[0].compute_s
        step_s = took_s / len(batch)
        # The first warms the tail up, and says nothing of those to come.
        if not self._cold:
            self._step_s += _SMOOTHING * (step_s - self._step_s) if self._step_s else step_s
        self._cold = False
        if len(batch) == 1:
            self.last_lone_s = took_s
        self._stats.batch_sizes.observe(len(batch))
        self._stats.step_s.observe(took_s)
        self._stats.steps += len(batch)
