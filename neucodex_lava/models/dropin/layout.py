"""Where values lie: SLAYER's axes are (N, C, ..., T); here memory holds (T, N, ..., C).

The axes that a user sees stay SLAYER's, only the strides differ, so that time folds into the batch and
convolutions run channels-last without a copy between blocks.
"""

from __future__ import annotations

from torch import Tensor


def time_first(x: Tensor) -> Tensor:
    """(N, C, ..., T) as a contiguous (T, N, ..., C); a view when it already lies so."""
    d = x.dim()
    return x.permute(d - 1, 0, *range(2, d - 1), 1).contiguous()


def time_last(x: Tensor) -> Tensor:
    """(T, N, ..., C) as a view (N, C, ..., T)."""
    d = x.dim()
    return x.permute(1, d - 1, *range(2, d - 1), 0)


def fold(x: Tensor) -> Tensor:
    """(N, C, H, W, T) as images (T * N, C, H, W) in channels-last memory."""
    return time_first(x).flatten(0, 1).permute(0, 3, 1, 2)


def unfold(images: Tensor, timesteps: int) -> Tensor:
    """(T * N, C, H, W) as (N, C, H, W, T)."""
    return time_last(images.permute(0, 2, 3, 1).unflatten(0, (timesteps, -1)))
