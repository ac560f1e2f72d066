"""Coding tables of a network: its codes on training samples, counted at every cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from host_bridge.codecs import Tables, TableTraining
from neucodex_lava.cloud.coded import codes_at
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_batches
from neucodex_lava.integer_net import IntegerNet

SAMPLES = 256
"""Samples to train on: the rates of channels are known to a few percent of themselves by then."""


def train_tables(
    net: IntegerNet,
    cuts: Collection[int],
    batches: Iterable[NDArray[np.uint8]],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[int, Tables]:
    """Tables for each cut, from samples that the network runs to T_max in the executor.

    Args:
        net: the network, however it is cut.
        cuts: legal ones, before the last node.
        batches: encoded samples, uint8 (N, C, H, W, T).
        progress: called with the samples done.

    Raises:
        NetError, OverflowInRunError: as `run_twin`.
    """
    at = {cut: net.with_cut(cut) for cut in cuts}
    training = {
        # Cut before its first node, a net's code is its input.
        cut: TableTraining(one.code_shape, one.code_bits, dictionary=cut > 0)
        for cut, one in at.items()
    }
    names = {net.output_at(cut) for cut in cuts if cut > 0}
    done = 0
    for inputs, spikes in _run(net, max(cuts), names, batches):
        for cut, one in training.items():
            for codes in codes_at(net, cut, inputs, spikes):
                one.add(codes)
        done += len(inputs)
        progress(done)
    return {cut: one.tables() for cut, one in training.items()}


def _run(
    net: IntegerNet, stop: int, names: Collection[str], batches: Iterable[NDArray[np.uint8]]
) -> Iterator[tuple[NDArray[np.uint8], dict[str, NDArray[np.uint8]]]]:
    """Each batch with the spikes of these nodes."""
    if stop == 0:
        yield from ((inputs, {}) for inputs in batches)
        return
    executor = Executor(net, stop=stop)
    for inputs in batches:
        size = executor.batch_size(inputs.shape[-1])
        parts = (inputs[first : first + size] for first in range(0, len(inputs), size))
        first = 0
        for result in run_batches(executor, parts, count=False, spikes_of=names):
            count = len(result.output)
            yield inputs[first : first + count], result.spikes or {}
            first += count
