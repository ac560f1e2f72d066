"""One timestep of one sample on its way through the server, and how a tail takes several of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from host_bridge.codecs import Code, Decoder
from host_bridge.tail import BatchTail, Tail
from neucodex_lava.errors import BridgeError


@dataclass(slots=True, eq=False)
class Step:
    """One timestep.

    Args:
        owner: whoever is told of the outcome.
        sample, timestep: of the session.
        codec, payload: the code as it came.
        state: of the sample before; None at its start. Afterwards the new one.
        previous: code of the timestep before; None at a sample's start.
        decoder: reads the code.
        deadline_s: longest wait for its turn, in seconds.

    Attributes:
        arrived_s: when it began to wait, on the event loop's clock.
        cancelled: nobody waits for it any more.
        withdraw: takes it out of the queue that it is in; None while it is in none.
        code: the code, once it is read.
        sums: running sums S_t, int64 (classes,); None when it failed.
        compute_s: what it took, with all that were run with it.
        error: why it failed.
    """

    owner: Any
    sample: int
    timestep: int
    codec: int
    payload: bytes
    decoder: Decoder
    deadline_s: float
    state: Any = None
    previous: Code | None = None
    arrived_s: float = 0.0
    cancelled: bool = False
    withdraw: Callable[[Step], None] | None = None
    code: Code | None = None
    sums: npt.NDArray[np.int64] | None = None
    compute_s: float = 0.0
    error: Exception | None = None

    def cancel(self) -> None:
        """Nobody waits for it any more; a queue that it is in has room for another."""
        self.cancelled = True
        if self.withdraw is not None:
            self.withdraw(self)


def run_steps(tail: Tail, steps: Sequence[Step]) -> None:
    """Take steps of different sessions together, and leave each one's outcome in it.

    Exactly what they give one by one. Where one of them fails, the others are taken alone, and only
    the guilty one has an error.
    """
    start = time.perf_counter()
    readable: list[Step] = []
    for step in steps:
        try:
            step.code = step.decoder.decode(step.codec, step.payload, step.previous)
            if step.state is None:
                step.state = tail.new_state()
            readable.append(step)
        except Exception as error:
            step.error = error
    if len(readable) < 2 or not hasattr(tail, "step_batch"):
        _one_by_one(tail, readable)
    else:
        try:
            _together(cast("BatchTail", tail), readable)
        except Exception:
            _one_by_one(tail, readable)
    took = time.perf_counter() - start
    for step in steps:
        step.compute_s = took


def _together(tail: BatchTail, steps: Sequence[Step]) -> None:
    codes = np.stack([cast("Code", step.code) for step in steps])
    states, sums = tail.step_batch([step.state for step in steps], codes)
    if sums.shape != (len(steps), tail.classes):
        raise BridgeError(f"the tail gave sums of shape {sums.shape}")
    for step, state, row in zip(steps, states, sums):
        step.state, step.sums = state, row


def _one_by_one(tail: Tail, steps: Sequence[Step]) -> None:
    for step in steps:
        try:
            state, sums = tail.step(step.state, cast("Code", step.code))
            if sums.shape != (tail.classes,):
                raise BridgeError(
                    f"the tail gave {sums.shape} sums, the bundle has {tail.classes}",
                    status="INTERNAL",
                )
            step.state, step.sums = state, sums
        except Exception as error:
            step.error = error
