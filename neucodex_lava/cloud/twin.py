"""Whole samples through the executor, in batches, on all cores or a GPU: the twin of the Lava runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from energy.ledger import Ledger
from host_bridge.codecs import Tables
from neucodex_lava.cloud.coded import CodedFrames, codes_at
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.errors import NetError

Coding = Mapping[int, Tables | None]
"""Coding tables by cut; None where there are none."""
NO_CODING: Final[Coding] = MappingProxyType({})

MALLOC_KEEPS = 31 << 20
"""Just below glibc's DEFAULT_MMAP_THRESHOLD_MAX of 32 MiB."""


@dataclass(frozen=True, eq=False)
class TwinResult:
    """A dataset's run in the executor, or one batch's.

    Attributes:
        output: spikes of `Executor.last`, uint8 (N, C, H, W, T).
        sums: running sums S_t, int64 (N, K, T); None when the last node spikes.
        ledger: counts of the nodes run, as the gated schedule counts them.
        spikes: every node's spikes, uint8 (N, C, H, W, T), when recorded; or those asked for.
        potentials: every node's potential after each timestep (0 where it spiked), in state units,
            int32 (N, C, H, W, T), when recorded.
        exit_sums: running sums of each exit head that ran, int64 (N, K, T).
        frames: by cut, what its codes take on the link, where that was asked for.
    """

    output: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    ledger: Ledger
    spikes: dict[str, NDArray[np.uint8]] | None
    potentials: dict[str, NDArray[np.int32]] | None
    exit_sums: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    frames: dict[int, CodedFrames] = field(default_factory=dict)

    @staticmethod
    def concatenate(parts: Sequence[TwinResult]) -> TwinResult:
        """Results of one executor, one after the other along the samples."""
        first = parts[0]

        def joined(arrays: Iterable[dict[str, NDArray[Any]] | None]) -> Any:
            kept = [a for a in arrays if a is not None]
            return {n: np.concatenate([a[n] for a in kept]) for n in kept[0]} if kept else None

        return TwinResult(
            np.concatenate([p.output for p in parts]),
            None if first.sums is None else np.concatenate([p.sums for p in parts]),  # type: ignore[arg-type]
            Ledger.concatenate([p.ledger for p in parts]),
            joined(p.spikes for p in parts),
            joined(p.potentials for p in parts),
            joined(p.exit_sums for p in parts),
            {c: CodedFrames.concatenate([p.frames[c] for p in parts]) for c in first.frames},
        )


def run_twin(
    executor: Executor,
    inputs: NDArray[np.uint8],
    *,
    batch_size: int | None = None,
    record: bool = False,
    count: bool = True,
    coding: Coding = NO_CODING,
    progress: Callable[[int, int], None] | None = None,
) -> TwinResult:
    """Run whole samples in batches, on all cores.

    Args:
        executor: what to run.
        inputs: spikes or graded integers, (N, C, H, W, T).
        batch_size: samples at a time; by default `Executor.batch_size`.
        record: keep every node's spikes and potentials.
        count: fill the ledger; without it all counts are 0.
        coding: cuts whose codes are priced, each with its coding tables.
        progress: called with (samples done, samples in all).

    Returns:
        Spikes, sums and ledger; the same numbers for any batch size.

    Raises:
        NetError: the input's shape is not the net's.
        OverflowInRunError: a synaptic sum left the 24-bit range.
    """
    samples = len(inputs)
    if inputs.ndim != 5:
        raise NetError(f"input of shape {inputs.shape}, expected (N, C, H, W, T)")
    size = batch_size or executor.batch_size(inputs.shape[-1])
    batches = (inputs[first : first + size] for first in range(0, max(samples, 1), size))
    parts: list[TwinResult] = []
    done = 0
    for part in run_batches(executor, batches, record=record, count=count, coding=coding):
        parts.append(part)
        done += len(part.output)
        if progress is not None:
            progress(done, samples)
    return TwinResult.concatenate(parts)


