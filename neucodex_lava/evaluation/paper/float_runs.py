"""What the float networks of finished runs do and cost: SPARQ's ANN, dynamic ANN and SNN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from energy import Ledger, price, price_ann
from neucodex_lava.conversion.baseline import Answers, ann_baseline
from neucodex_lava.data import load
from neucodex_lava.errors import MissingDependencyError, NetError
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.evaluation.paper.variants import FP32, INT8, Variant, body, histograms
from neucodex_lava.exits.calibration import CalibrationOptions, calibrate
from neucodex_lava.exits.policy import decide
from neucodex_lava.export import count
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.batches import to_time_first
from neucodex_lava.training.checkpoints import load_into, read_checkpoint, weights_of
from neucodex_lava.training.runs import RUN_FILE, Run, load_model, read_run

BATCH = 100


def find_runs(folder: Path) -> list[Path]:
    """Runs in a folder of families of runs, one family or one run."""
    found = {p.parent for depth in ("", "*/", "*/*/") for p in folder.glob(depth + RUN_FILE)}
    return sorted(found)


def run_variants(
    folder: Path, *, data_root: Path | None = None, progress: Progress = silent
) -> list[Variant]:
    """The float variants that a finished run gives on the whole test split; none of a trained SNN.

    Args:
        folder: of the run of an artificial network, or of one converted by plain transfer.
        data_root: where datasets other than the embedded one lie.
        progress: called as batches finish.

    Raises:
        FormatError: no finished run.
        DataError: its dataset is not there.
    """
    run = read_run(folder)
    if run.conversion is not None:
        if run.conversion.method != "transfer":
            return []
        return [_float_snn(folder, run, data_root, progress)]
    return _artificial(folder, run, data_root, progress) if run.train.artificial else []


def _artificial(
    folder: Path, run: Run, data_root: Path | None, progress: Progress
) -> list[Variant]:
    """ANN in float32 and 8 bits, and dynamic ANN, whose agent learns on held-out samples."""
    where = f"run {folder.parent.name}/{folder.name}"
    answers = ann_baseline(folder, int8=False, data_root=data_root, progress=progress)
    heads = _head_macs(run)
    macs = float(answers.macs[-1] - heads)
    found = [_static("ANN", f"{where}: float32", run, answers, macs, FP32)]
    try:
        eight = ann_baseline(folder, int8=True, data_root=data_root, progress=progress)
        what = f"{where}: 8-bit weights and activations (FBGEMM), after training"
        found.append(_static("ANN, 8 bit", what, run, eight, macs, INT8))
    except (MissingDependencyError, NetError):
        pass  # Only this row is missing then.
    if len(answers.exits) > 1:
        found.append(_dynamic(folder, where, run, answers, data_root, progress))
    return found


def _static(
    variant: str, what: str, run: Run, answers: Answers, macs: float, model: str
) -> Variant:
    return Variant(
        run.model.architecture,
        run.data.dataset,
        variant,
        what,
        1,
        len(answers.labels),
        int(answers.correct[-1]),
        0.0,
        macs,
        price_ann(macs, model),
        price_ann(macs, model, memory=False),
        seed=run.train.seed,
    )


def _dynamic(
    folder: Path,
    where: str,
    run: Run,
    answers: Answers,
    data_root: Path | None,
    progress: Progress,
) -> Variant:
    """SPARQ's agent over the exit heads, an exit costing the MACs up to it."""
    logits, labels = _exits_last(answers), answers.labels
    if run.data.holdout:
        own = ann_baseline(
            folder, int8=False, split="holdout", data_root=data_root, progress=progress
        )
        learnt, own_labels, kept = _exits_last(own), own.labels, np.ones(len(labels), bool)
        on = f"{len(own_labels):,} held-out samples"
    else:
        half = CalibrationHalf(run.data.dataset, len(labels), 0).mask(labels)
        learnt, own_labels, kept = logits[half], labels[half], ~half
        on = f"{len(own_labels):,} test samples, tested on the others"
    policy = calibrate(
        "qlearning",
        learnt,
        own_labels,
        gain=1.0,
        options=CalibrationOptions(logits="sum"),
        syn_ops=answers.macs,
    ).policy
    labels = labels[kept]
    exits = decide(policy, logits[kept])
    taken = exits.timesteps - 1
    macs = float(answers.macs[taken].mean())
    histogram, by_class = histograms(taken, labels, logits.shape[1:])
    return Variant(
        run.model.architecture,
        run.data.dataset,
        "dynamic ANN",
        f"{where}: float32, SPARQ's agent over its exit heads, learnt on {on}",
        1,
        len(labels),
        int((exits.predictions == labels).sum()),
        0.0,
        macs,
        price_ann(macs, FP32),
        price_ann(macs, FP32, memory=False),
        answers.exits,
        histogram,
        by_class,
        seed=run.train.seed,
    )


def _exits_last(answers: Answers) -> NDArray[np.float64]:
    return np.ascontiguousarray(answers.logits.transpose(0, 2, 1), np.float64)


def _head_macs(run: Run) -> int:
    """MACs of the exit heads alone, which a network with one answer does without."""
    model = run.build()
    return sum(
        link.synapse.weight[0].numel() * head.shape[0]
        for head in model.exit_heads
        for link in head.links()
    )


def _float_snn(folder: Path, run: Run, data_root: Path | None, progress: Progress) -> Variant:
    """A converted network before its weights were rounded, all T timesteps, without exit heads."""
    _, integer = load_model(folder)
    net = to_integer_net(integer)
    model = run.build().eval()
    load_into(model, weights_of(read_checkpoint(folder)), folder)
    test = load(run.data, data_root, "test")
    correct = done = 0
    parts: list[Ledger] = []
    for part in test.batches(BATCH):
        inputs = part.inputs(run.data)
        with torch.no_grad():
            outputs, values = model.run(to_time_first(inputs))
        correct += int((outputs[-1].argmax(1).numpy() == part.labels).sum())
        spikes = {
            block.name: np.zeros((len(part), *block.shape, len(outputs)), np.uint8)
            if block.readout
            else values[block.name].permute(1, 2, 3, 4, 0).to(torch.uint8).numpy()
            for block in model.block_list()
        }
        # Fan-outs are geometry: those of the rounded network.
        parts.append(count(net, inputs, spikes).select(body(net)))
        done += len(part)
        progress(f"{folder.name}, float", done, len(test))
    ledger = Ledger.concatenate(parts)
    report = price(ledger, FP32)
    return Variant(
        run.model.architecture,
        run.data.dataset,
        "SNN",
        f"run {folder.parent.name}/{folder.name}: float weights transferred to LIF neurons",
        run.data.timesteps,
        len(test),
        correct,
        ledger.total("syn_ops") / len(test),
        ledger.total("macs") / len(test),
        report.mean_j,
        report.low_j,
        seed=run.train.seed,
    )
