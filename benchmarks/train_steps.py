"""What of ours and of SLAYER's ``benchmarks/train.py`` measures: training steps, ready to run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.train_block import (
    CHANNELS,
    SIZE,
    TIMESTEPS,
    Step,
    output_gradient,
    spikes,
    weights,
)
from neucodex_lava.config import architecture
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.dropin import accelerate
from neucodex_lava.models.slayer import block
from neucodex_lava.models.synapses import Synapses

NETWORK_BATCH = 64


def our_block(dtype: torch.dtype) -> Step:
    """Our block, given its input as the block before it would: in `dtype`, channels last."""
    torch.manual_seed(0)
    synapses = Synapses("x", "conv", (CHANNELS, SIZE, SIZE), CHANNELS)
    synapses.dtype = dtype
    ours = SpikingBlock("block", [synapses])
    with torch.no_grad():
        synapses.synapse.weight.copy_(weights().unsqueeze(-1))
    x = spikes("channels_last").detach().to(dtype).requires_grad_()
    grad = output_gradient("channels_last").to(dtype)

    def step() -> None:
        out = ours({"x": x.unflatten(0, (TIMESTEPS, -1))})
        out.flatten(0, 1).backward(grad)
        _clear(ours, x)

    return step


def slayer_block(*, fast: bool) -> Step:
    """SLAYER's block as its users make it, without a norm: it has no batch norm of torch's kind."""
    torch.manual_seed(0)
    neuron = {"threshold": 1.0, "current_decay": 1.0, "voltage_decay": 0.5}
    theirs = block.Conv(neuron, CHANNELS, CHANNELS, 3, padding=1, delay_shift=False)
    with torch.no_grad():
        theirs.synapse.weight.copy_(weights().unsqueeze(-1))
    layout = "channels_last" if fast else "nchw"
    if fast:
        accelerate(theirs)
    x = spikes(layout).detach().unflatten(0, (TIMESTEPS, -1)).permute(1, 2, 3, 4, 0)
    grad = output_gradient(layout).unflatten(0, (TIMESTEPS, -1)).permute(1, 2, 3, 4, 0)
    if not fast:
        x, grad = x.contiguous(), grad.contiguous()
    x.requires_grad_()

    def step() -> None:
        theirs(x).backward(grad)
        _clear(theirs, x)

    return step


def network_step(dtype: torch.dtype) -> Step:
    """Forward, backward and update of a whole network."""
    torch.manual_seed(0)
    model = build_base(architecture("resnet18", 0.25), (3, SIZE, SIZE), 10, TIMESTEPS)
    model.set_precision(dtype)
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    pixels = torch.rand(NETWORK_BATCH, 3, SIZE, SIZE)
    x = torch.bernoulli(pixels.expand(TIMESTEPS, -1, -1, -1, -1))
    labels = torch.randint(10, (NETWORK_BATCH,))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(x)[-1], labels).backward()
        optimiser.step()

    return step


def _clear(module: nn.Module, x: Tensor) -> None:
    module.zero_grad(set_to_none=True)
    x.grad = None
