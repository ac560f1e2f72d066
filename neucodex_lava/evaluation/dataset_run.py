"""All samples through the executor, part by part, resumable; and a subset confirmed in Lava."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import TwinResult, run_batches
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.wiring import check_inputs
from neucodex_lava.errors import ConfigError, DataError, SimulationError
from neucodex_lava.evaluation.parts import Part, PartFolder, empty_part
from neucodex_lava.evaluation.samples import Samples
from neucodex_lava.integer_net import IntegerNet

PART = 250
"""Samples of a part. It does not depend on the batch size, so a run may go on with another one."""


@dataclass(frozen=True, eq=False)
class DatasetRun:
    """What the executor found.

    Attributes:
        all: every sample, as one part.
        resumed: samples that were found finished.
        seconds: wall time of the others (measured).
    """

    all: Part
    resumed: int
    seconds: float


def run_dataset(
    net: IntegerNet,
    samples: Samples,
    *,
    batch_size: int | None = None,
    device: str = "cpu",
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetRun:
    """Run the part of a network before its cut over whole samples, with all counts.

    What is held in memory for each sample is its counts, its running sums and its code, packed.

    Args:
        net: the network.
        samples: what it sees.
        batch_size: samples at a time; by default what suits the device.
        device: torch device.
        folder: keeps finished parts; a run of the same network and samples goes on from them and gives
            the same.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: a batch size below 1, a device that is not there, a folder that holds another run.
        DataError: no samples, or of the wrong type, shape or range.
        OverflowInRunError: a synaptic sum left the 24-bit range.
    """
    total, timesteps = len(samples), samples.timesteps
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch size {batch_size} is below 1")
    if not total or not timesteps:
        raise DataError("there are no samples to run")
    executor = Executor(net, stop=net.cut, device=device)
    last = executor.last
    outputs = last.size if last.neuron.is_readout else 0

    def blank(count: int) -> Part:
        names = [node.name for node in executor.nodes]
        kinds = [c.kind for node in executor.nodes for c in node.connections]
        ledger = Ledger.zeros(names, executor.links, count, timesteps, kinds)
        return empty_part(ledger, last.size * timesteps, outputs)

    store = None
    if folder is not None:
        run = {"net": net.edge_part().fingerprint(), "part": PART}
        store = PartFolder(folder, run | samples.identity())
    whole = blank(total)
    missing: list[range] = []
    for first in range(0, total, PART):
        rows = range(first, min(first + PART, total))
        found = store.read(first, blank(len(rows))) if store is not None else None
        if found is None:
            missing.append(rows)
        else:
            _fill(whole, first, found)
    done = resumed = total - sum(len(rows) for rows in missing)
    size = batch_size or executor.batch_size(timesteps)

    def batches() -> Iterator[NDArray[np.uint8]]:
        for rows in missing:
            for first in range(rows.start, rows.stop, size):
                batch = samples.take(slice(first, min(first + size, rows.stop)))
                check_inputs(batch, net)
                yield batch

    began = time.perf_counter()
    results = run_batches(executor, batches())
    for rows in missing:
        first = rows.start
        while first < rows.stop:
            part = _part(next(results))
            _fill(whole, first, part)
            first += part.ledger.samples
            done += part.ledger.samples
            if progress is not None:
                progress(done, total)
        if store is not None:
            store.write(rows.start, _rows(whole, slice(rows.start, rows.stop)))
    return DatasetRun(whole, resumed, time.perf_counter() - began)


def _part(result: TwinResult) -> Part:
    flat = result.output.reshape(len(result.output), -1)
    sums = result.sums
    if sums is None:
        sums = np.zeros((len(flat), 0, result.output.shape[-1]), np.int64)
    return Part(np.packbits(flat, axis=1), sums, result.ledger)


def _fill(whole: Part, first: int, part: Part) -> None:
    arrays = whole.arrays()
    for name, values in part.arrays().items():
        arrays[name][first : first + len(values)] = values


def _rows(whole: Part, rows: slice) -> Part:
    return Part(whole.code[rows], whole.sums[rows], whole.ledger.rows(rows))


def random_subset(total: int, count: int, seed: int) -> NDArray[np.intp]:
    """`count` of `total` sample numbers, ascending; the same for a seed in every version of numpy."""
    order = np.argsort(np.random.Philox(key=seed % 2**64).random_raw(total), kind="stable")
    return np.sort(order[:count])


def confirm(
    net: IntegerNet,
    samples: Samples,
    found: Part,
    chosen: NDArray[np.intp],
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Run some samples in Lava `fused` and compare them with what the executor found.

    Args:
        net, samples: as `run_dataset`.
        found: what it found for all samples.
        chosen: which ones, (N,).
        progress: called with (samples done, samples chosen).

    Returns:
        Wall time of the Lava steps, in seconds (measured).

    Raises:
        SimulationError: a spike of the last node, a running sum or a count differs; or Lava failed.
    """
    lava = simulate(net, samples.take(chosen), progress=progress)
    hint = "run neucodex verify and report what it says"
    mine = _part(TwinResult(lava.output, lava.sums, lava.ledger, spikes=None, potentials=None))
    for what, name in (("spikes of the last node", "code"), ("running sums", "sums")):
        theirs = getattr(found, name)[chosen]
        wrong = np.flatnonzero((getattr(mine, name) != theirs).reshape(len(chosen), -1).any(axis=1))
        if wrong.size:
            raise SimulationError(
                f"{what} of sample {chosen[wrong[0]]} differ between Lava and the executor", hint
            )
    expected = found.ledger
    arrays = {name: getattr(expected, name)[chosen] for name in ALL_COUNTS}
    counted = Ledger(expected.nodes, expected.connections, **arrays, kinds=expected.kinds)
    first = mine.ledger.first_difference(counted)
    if first is not None:
        count, node, n, t = first
        raise SimulationError(
            f"{count} of node '{node}' at timestep {t} of sample {chosen[n]} differs between Lava and"
            " the executor",
            hint,
        )
    return lava.seconds