def run_batches(
    executor: Executor,
    batches: Iterable[NDArray[np.uint8]],
    *,
    record: bool = False,
    count: bool = True,
    spikes_of: Collection[str] = (),
    coding: Coding = NO_CODING,
) -> Iterator[TwinResult]:
    """Run batches of whole samples as they come; results are handed on in order, a few are in work.

    On a CPU each of torch's threads runs batches of its own: threads that share one convolution wait
    for each other at its end, and for anything else that runs on their core.

    Args:
        executor, record, count, coding: as `run_twin`.
        batches: each (N, C, H, W, T).
        spikes_of: names of nodes whose spikes are kept where not all are recorded.

    Raises:
        NetError, OverflowInRunError: as `run_twin`.
    """

    def run(batch: NDArray[np.uint8]) -> TwinResult:
        return _run_batch(executor, batch, record, count, spikes_of, coding)

    _keep_memory()
    threads = torch.get_num_threads()
    if executor.device.type != "cpu" or threads == 1:
        yield from map(run, batches)
        return
    pool = ThreadPoolExecutor(threads, "executor", torch.set_num_threads, (1,))
    try:
        waiting: deque[Future[TwinResult]] = deque()
        for batch in batches:
            waiting.append(pool.submit(run, batch))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # A thread's own setting is also what torch gives to threads that start later.
        torch.set_num_threads(threads)


def _keep_memory() -> None:
    """Have glibc keep freed arrays for the next layer: it gives none back to the system, page by page,
    that are smaller than one it has been asked for before.
    """
    torch.empty(MALLOC_KEEPS, dtype=torch.uint8)


def _run_batch(
    executor: Executor,
    batch: NDArray[np.uint8],
    record: bool,
    count: bool,
    spikes_of: Collection[str],
    coding: Coding,
) -> TwinResult:
    if tuple(batch.shape[1:4]) != executor.input_shape:
        raise NetError(f"input of shape {batch.shape}, expected (N, *{executor.input_shape}, T)")
    x = torch.from_numpy(np.moveaxis(batch, -1, 0).copy())
    kept = {*spikes_of, *(executor.net.output_at(cut) for cut in coding)}
    _, traces = executor.advance(
        executor.initial_state(), x, record=record, count=count, keep=False, spikes_of=kept
    )

    def time_last(trace: Tensor, kind: type[Any]) -> NDArray[Any]:
        moved = trace.to(getattr(torch, kind.__name__)).permute(*range(1, trace.ndim), 0)
        return moved.contiguous().cpu().numpy()

    kinds = [c.kind for node in executor.nodes for c in node.connections]
    names = [node.name for node in executor.nodes]
    ledger = Ledger.zeros(names, executor.links, len(batch), batch.shape[-1], kinds)
    for name, rows in traces.counts.items():
        # (T, N, rows) to (N, rows, T)
        getattr(ledger, name)[:] = time_last(torch.stack(rows, dim=2), np.int64)
    if count:
        ledger.dendrite_updates[:] = np.array([n.size for n in executor.nodes])[None, :, None]
    spikes = {name: time_last(trace, np.uint8) for name, trace in traces.spikes.items()}
    potentials = {name: time_last(trace, np.int32) for name, trace in traces.potentials.items()}
    return TwinResult(
        output=spikes[executor.last.name],
        sums=None if traces.sums is None else time_last(traces.sums, np.int64),
        ledger=ledger,
        spikes=spikes if record or spikes_of else None,
        potentials=potentials if record else None,
        exit_sums={name: time_last(sums, np.int64) for name, sums in traces.exit_sums.items()},
        frames={
            cut: CodedFrames.of(
                codes_at(executor.net, cut, batch, spikes),
                executor.net.with_cut(cut).code_bits,
                tables,
            )
            for cut, tables in coding.items()
        },
    )
