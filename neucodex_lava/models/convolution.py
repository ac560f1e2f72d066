"""Convolutions of spikes, channels last, in float32 or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
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
        if dtype == torch.float32 or not exact:
            return self._sums(x.to(dtype), weight.to(dtype))
        return _ExactSums.apply(x.to(dtype), weight, self)  # type: ignore[no-any-return]

    def _sums(self, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = _channels_last(x), _channels_last(weight)
        if self.transposed:
            return F.conv_transpose2d(
                x, weight, None, self.stride, self.padding, self.output_padding
            )
        return F.conv2d(x, weight, None, self.stride, self.padding)


class _ExactSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shape: Convolution) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.convolution = shape
        return shape._sums(x.float(), weight)  # pyright: ignore[reportPrivateUsage]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        shape: Convolution = ctx.convolution
        two = [shape.stride] * 2, [shape.padding] * 2, [1, 1], shape.transposed
        backward: Any = torch.ops.aten.convolution_backward
        of_x, of_weight, _ = backward(
            _channels_last(grads[0].to(x.dtype)), _channels_last(x),
            _channels_last(weight.to(x.dtype)), None, *two, [shape.output_padding] * 2, 1,
            [ctx.needs_input_grad[0], True, False],
        )  # fmt: skip
        return of_x, of_weight.float(), None


def _channels_last(x: Tensor) -> Tensor:
    """Channels last, but for one channel, with which torch 2.3 leaves sums unwritten on a CPU."""
    if x.shape[1] == 1:
        return x.clone(memory_format=torch.contiguous_format)
    return x.contiguous(memory_format=torch.channels_last)


__all__ = ["Convolution"]
