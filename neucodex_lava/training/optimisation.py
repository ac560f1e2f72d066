"""Optimisers, and the learning rate at every moment of a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from neucodex_lava.config import TrainConfig

MOMENTUM = 0.9
FIRST_RATE = 0.02
"""Share of the peak at which a warm-up starts."""


def make_optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov momentum; norms and biases do not decay."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=0.0)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The same rate for all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Learning rate at a fractional epoch: a cosine to 0 in each phase, warmed up but for the last.

    A warm-up takes half of a short phase at most, so that every phase reaches both its peak and 0.
    """
    if epoch < config.ann_epochs:
        return _warm_cosine(config.ann_lr or config.lr, epoch, config.warmup, config.ann_epochs)
    epoch -= config.ann_epochs
    if epoch < config.epochs:
        return _warm_cosine(config.lr, epoch, config.warmup, config.epochs)
    return _cosine(config.qat_lr, (epoch - config.epochs) / config.qat_epochs)


def _warm_cosine(peak: float, epoch: float, warmup: float, epochs: int) -> float:
    warmup = min(warmup, epochs / 2)
    if epoch < warmup:
        return peak * max(epoch / warmup, FIRST_RATE)
    return _cosine(peak, (epoch - warmup) / (epochs - warmup))


def _cosine(peak: float, done: float) -> float:
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
