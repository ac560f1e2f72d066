"""Looking at a network without training it: batch norm's statistics, and accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from neucodex_lava.data import SampleSet
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.batches import ordered_batches
from neucodex_lava.training.distributed import World
from neucodex_lava.training.prefetch import prefetched
from neucodex_lava.training.runs import Run

CALIBRATION_BATCHES = 64
MONITORED = 1000
"""Test samples looked at after each epoch; all 10,000 of CIFAR-10 would take a third of the time."""
EVALUATION_BATCH = 256


@torch.no_grad()
def calibrate_batch_norm(model: SplitModel, run: Run, samples: SampleSet) -> None:
    """Replace the running statistics by plain averages over unaugmented training batches."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    cumulative: Any = None  # what torch takes for a plain average
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = cumulative
    model.train()
    device = next(model.parameters()).device
    for i, (x, _) in enumerate(ordered_batches(samples, run.data, run.train.batch_size)):
        if i >= CALIBRATION_BATCHES:
            break
        model(x.to(device))
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def monitored(test_set: SampleSet, last: bool) -> SampleSet:
    """The test samples an epoch looks at: after the last one all, before at most `MONITORED`."""
    if last or len(test_set) <= MONITORED:
        return test_set
    return test_set.take(np.linspace(0, len(test_set) - 1, MONITORED).astype(int))


def accuracy(model: SplitModel, run: Run, samples: SampleSet) -> float:
    """Share of samples whose largest y(T) is their class; leaves the model in evaluation mode."""
    return accuracies(model, run, samples)[-1]


@torch.no_grad()
def accuracies(model: SplitModel, run: Run, samples: SampleSet) -> tuple[float, ...]:
    """As `accuracy`: of each exit head in order, and of the whole network last."""
    model.eval()
    device = next(model.parameters()).device
    world, correct = World.current(), [0] * (len(model.exit_heads) + 1)
    share = samples.take(np.arange(world.rank, len(samples), world.size))
    for x, labels in prefetched(ordered_batches(share, run.data, EVALUATION_BATCH)):
        outputs, values = model.run(x.to(device))
        for i, y in enumerate((*model.early_answers(values).values(), outputs)):
            correct[i] += int((y[-1].argmax(1).cpu() == labels).sum())
    return tuple(right / len(samples) for right in world.sum(*correct))
