"""SLAYER's synapses with time folded into the batch: two-dimensional, channels-last convolutions.

A sum in another order is the same to the last bit only when all its terms and partial sums are
exact. So the fast path takes integer inputs (spikes, counts) whose sums with SLAYER's 8-bit weights
stay below 2^24 quantisation steps; any other input goes through SLAYER's own code.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.models.dropin import kernels
from neucodex_lava.models.dropin.dynamics import EXACT
from neucodex_lava.models.dropin.layout import fold, time_first, time_last, unfold
from neucodex_lava.models.slayer import cuba, synapse

MANTISSA_MAX = 128
"""SLAYER's weights are -128 .. 127 steps of 2 / scale."""


def quantiser_scale(layer: Any) -> int:
    """The power-of-two scale of the 8-bit quantiser before this synapse, or 0 when it has none."""
    hook = layer.pre_hook_fx
    if getattr(hook, "__func__", None) is not cuba.Neuron.quantize_8bit:
        return 0
    scale = int(hook.__self__.w_scale)
    return scale if scale & (scale - 1) == 0 else 0


def _exact(layer: Any, x: Tensor, terms: int) -> bool:
    """Whether every order of summing `terms` weighted inputs gives the same float32."""
    if x.dtype != torch.float32 or not quantiser_scale(layer) or layer.bias is not None:
        return False
    flat = time_first(x.detach()).reshape(-1)
    if x.device.type == "cpu":
        largest = kernels.largest_integer(flat.numpy())
    else:
        largest = float(flat.abs().max()) if bool((flat == flat.trunc()).all()) else math.inf
    return largest * MANTISSA_MAX * terms < EXACT


def _weight(layer: Any) -> Tensor:
    """The quantised weight without its axis of time."""
    return layer.pre_hook_fx(layer.weight).squeeze(-1)


def _aligned(layer: Any) -> bool:
    """Whether windows lie side by side within each channel, as pooling usually has them."""
    return (
        layer.stride == layer.weight.shape[2:]
        and not any(layer.padding)
        and set(layer.dilation) == {1}
    )


def _plane(size: Any) -> tuple[int, int]:
    """Height and width of a size that has time as its last axis."""
    return size[0], size[1]


class FastDense(synapse.Dense):
    """`slayer.synapse.Dense`."""

    def forward(self, input: Tensor) -> Tensor:
        """Weighted sums (N, C', T) or (N, C', 1, 1, T) of spikes (N, C, T) or (N, C, H, W, T)."""
        terms = self.weight[0].numel()
        if input.dim() not in (3, 5) or not _exact(self, input, terms):
            return super().forward(input.contiguous())
        weight = _weight(self)
        if input.dim() == 3:
            return time_last(F.linear(time_first(input), weight.flatten(1)))
        return unfold(F.conv2d(fold(input), weight), input.shape[-1])


class FastConv(synapse.Conv):
    """`slayer.synapse.Conv`."""

    def forward(self, input: Tensor) -> Tensor:
        """Weighted sums (N, C', H', W', T) of spikes (N, C, H, W, T)."""
        if not _exact(self, input, self.weight[0].numel()):
            return super().forward(input.contiguous())
        axes = (_plane(self.stride), _plane(self.padding), _plane(self.dilation))
        images = F.conv2d(fold(input), _weight(self), None, *axes, self.groups)
        return unfold(images, input.shape[-1])


class FastConvTranspose(synapse.ConvTranspose):
    """`slayer.synapse.ConvTranspose`."""

    def forward(self, input: Tensor) -> Tensor:
        """Weighted sums (N, C', H', W', T) of spikes (N, C, H, W, T)."""
        if not _exact(self, input, self.weight[:, 0].numel()):
            return super().forward(input.contiguous())
        images = F.conv_transpose2d(
            fold(input), _weight(self), None, _plane(self.stride), _plane(self.padding),
            _plane(self.output_padding), self.groups, _plane(self.dilation),
        )  # fmt: skip
        return unfold(images, input.shape[-1])


class FastPool(synapse.Pool):
    """`slayer.synapse.Pool`, where its windows lie side by side and divide the map."""

    def forward(self, input: Tensor) -> Tensor:
        """Weighted sums (N, C, H / k, W / k, T) of spikes (N, C, H, W, T)."""
        height, width = self.weight.shape[2:4]
        divides = input.shape[2] % height == 0 and input.shape[3] % width == 0
        if not (divides and _aligned(self) and _exact(self, input, height * width)):
            return super().forward(input.contiguous())
        channels = input.shape[1]
        weight = _weight(self).expand(channels, -1, -1, -1)
        images = F.conv2d(fold(input), weight, None, _plane(self.stride), groups=channels)
        return unfold(images, input.shape[-1])


class FastUnpool(synapse.Unpool):
    """`slayer.synapse.Unpool`, where its windows lie side by side."""

    def forward(self, input: Tensor) -> Tensor:
        """Weighted copies (N, C, k H, k W, T) of spikes (N, C, H, W, T)."""
        if not (_aligned(self) and _exact(self, input, 1)):
            return super().forward(input.contiguous())
        channels = input.shape[1]
        weight = _weight(self).expand(channels, -1, -1, -1)
        images = F.conv_transpose2d(fold(input), weight, None, _plane(self.stride), groups=channels)
        return unfold(images, input.shape[-1])
