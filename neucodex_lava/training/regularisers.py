"""Terms beside the cross-entropy: what code and spikes cost, and how steady answers are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neucodex_lava.integer_net import INPUT
from neucodex_lava.models.split import SplitModel

RATE_LIMIT = 1e-4
"""Firing rates are kept this far from 0 and 1, where the entropy's slope has no bound."""
LAST_SHARE = 0.3
"""Share of the timesteps that RCS takes for the last ones."""
RCS_EPS = 1e-5


def code_entropy(code: Tensor) -> Tensor:
    """Bits per timestep that an entropy coder with one rate per channel needs, per bit of the code.

    mean_c h(r_c), where r_c is the firing rate of channel c over timesteps, samples and positions, and
    h(r) = -r log2 r - (1 - r) log2 (1 - r).

    Args:
        code: the encoder's spikes, (T, N, C', H', W').

    Returns:
        From 0 to 1.
    """
    rate = code.float().mean((0, 1, 3, 4)).clamp(RATE_LIMIT, 1 - RATE_LIMIT)
    return -(rate * rate.log2() + (1 - rate) * (1 - rate).log2()).mean()


class SynOpTerm:
    """SynOps per timestep, as a share of those of a network in which every neuron always spikes.

    sum_i rate_i fan_out_i / sum_i fan_out_i over all neurons i whose spikes are weighed by synapses
    behind them. Fan-outs are exact: the borders of a map reach fewer neurons. The input's own spikes
    are left out, training cannot change them.

    Args:
        model: whose fan-outs are counted.
    """

    def __init__(self, model: SplitModel) -> None:
        self.fan_outs: dict[str, Tensor] = {}
        for block in model.block_list():
            for link in block.links():
                if link.source == INPUT:
                    continue
                device = next(model.parameters()).device
                # As many timesteps as there are: delayed synapses of a user's own network need them.
                shape = (model.timesteps, 1, *link.source_shape)
                spikes = torch.ones(shape, device=device, requires_grad=True)
                weight = (
                    torch.ones(())
                    if link.synapse is None
                    else torch.ones_like(link.synapse.weight, requires_grad=False)
                )
                dtype, link.dtype = link.dtype, torch.float32  # counts are too large for bfloat16
                with torch.enable_grad():
                    reached = link.apply(spikes, weight).sum()
                (fan_out,) = torch.autograd.grad(reached, spikes)
                link.dtype = dtype
                counted = self.fan_outs.get(link.source, torch.zeros((), device=device))
                self.fan_outs[link.source] = counted + fan_out[0, 0].float()
        self.dense = sum(float(f.sum()) for f in self.fan_outs.values())

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The share, from 0 to 1, of spikes `values` by node, each (T, N, C, H, W)."""
        counts = [
            (values[name].mean((0, 1), dtype=torch.float32) * fan_out).sum()
            for name, fan_out in self.fan_outs.items()
        ]
        return torch.stack(counts).sum() / self.dense


def steadiness(
    values: Mapping[str, Tensor],
    potentials: Mapping[str, Tensor],
    outputs: Tensor,
    labels: Tensor,
) -> Tensor:
    """SNNCutoff's regulariser for early exits, RCS (Wu et al., "Optimising event-driven spiking neural
    networks with regularisation and cutoff", 2023): layers whose answer stays what it was early on.

    For each layer r_t = s_t + relu(v_t), with v_t the potential after the reset per threshold, r_d the
    mean of r_t over the last steps without a gradient, and 1 / (mean_t cos(r_t, r_d) + 1e-5); the
    largest over the samples that are right at all last steps; then the mean over layers. The last steps
    are the last 0.3 T, rounded up, and so at T < 4 the last one.

    Args:
        values: spikes s_t of each node, (T, N, C, H, W).
        potentials: v_t of each spiking node, per threshold.
        outputs: y(t), (T, N, K).
        labels: (N,).

    Returns:
        At least 1 where a sample is right, else 0.
    """
    last = math.ceil(LAST_SHARE * len(outputs))
    right = (outputs[-last:].argmax(-1) == labels).all(0)
    if not bool(right.any()):
        return outputs.new_zeros(())
    layers: list[Tensor] = []
    for name, potential in potentials.items():
        response = (values[name].float() + potential.relu())[:, right].flatten(2)
        lasting = response[-last:].mean(0).detach()
        alike = torch.cosine_similarity(response, lasting[None], dim=-1, eps=RCS_EPS)
        layers.append((1 / (alike.mean(0) + RCS_EPS)).max())
    return torch.stack(layers).mean()


def peakedness(activations: Sequence[Tensor]) -> Tensor:
    """RCS for artificial networks that are converted: largest activation over root mean square.

    A neuron's firing rate is its activation over the layer's largest, so that a layer of a few large
    activations and many small ones needs many timesteps until its rates are right (SNNCutoff, Wu et
    al., 2023, as coded: the largest of the whole batch, the root mean square of each map).

    Args:
        activations: of each layer, none negative, (T, N, C, H, W).

    Returns:
        Mean over layers, samples and maps (over samples, where maps are single neurons).
    """
    layers: list[Tensor] = []
    for activation in activations:
        values = activation.float().flatten(0, 1)
        axes = (1, 2, 3) if values[0, 0].numel() == 1 else (2, 3)
        layers.append((values.max() / (values.square().mean(axes) + RCS_EPS).sqrt()).mean())
    return torch.stack(layers).mean()
