"""The block that ``benchmarks/train.py`` measures; needs torch alone: the peers use it too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its profiler reports each stage on stderr

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

TIMESTEPS, SAMPLES, CHANNELS, SIZE = 2, 16, 64, 32
RATE = 0.2
"""Firing rate of the input; no contestant's speed depends on it."""
LAYOUTS = {"channels_last": torch.channels_last, "nchw": torch.contiguous_format}

Step = Callable[[], object]


def spikes(layout: str) -> Tensor:
    """Input (T * N, C, H, W), the same everywhere; asks for a gradient, as within a network."""
    x = torch.empty(TIMESTEPS * SAMPLES, CHANNELS, SIZE, SIZE)
    x.bernoulli_(RATE, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def output_gradient(layout: str) -> Tensor:
    """Gradient of the output (T * N, C, H, W), the same everywhere."""
    grad = torch.empty(TIMESTEPS * SAMPLES, CHANNELS, SIZE, SIZE)
    grad.normal_(generator=torch.Generator().manual_seed(1))
    return grad.contiguous(memory_format=LAYOUTS[layout])


def weights() -> Tensor:
    """Of the convolution, (C', C, 3, 3), the same everywhere."""
    weight = torch.empty(CHANNELS, CHANNELS, 3, 3)
    return weight.normal_(std=0.06, generator=torch.Generator().manual_seed(2))


def bare_convolution(layout: str) -> Step:
    """Forward and backward of the convolution alone, time folded into the batch."""
    x, grad = spikes(layout), output_gradient(layout)
    weight = weights().contiguous(memory_format=LAYOUTS[layout]).requires_grad_()

    def step() -> None:
        F.conv2d(x, weight, None, 1, 1).backward(grad)
        x.grad = weight.grad = None

    return step


def conv_norm(layout: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A torch convolution with the weights, and a batch norm, in training mode."""
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    conv.weight = nn.Parameter(weights().contiguous(memory_format=LAYOUTS[layout]))
    return conv, nn.BatchNorm2d(CHANNELS)


def seconds(step: Step) -> float:
    """Of one run."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def peak_bytes(step: Step) -> int:
    """The most tensor memory in use during a step beyond what was in use before it.

    As torch's allocator counts it; the libraries' own scratch memory is not in it.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events: list[Any] = list(found.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    changes: list[tuple[int, int]] = []
    while events:
        event = events.pop()
        events += event.children
        size = getattr(event.extra_fields, "alloc_size", None)
        if size is not None:
            changes.append((event.start_time_ns, size))
    used = peak = 0
    for _, size in sorted(changes, key=lambda change: change[0]):
        used += size
        peak = max(peak, used)
    return peak
