"""Convolutions of spikes: their sums and gradients are torch's, whatever the path that is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.models.convolution import Convolution

CASES = [
    (Convolution(1, 1), (6, 5, 3, 3)),
    (Convolution(2, 1), (6, 5, 3, 3)),
    (Convolution(2, 0), (8, 5, 1, 1)),
    (Convolution(2, 1, transposed=True, output_padding=1), (5, 6, 3, 3)),
    (Convolution(1, 1), (6, 1, 3, 3)),
]


def integers(shape: tuple[int, ...], limit: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + limit)
    return torch.randint(-limit, limit + 1, shape, generator=generator).float()


def plain(x: Tensor, weight: Tensor, shape: Convolution) -> Tensor:
    if shape.transposed:
        return F.conv_transpose2d(
            x, weight, None, shape.stride, shape.padding, shape.output_padding
        )
    return F.conv2d(x, weight, None, shape.stride, shape.padding)


@pytest.mark.parametrize(("shape", "size"), CASES)
@pytest.mark.parametrize(
    ("dtype", "exact"), [(torch.float32, False), (torch.bfloat16, True), (torch.bfloat16, False)]
)
def test_small_integers_give_torchs_sums_and_gradients(
    shape: Convolution, size: tuple[int, ...], dtype: torch.dtype, exact: bool
) -> None:
    channels = size[0] if shape.transposed else size[1]
    # Products and sums of such numbers fit bfloat16's eight bits, but for the exact sums.
    limit = 100 if exact else 1
    found, expected = [], []
    for results, forward in (
        (found, lambda x, w: shape.apply(x, w, dtype, exact)),
        (expected, lambda x, w: plain(x, w, shape)),
    ):
        x = (integers((2, channels, 8, 8), 1).abs()).requires_grad_()
        weight = (2 * integers(size, limit)).requires_grad_()
        sums = forward(x, weight)
        grad = torch.zeros(sums.shape)
        grad.flatten()[::7] = 1
        sums.backward(grad.to(sums.dtype))
        assert x.grad is not None
        assert weight.grad is not None
        results += [sums.detach().float(), x.grad.float(), weight.grad]
    # In bfloat16 gradients may round: they are sums of up to a few thousand.
    for name, mine, theirs in zip(("sums", "x", "weight"), found, expected):
        slack = 0 if dtype == torch.float32 or (exact and name == "sums") else 2**-7
        assert torch.allclose(mine, theirs, rtol=slack, atol=0), name
    if exact:
        assert found[0].abs().max() > 256, "beyond what bfloat16 could hold exactly"
