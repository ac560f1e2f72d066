"""SLAYER and the integer executor on real test samples, every running sum compared with ``==``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Bundle, amend
from neucodex_lava.bundle.paperwork import now
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import TwinResult, run_twin
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.evaluation.samples import open_samples
from neucodex_lava.models.split import SlayerRun
from neucodex_lava.progress import Progress, silent
from neucodex_lava.verify.report import DatasetCheck, Difference
from neucodex_lava.verify.running import load_run

BATCH_VALUES = 1 << 26
"""Values of all nodes and timesteps that SLAYER holds at a time, several arrays of each."""
BATCH_LIMIT = 64


def verify_on_dataset(
    bundle: Bundle,
    run: Path,
    count: int = 0,
    *,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> DatasetCheck:
    """Run test samples through the training run's SLAYER model and through the bundle's integers.

    Compared are the running sums after every timestep, and how often each node fired in it.

    Args:
        bundle: base or split.
        run: folder of its training run.
        count: samples, spread evenly over the test split; 0 for all.
        data_root: where datasets other than the embedded one lie.
        progress: called as batches finish.

    Raises:
        ConfigError: another bundle's run, a negative count, or neurons that SLAYER lacks.
        FormatError: no finished run.
        DataError: the dataset is missing or damaged.
    """
    if not all(node.neuron.is_stock for node in bundle.net.nodes):
        raise ConfigError(
            "SLAYER has no neuron that keeps what exceeds its threshold, as this bundle's do",
            f"verify {bundle.path} --run {run} compares plain loops with all backends",
        )
    model, _ = load_run(run, bundle)
    samples = open_samples(bundle, count, data_root=data_root)
    labels, total = samples.samples.labels, len(samples)
    if total == 0:
        raise ConfigError("no test samples to run")
    net = bundle.net
    executor = Executor(net)
    values = sum(node.size for node in net.nodes) * net.timesteps
    size = max(1, min(BATCH_LIMIT, BATCH_VALUES // values))
    correct = executor_correct = sums = spikes = 0
    first: Difference | None = None
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        inputs = samples.take(rows)
        slayer, twin = model.run_slayer(inputs), run_twin(executor, inputs)
        assert twin.sums is not None, "a bundle's network ends in a readout"
        fired = _fired(slayer, twin)
        other_counts = np.argwhere(fired != twin.ledger.axon_out)
        spikes += len(other_counts)
        if first is None and len(other_counts):
            n, i, t = (int(x) for x in other_counts[np.lexsort(other_counts.T[[1, 2, 0]])[0]])
            name = net.nodes[i].name
            found = int(fired[n, i, t]), int(twin.ledger.axon_out[n, i, t])
            first = Difference("slayer", None, name, start + n, t + 1, None, "spikes", *found)
        mine = {**slayer.exit_sums, net.last.name: slayer.sums}
        theirs = {**twin.exit_sums, net.last.name: twin.sums}
        for name in mine:
            different = np.argwhere(mine[name] != theirs[name])
            sums += len(different)
            if first is None and len(different):
                n, k, t = (int(x) for x in different[np.lexsort(different.T[[1, 2, 0]])[0]])
                found = int(mine[name][n, k, t]), int(theirs[name][n, k, t])
                first = Difference(
                    "slayer", None, name, start + n, t + 1, (k, 0, 0), "running sum", *found
                )
        correct += _right(slayer.sums, labels[rows])
        executor_correct += _right(twin.sums, labels[rows])
        progress("SLAYER on test samples", rows.stop, total)
    return DatasetCheck(total, correct, executor_correct, sums, spikes, first)


def record_dataset(bundle: Bundle, check: DatasetCheck, command: str) -> Bundle:
    """Keep in a bundle's manifest that SLAYER and the executor agreed.

    Raises:
        BundleError: they did not, or the manifest cannot be written.
    """
    if not check.exact:
        raise BundleError(f"{bundle.path}: SLAYER and the executor differ: {check}")
    slayer = {
        "date": now(),
        "command": command,
        "samples": check.samples,
        "correct": check.slayer_correct,
        "executor_correct": check.executor_correct,
    }
    return amend(bundle, measured={**(bundle.manifest.measured or {}), "slayer": slayer})


def _fired(slayer: SlayerRun, twin: TwinResult) -> NDArray[np.int64]:
    """Spikes of each node in each timestep, (N, nodes, T)."""
    counts = [slayer.spikes[name].sum(axis=(1, 2, 3), dtype=np.int64) for name in twin.ledger.nodes]
    return np.stack(counts, axis=1)


def _right(sums: NDArray[np.int64], labels: NDArray[np.int64]) -> int:
    return int((sums[..., -1].argmax(1) == labels).sum())
