"""Export: a finished run becomes a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.bundle import Bundle, Golden, digest_potentials, load_bundle, write_bundle
from neucodex_lava.bundle.paperwork import COMMANDS_LIMIT, now
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.coding import train_coding
from neucodex_lava.config import to_dict
from neucodex_lava.data import load
from neucodex_lava.errors import BundleError
from neucodex_lava.integer_net import Connection, IntegerNet
from neucodex_lava.models.split import SplitModel
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.runs import RUN_FILE, Run, load_model, read_run
from neucodex_lava.versions import versions

GOLDEN_SAMPLES = 3
GOLDEN_SEED = 20260314
GOLDEN_RATE = 0.35
EXPORTS = Path("netx_exports")


def export_run(
    folder: Path,
    out: Path | None = None,
    *,
    base: Path | None = None,
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Write the bundle of a finished run.

    Args:
        folder: of the run.
        out: folder of the bundle; by default ``netx_exports/<architecture>-<dataset>/<base|spN>``.
        base: for a split run, the bundle of its base; by default the folder ``base`` beside `out`.
        data_root: where datasets other than the embedded one lie, for the measured accuracy and the
            coding tables (which a bundle goes without where the training samples are missing).
        progress: called as test samples finish.

    Returns:
        The bundle, read back from disk.

    Raises:
        FormatError: no finished run.
        NetError: a limit of the hardware is broken.
        BundleError: the base bundle is missing or another network's.
    """
    run, model = load_model(folder)
    net = to_integer_net(model)
    split = f"SP{run.bottleneck.split}" if run.bottleneck else None
    name = f"sp{run.bottleneck.split}" if run.bottleneck else "base"
    target = out or EXPORTS / f"{run.model.architecture}-{run.data.dataset}" / name
    base_bundle: Bundle | None = None
    if run.bottleneck is not None:
        base_bundle = _base_of(run, base or target.parent / "base")
    bundle = write_bundle(
        target,
        net,
        golden=make_golden(model, net),
        kind="split" if run.bottleneck else "base",
        architecture=run.model.architecture,
        dataset=run.data.dataset,
        split=split,
        encoding=to_dict(run.data.encoding),
        model=to_dict(run.model),
        data=to_dict(run.data),
        bottleneck=to_dict(run.bottleneck) if run.bottleneck else None,
        gains=model.gains,
        split_points={} if run.bottleneck else {f"SP{i}": c for i, c in model.split_points.items()},
        base=base_bundle.sha256 if base_bundle else None,
        accuracy=_test_accuracies(run, net, data_root, progress),
        command=run.command,
        seed=run.train.seed,
        versions=versions(),
        created=now(),
        training=training_papers(run, base_bundle),
    )
    return train_coding(bundle, data_root, progress).bundle


def training_papers(run: Run, base: Bundle | None = None) -> dict[str, Any]:
    """The manifest's field ``training``: every command from the first run on, configuration and log.

    Args:
        run: finished.
        base: bundle of the base that a split run started from, which keeps that run's own log.
    """
    commands: list[str] = []
    if base is not None:
        papers = base.manifest.training
        commands += papers["commands"] if papers else [base.manifest.command]
    log: list[dict[str, Any]] = []
    runs = _runs(run)
    if (earlier := runs[0][0].init) is not None:
        commands.append(f"# begins with the weights of the run '{earlier}'")
    for one, epochs in runs:
        log += [asdict(epoch) | {"run": len(commands)} for epoch in one.history[:epochs]]
        commands.append(one.command)
    result: dict[str, Any] = {
        "commands": commands,
        "config": to_dict(run.train),
        "log": log,
        "float_accuracy": run.float_accuracy,
    }
    if run.conversion:
        result |= {"conversion": to_dict(run.conversion), "golden": golden_witness(run)}
    return result


def golden_witness(run: Run) -> str:
    """Who writes a run's golden record: SLAYER, or plain loops where it has no such neurons."""
    soft = run.conversion is not None and run.conversion.method == "qcfs"
    return "plain loops (models/converted.py)" if soft else "SLAYER"


def _runs(run: Run) -> list[tuple[Run, int]]:
    """A run and those that it took its weights from, first things first; epochs done in each.

    As far as they are still there, and one fewer than a manifest takes: the first may have begun with
    another's weights, which is then said in a line of its own.
    """
    chain = [(run, len(run.history))]
    while (
        run.init is not None
        and (Path(run.init) / RUN_FILE).is_file()
        and len(chain) < COMMANDS_LIMIT - 1
    ):
        epochs = run.init_epochs
        run = read_run(Path(run.init))
        chain.insert(0, (run, epochs))
    return chain


