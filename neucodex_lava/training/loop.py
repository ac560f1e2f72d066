"""The training loop: float epochs, then quantisation-aware epochs on the exact integers.

Loss: cross-entropy of the mean output y(t), averaged over t = 1..T, so that early answers are
trained as well as the last one (after TET, Deng et al., ICLR 2022, applied to running means).
Optimiser: AdamW, cosine to zero in each phase, one epoch of warm-up in the float phase.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neucodex_lava.data import SampleSet
from neucodex_lava.models.split import SplitModel
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.batches import count_batches, ordered_batches, train_batches
from neucodex_lava.training.runs import (
    CHECKPOINT_FILE,
    EpochRecord,
    Run,
    load_checkpoint,
    save_checkpoint,
    write_run,
)

CALIBRATION_BATCHES = 64
MONITORED = 1000
"""Test images looked at after each epoch; all 10,000 of CIFAR-10 would take a third of the time."""


def fit(
    run: Run,
    folder: Path,
    model: SplitModel,
    train_set: SampleSet,
    test_set: SampleSet,
    progress: Progress = silent,
) -> Run:
    """Train until the run's last epoch; resumes from the folder's checkpoint if there is one.

    Args:
        run: what to train; its history says how far it is.
        folder: of the run.
        model: with its initial weights; trained in place.
        train_set, test_set: images. The test set is only looked at, nothing is chosen by it.
        progress: called after every batch.

    Returns:
        The run with its whole history.

    Raises:
        NetError: the trained integers break a hardware limit.
        FormatError: the checkpoint does not fit.
    """
    config = run.train
    if config.threads:
        torch.set_num_threads(config.threads)
    steps = count_batches(train_set, config.batch_size)
    optimiser = _optimiser(model, config.weight_decay)
    epoch = 0
    if run.history and (folder / CHECKPOINT_FILE).is_file():
        epoch, state = load_checkpoint(folder, model)
        optimiser = _optimiser(model, config.weight_decay)
        optimiser.load_state_dict(state)
        run = replace(run, history=run.history[:epoch])
    title = f"train SP{run.bottleneck.split} bottleneck" if run.bottleneck else "train base"
    while epoch < run.total_epochs:
        started = time.perf_counter()
        if epoch >= config.epochs and not model.integer:
            calibrate_batch_norm(model, run, train_set)
            first, _ = next(ordered_batches(train_set, run.data, config.batch_size))
            model.quantise(first)
            optimiser = _optimiser(model, config.weight_decay)
        model.train()
        total_loss, correct, seen = 0.0, 0, 0
        batches = train_batches(
            train_set,
            run.data,
            batch_size=config.batch_size,
            epoch=epoch,
            seed=config.seed,
            augment=config.augment,
        )
        for step, (x, labels) in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(run, epoch + step / steps)
            outputs = model(x)
            loss = every_step_loss(outputs, labels, config.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            total_loss += float(loss.detach()) * len(labels)
            correct += int((outputs[-1].argmax(1) == labels).sum())
            seen += len(labels)
            progress(title, epoch * steps + step + 1, run.total_epochs * steps)
        epoch += 1
        record = EpochRecord(
            epoch=epoch,
            phase="integer" if model.integer else "float",
            loss=total_loss / seen,
            train_accuracy=correct / seen,
            test_accuracy=accuracy(model, run, monitored(test_set, epoch == run.total_epochs)),
            seconds=time.perf_counter() - started,
        )
        run = replace(run, history=(*run.history, record))
        # In this order: a checkpoint is never ahead of the history, which is cut to it on resuming.
        write_run(folder, run)
        save_checkpoint(folder, model, optimiser.state_dict(), epoch)
    to_integer_net(model)  # raises now, not at export, if a limit is broken
    return run


def _optimiser(model: SplitModel, weight_decay: float) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]
    return torch.optim.AdamW(groups, weight_decay=0.0)


def learning_rate(run: Run, epoch: float) -> float:
    """Learning rate at a fractional epoch: warm-up and cosine, then a cosine of its own."""
    config = run.train
    if epoch < config.epochs:
        if epoch < 1:
            return config.lr * max(epoch, 0.02)
        return _cosine(config.lr, (epoch - 1) / max(1, config.epochs - 1))
    return _cosine(config.qat_lr, (epoch - config.epochs) / config.qat_epochs)


def _cosine(peak: float, done: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def every_step_loss(outputs: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy of y(t) against the label, mean over timesteps and samples.

    Args:
        outputs: (T, N, K).
        labels: (N,).
        label_smoothing: 0..1.
    """
    steps = outputs.shape[0]
    return F.cross_entropy(
        outputs.flatten(0, 1), labels.repeat(steps), label_smoothing=label_smoothing
    )


@torch.no_grad()
def calibrate_batch_norm(model: SplitModel, run: Run, images: SampleSet) -> None:
    """Replace the running statistics by plain averages over unaugmented training batches."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    cumulative: Any = None  # what torch takes for a plain average
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = cumulative
    model.train()
    for i, (x, _) in enumerate(ordered_batches(images, run.data, run.train.batch_size)):
        if i >= CALIBRATION_BATCHES:
            break
        model(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def monitored(test_set: SampleSet, last: bool) -> SampleSet:
    """The test images an epoch looks at: after the last one all, before at most `MONITORED`."""
    if last or len(test_set) <= MONITORED:
        return test_set
    return test_set.take(np.linspace(0, len(test_set) - 1, MONITORED).astype(int))


@torch.no_grad()
def accuracy(model: SplitModel, run: Run, images: SampleSet) -> float:
    """Share of images whose largest y(T) is their class."""
    model.eval()
    correct = 0
    for x, labels in ordered_batches(images, run.data, 256):
        correct += int((model(x)[-1].argmax(1) == labels).sum())
    return correct / len(images)
