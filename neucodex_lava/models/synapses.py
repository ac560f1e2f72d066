"""Synapses of a block from one source, as SLAYER has them, with their batch norm."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neucodex_lava.integer_net import ConnectionKind, Shape
from neucodex_lava.models.convolution import Convolution
from neucodex_lava.models.neurons import Part
from neucodex_lava.models.slayer import synapse as slayer_synapse

FLOAT_THRESHOLD = 2.0
"""Of a neuron in the float phase."""
NORM_EPS = 1e-2
"""A silent channel's variance is near 0; torch's eps of 1e-5 would fold into weights 300 times their
size, and one such channel would take the whole node's 8-bit range."""


class Synapses(nn.Module):
    """Weights from one source, with their batch norm.

    Args:
        source: name of the node the spikes come from, or ``"input"``.
        kind: as in IntegerNet.
        source_shape: (C, H, W) of the source.
        out: output channels (or neurons, for dense).
        kernel, stride: of convolutions; padding keeps the size for stride 1.
        norm: whether a batch norm follows.
        pooled: dense only: average each channel first, over windows of its positions.
        side: of the map that pooling leaves, at most; 1: one weight per channel.
    """

    def __init__(
        self,
        source: str,
        kind: ConnectionKind,
        source_shape: Shape,
        out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        norm: bool = True,
        pooled: bool = False,
        side: int = 1,
    ) -> None:
        super().__init__()
        self.source = source
        self.kind: ConnectionKind = kind
        self.source_shape = source_shape
        self.out = out
        self.kernel, self.stride, self.pooled = kernel, stride, pooled
        self.padding = (kernel - 1) // 2
        self.output_padding = stride - kernel + 2 * self.padding if kind == "conv_transpose" else 0
        self.window = 1, 1
        if pooled:
            self.window = -(-source_shape[1] // side), -(-source_shape[2] // side)
        self.positions = self.window[0] * self.window[1]
        self.dtype = torch.float32
        channels = source_shape[0]
        self.synapse: Any = None
        if kind == "conv":
            self.synapse = slayer_synapse.Conv(channels, out, kernel, stride, self.padding)
        elif kind == "conv_transpose":
            self.synapse = slayer_synapse.ConvTranspose(channels, out, kernel, stride, self.padding)
            self.synapse.output_padding = (self.output_padding, self.output_padding, 0)
        elif kind == "dense":
            neurons = pool(torch.empty(source_shape, device="meta"), self.window).numel()
            self.synapse = slayer_synapse.Dense(neurons, out)
        self.bn = nn.BatchNorm2d(out, eps=NORM_EPS) if norm else None
        if self.bn is not None:
            # Threshold-dependent normalisation (tdBN, Zheng et al., AAAI 2021): with unit variance
            # hardly any neuron would reach the threshold of 2 in its first timesteps.
            nn.init.constant_(self.bn.weight, FLOAT_THRESHOLD)
        self.steps: Tensor | None = None
        self.bias = None if norm or kind == "identity" else nn.Parameter(torch.zeros(out))
        if self.synapse is not None:
            fan_in = self.synapse.weight[0].numel()
            if kind == "conv_transpose":
                fan_in = channels * kernel * kernel / stride**2
            nn.init.normal_(self.synapse.weight, std=math.sqrt(2.0 / fan_in))

    def scale_steps(self, timesteps: int) -> None:
        """Let the batch norm have a factor of its own at each timestep.

        Temporal effective batch normalisation (TEBN, Duan et al., NeurIPS 2022, equation 8). An integer
        network has the same weights at all timesteps: it takes the factors' mean, and the epochs on the
        integers make up for it.
        """
        if self.bn is not None:
            self.steps = nn.Parameter(torch.ones(timesteps))

    @torch.no_grad()
    def fold_steps(self) -> None:
        """Put the factors' mean into the batch norm, and have none any more."""
        if self.steps is None or self.bn is None:
            return
        self.bn.weight.mul_(self.steps.mean())
        self.bn.bias.mul_(self.steps.mean())
        self.steps = None

    def output_shape(self) -> Shape:
        """(C, H, W) these synapses give."""
        if self.kind == "identity":
            return self.source_shape
        if self.kind == "dense":
            return self.out, 1, 1
        size = [
            (n + 2 * self.padding - self.kernel) // self.stride + 1
            if self.kind == "conv"
            else (n - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding
            for n in self.source_shape[1:]
        ]
        return self.out, size[0], size[1]

    def fold(self) -> tuple[Tensor, Tensor]:
        """Weights and bias with the batch norm's running statistics folded in (float).

        Returns:
            Weights in SLAYER's layout, and bias (out,). A pooled dense layer's weights are divided
            by the positions of its window.
        """
        if self.kind == "identity":
            return torch.ones(()), torch.zeros(self.out)
        weight: Tensor = self.synapse.weight
        if self.bn is None:
            assert self.bias is not None
            return weight / self.positions, self.bias
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        mean_step = 1.0 if self.steps is None else self.steps.mean()
        factor = mean_step * self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        shape = [1] * weight.dim()
        shape[1 if self.kind == "conv_transpose" else 0] = -1
        bias = mean_step * self.bn.bias - self.bn.running_mean * factor
        return weight * factor.view(shape), bias

    def apply(self, x: Tensor, weight: Tensor, *, exact: bool = False) -> Tensor:  # type: ignore[override]
        """Weighted sums (T, N, C, H, W) of spikes `x` (T, N, C, H, W), time folded into the batch.

        Args:
            x: spikes.
            weight: in SLAYER's layout.
            exact: sums in float32 even if `dtype` is bfloat16, which then serves the gradients only.
        """
        if self.kind == "identity":
            return x
        steps, samples = x.shape[:2]
        if self.kind == "dense":
            flat = pool(x.float(), self.window).flatten(2)
            out = F.linear(flat.flatten(0, 1), weight.flatten(1))
            return out.reshape(steps, samples, self.out, 1, 1)
        shape = Convolution(
            self.stride, self.padding, self.kind == "conv_transpose", self.output_padding
        )
        out = shape.apply(x.flatten(0, 1), weight.squeeze(-1), self.dtype, exact)
        return out.unflatten(0, (steps, samples))

    def spread(self, weight: Tensor) -> Tensor:
        """Dense weights (out, C * H * W): where it pools, each position has its window's weight."""
        flat = weight.flatten(1)
        if not self.pooled:
            return flat
        channels, height, width = self.source_shape
        h, w = self.window
        maps = flat.reshape(self.out, channels, -(-height // h), -(-width // w))
        maps = maps.repeat_interleave(h, 2).repeat_interleave(w, 3)
        return maps[:, :, :height, :width].flatten(1)

    def float_part(self, x: Tensor) -> Part:
        """What the float phase brings to the block: sums, and the batch norm or a bias."""
        if self.kind == "identity":
            return Part(x)
        weight: Tensor = self.synapse.weight
        z = self.apply(x, weight / self.positions if self.pooled else weight)
        if self.bn is None:
            return Part(z, bias=self.bias)
        if self.steps is not None:
            normed = self.bn(z.float().flatten(0, 1)).unflatten(0, z.shape[:2])
            # An artificial network has one timestep for all of them.
            steps = self.steps if len(z) == len(self.steps) else self.steps.mean()[None]
            return Part(normed * steps[:, None, None, None, None])
        if self.bn.training:
            return Part(z, norm=self.bn)
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        return Part(z, scale=scale, bias=self.bn.bias - self.bn.running_mean * scale)


def pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Sums (..., H / h, W / w), rounded up, over windows (h, w) of maps (..., H, W)."""
    if window == (1, 1):
        return x
    h, w = window
    x = F.pad(x, (0, -x.shape[-1] % w, 0, -x.shape[-2] % h))
    return x.unflatten(-1, (-1, w)).unflatten(-3, (-1, h)).sum((-1, -3))