def _base_of(run: Run, folder: Path) -> Bundle:
    """The base bundle, which must hold the very network that the run started from.

    Raises:
        BundleError: missing, damaged, no base, or another network.
    """
    if not (folder / "manifest.json").is_file():
        raise BundleError(
            f"a split bundle names its base, but '{folder}' holds no bundle",
            "export the base run first, or pass --base BUNDLE",
        )
    bundle = load_bundle(folder)
    if bundle.manifest.kind != "base" or bundle.net.fingerprint() != run.base_net:
        raise BundleError(
            f"'{folder}' is not the base of this run: another network, or trained anew since",
            "pass the right bundle with --base",
        )
    return bundle


def make_golden(model: SplitModel, net: IntegerNet) -> Golden:
    """Seeded pseudo-random input with every node's spikes, sums and counts, written by SLAYER.

    Counts are the spikes times the fan-out maps of the network.
    """
    rng = np.random.default_rng(GOLDEN_SEED)
    shape = (GOLDEN_SAMPLES, *net.input_shape, net.timesteps)
    largest = (1 << net.input_bits) - 1
    values = rng.integers(1, largest + 1, shape) * (rng.random(shape) < GOLDEN_RATE)
    inputs = values.astype(np.uint8)
    run = model.run_slayer(inputs)
    return Golden(
        inputs,
        run.spikes,
        run.sums,
        count(net, inputs, run.spikes),
        {name: digest_potentials(values) for name, values in run.potentials.items()},
        {node.name: node.fingerprint() for node in net.nodes},
        model.gains[net.last.name],
        run.exit_sums,
        {name: model.gains[name] for name in run.exit_sums},
    )


def count(
    net: IntegerNet, inputs: NDArray[np.uint8], spikes: dict[str, NDArray[np.uint8]]
) -> Ledger:
    """The ledger of recorded spikes: each connection's active sources times its fan-out map.

    Args:
        net: the network.
        inputs: (N, C, H, W, T).
        spikes: of each node, (N, C, H, W, T).
    """
    names = [node.name for node in net.nodes]
    links = [(node.name, c.source) for node, c in net.connections()]
    ledger = Ledger.zeros(names, links, inputs.shape[0], inputs.shape[-1])
    values = {"input": inputs, **spikes}
    for row, (node, c) in enumerate(net.connections()):
        active = _arriving(values[c.source] != 0, c)
        every, nonzero = c.fan_out(net.shape_of(c.source), node.shape)
        ledger.spikes_in[:, row] = active.sum(axis=(1, 2, 3))
        reached = np.einsum("nchwt,chw->nt", active, every)
        if net.is_graded(c):
            ledger.macs[:, row] = reached
        else:
            ledger.syn_ops[:, row] = reached
            ledger.syn_ops_nonzero[:, row] = np.einsum("nchwt,chw->nt", active, nonzero)
    for i, node in enumerate(net.nodes):
        ledger.dendrite_updates[:, i] = node.size
        ledger.axon_out[:, i] = spikes[node.name].sum(axis=(1, 2, 3))
    return ledger


def _arriving(spikes: NDArray[np.bool_], connection: Connection) -> NDArray[np.bool_]:
    """Spikes (N, C, H, W, T) as they reach the synapses: later by their delays, those after T lost."""
    if not connection.longest_delay:
        return spikes
    _, c, h, w, _ = spikes.shape
    waits = connection.source_delays((c, h, w))[..., None]
    late = np.zeros_like(spikes)
    for delay in np.unique(waits):
        late[..., delay:] |= (spikes & (waits == delay))[..., : spikes.shape[-1] - delay]
    return late


def _test_accuracies(
    run: Run, net: IntegerNet, data_root: Path | None, progress: Progress
) -> dict[str, dict[str, int]]:
    """Right answers of the integer network at T_max on the test split (measured, executor).

    By name: ``test`` of the network, ``exit_sp1``, ... of each exit head.
    """
    images = load(run.data, data_root, "test")
    correct = {"test": 0} | {head.name: 0 for head in net.exit_heads}
    done = 0
    executor = Executor(net)
    for part in images.batches(256):
        twin = run_twin(executor, part.inputs(run.data), count=False)
        assert twin.sums is not None
        for name, sums in {"test": twin.sums, **twin.exit_sums}.items():
            correct[name] += int((sums[..., -1].argmax(1) == part.labels).sum())
        done += len(part)
        progress("measure accuracy", done, len(images))
    return {name: {"correct": right, "samples": len(images)} for name, right in correct.items()}
