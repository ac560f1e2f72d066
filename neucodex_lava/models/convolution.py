"""Convolutions of spikes, channels last, in float32 or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Convolution:
    """Shape of a convolution, or of a transposed one (which alone has an output padding)."""

    stride: int
    padding: int
    transposed: bool = False
    output_padding: int = 0

    def apply(self, x: Tensor, weight: Tensor, dtype: torch.dtype, exact: bool) -> Tensor:
        """Weighted sums.

        Args:
            x: spikes or small integers (N, C, H, W), exact in bfloat16 and float32 alike.
            weight: float32, as torch's convolutions take it.
            dtype: of products and gradients; float32 is added up in any case.
            exact: keep the sums in float32 though `dtype` is bfloat16; for even integer weights below
                512, which bfloat16 holds exactly, the gradients are those of the same weights.
        """
        if (
            self.stride > 1
            and self.padding == 0
            and weight.shape[2:] == (1, 1)
            and not self.transposed
        ):
            # torch 2.3 writes beyond its memory in the backward pass of such a convolution (4 to 8
            # channels, 64x64, channels last, on a CPU); what it skips it never needed.
            x, shape = x[:, :, :: self.stride, :: self.stride], replace(self, stride=1)
            return shape.apply(x, weight, dtype, exact)
        if dtype == torch.float32:
            return self.sums(x.float(), weight)
        return _HalfSums.apply(x.to(dtype), weight, self, exact)  # type: ignore[no-any-return]

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums, in the type of both."""
        x, weight = _channels_last(x), _channels_last(weight)
        if self.transposed:
            return F.conv_transpose2d(
                x, weight, None, self.stride, self.padding, self.output_padding
            )
        return F.conv2d(x, weight, None, self.stride, self.padding)

    def gradients(self, grad: Tensor, x: Tensor, weight: Tensor, of: int) -> Tensor:
        """Gradient of x (`of` 0) or of the weights (1), given that of the sums; all in one type."""
        backward: Any = torch.ops.aten.convolution_backward
        result = backward(
            _channels_last(grad), _channels_last(x), _channels_last(weight), None,
            [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed,
            [self.output_padding] * 2, 1, [of == 0, of == 1, False],
        )  # fmt: skip
        return result[of]


class _HalfSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shape: Convolution, exact: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.convolution = shape
        return shape.sums(x.float(), weight) if exact else shape.sums(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        shape: Convolution = ctx.convolution
        half: torch.dtype = x.dtype
        grad = grads[0].to(half)
        of_x = shape.gradients(grad, x, weight.to(half), 0) if ctx.needs_input_grad[0] else None
        # oneDNN has no fast bfloat16 kernel for the weights of a strided convolution (40 times slower).
        wide = torch.float32 if shape.stride > 1 and x.device.type == "cpu" else half
        of_weight = shape.gradients(grad.to(wide), x.to(wide), weight.to(wide), 1)
        return of_x, of_weight.float(), None, None


def _channels_last(x: Tensor) -> Tensor:
    """Channels last, but for one channel, with which torch 2.3 leaves sums unwritten on a CPU."""
    if x.shape[1] == 1:
        return x.clone(memory_format=torch.contiguous_format)
    return x.contiguous(memory_format=torch.channels_last)


__all__ = ["Convolution"]
