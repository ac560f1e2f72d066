"""A network's run in the executor as a job that others may take pieces of.

Samples are cut into pieces, each piece runs whole in some worker, and the results are put together in
order. The executor gives the same integers for any batch on any machine, so the rows of a report do
not depend on who ran what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import Coding, TwinResult, run_batches, run_twin
from neucodex_lava.integer_net import IntegerNet

PIECES_PER_WORKER: Final = 4
"""So that a slow worker holds nobody up for long."""

Samples = NDArray[np.uint8]
"""Encoded samples, (N, C, H, W, T)."""


@dataclass(frozen=True, eq=False)
class TwinJob:
    """A network to be run whole in the executor.

    Args:
        net: wherever it is cut.
        coding: as `run_twin` takes it.
    """

    net: IntegerNet
    coding: Coding = field(default_factory=dict)


Run = Callable[[TwinJob, Samples], Iterator[TwinResult]]
"""Runs samples wherever it likes; their results come in order, some samples at a time."""


def run_here(job: TwinJob, inputs: Samples) -> Iterator[TwinResult]:
    """In this process, on all its threads."""
    executor = Executor(job.net)
    size = executor.batch_size(inputs.shape[-1])
    return run_batches(executor, _cut(inputs, size), coding=job.coding)


def run_piece(job: TwinJob, piece: Samples) -> TwinResult:
    """What a worker does with a piece of the samples."""
    return run_twin(Executor(job.net), piece, coding=job.coding)


def pieces_of(inputs: Samples, workers: int) -> list[Samples]:
    """The samples in order, in a few pieces for each worker."""
    return _cut(inputs, math.ceil(len(inputs) / (PIECES_PER_WORKER * max(1, workers))))


def _cut(inputs: Samples, size: int) -> list[Samples]:
    size = max(1, size)
    return [inputs[first : first + size] for first in range(0, max(1, len(inputs)), size)]
