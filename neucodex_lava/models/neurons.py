"""Neurons of a whole block, spike-identical to SLAYER's; with its batch norms in one operation.

    drive = sum_i (scale_i * z_i + bias_i)        spikes = LIF(drive)

where scale and bias come from a batch norm (in training of the batch itself, and then the gradient
passes through its mean and variance), or are given. On the CPU this runs in `models.kernels`, at 9
passes over the block's values for forward and backward together; elsewhere by torch operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neucodex_lava.models import kernels
from neucodex_lava.models.dynamics import DECAY_ONE, FLOAT_SCALE, LIF, lif_torch, slayer_neuron
from neucodex_lava.models.slayer import cuba
from neucodex_lava.workers import share_out

TILE = 512
"""Values worked on at once, about: a few such arrays stay in the first-level cache."""
FEW = 1 << 15
"""Below so many values the other threads would take longer to wake than to help."""


@dataclass(frozen=True, eq=False)
class Part:
    """What one connection brings to a block.

    Attributes:
        z: weighted sums (T, N, C, H, W), float32 or bfloat16.
        norm: its batch norm, in training mode; then `scale` and `bias` are its weight and bias.
        scale, bias: (C,), else; None stands for 1 and 0.
    """

    z: Tensor
    norm: nn.BatchNorm2d | None = None
    scale: Tensor | None = None
    bias: Tensor | None = None


def norm_lif(
    parts: Sequence[Part], lif: LIF, *, whole: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Spikes of a block.

    Args:
        parts: at least one, all of one shape.
        lif: the neuron.
        whole: round every z to an integer first, with the gradient of the identity: sums of integers
            that a fast convolution gave may be off by less than a half.
        dtype: of the spikes.

    Returns:
        0 and 1, (T, N, C, H, W).
    """
    small = {torch.float32, torch.bfloat16}
    if (
        len(parts) <= 2
        and all(p.z.device.type == "cpu" and p.z.dtype in small for p in parts)
        and dtype in small
    ):
        return _on_cpu(parts, lif, whole, dtype)
    return lif_torch(drive_of(parts, whole=whole), lif).to(dtype)


def drive_of(parts: Sequence[Part], *, whole: bool = False) -> Tensor:
    """The input current (T, N, C, H, W) of a block, float32, by torch operations; see `norm_lif`."""
    drive: Any = 0.0
    for part in parts:
        z = part.z.float()
        if whole:
            z = z + (torch.round(z) - z).detach()
        if part.norm is not None:
            drive = drive + part.norm(z.flatten(0, 1)).unflatten(0, z.shape[:2])
            continue
        drive = drive + (z if part.scale is None else z * part.scale[:, None, None])
        if part.bias is not None:
            drive = drive + part.bias[:, None, None]
    return drive


def relu(parts: Sequence[Part], threshold: float, dtype: torch.dtype) -> Tensor:
    """What an artificial network has in place of spikes: max(0, drive / threshold), (T, N, C, H, W).

    Args:
        parts: as of `norm_lif`.
        threshold: of the neuron whose place it takes: 1 comes out where that one would just fire.
        dtype: of the result.
    """
    return torch.relu(drive_of(parts) / threshold).to(dtype)


def _on_cpu(parts: Sequence[Part], lif: LIF, whole: bool, dtype: torch.dtype) -> Tensor:
    channels = parts[0].z.shape[2]
    ones, zeros = torch.ones(channels), torch.zeros(channels)
    arguments: list[Tensor] = []
    for part in parts:
        norm = part.norm
        if norm is not None:
            arguments += [part.z, norm.weight, norm.bias]
        else:
            scale = ones if part.scale is None else part.scale
            arguments += [part.z, scale, zeros if part.bias is None else part.bias]
    eps = tuple(None if p.norm is None else p.norm.eps for p in parts)
    run: Any = _NormLIF.apply
    spikes, *moments = run(_Spec(lif, whole, dtype, eps), *arguments)
    for i, part in enumerate(parts):
        if part.norm is not None:
            z = part.z
            _update_running(part.norm, moments[2 * i], moments[2 * i + 1], z.numel() // channels)
    return spikes


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """As torch's batch norm does it: unbiased variance, a plain average without a momentum."""
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * (count / max(1, count - 1)), share)


@dataclass(frozen=True)
class _Spec:
    """What does not change from batch to batch; `eps` of each part's batch norm, None without."""

    lif: LIF
    whole: bool
    dtype: torch.dtype
    eps: tuple[float | None, ...]


class _NormLIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spec: _Spec, *arguments: Tensor) -> Any:
        timesteps, _, channels = arguments[0].shape[:3]
        flats: list[Tensor] = []
        scales: list[Tensor] = []
        moments: list[Tensor] = []
        total = torch.zeros(channels)
        for i, eps in enumerate(spec.eps):
            z, weight, bias = arguments[3 * i : 3 * i + 3]
            flats.append(_flat(z))
            mean = variance = torch.empty(0)
            if eps is None:
                scale, shift = weight, bias
            else:
                mean, variance = _moments(flats[-1], channels)
                scale = weight * torch.rsqrt(variance + eps)
                shift = bias - mean * scale
            moments += [mean, variance]
            scales.append(scale)
            total = total + shift
        out = torch.empty_like(flats[0], dtype=spec.dtype)
        values = _Values(flats, scales, total, timesteps)
        values.run(
            lambda first, last: kernels.forward(
                *values.inputs, spec.whole, timesteps, first, last,
                spec.lif.keep, spec.lif.fire, spec.lif.scale, _numpy(out),
            )
        )  # fmt: skip
        ctx.save_for_backward(*flats, *scales, total, *moments)
        ctx.spec, ctx.shape = spec, arguments[0].shape
        ctx.mark_non_differentiable(*moments)
        return _unflat(out, ctx.shape), *moments

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        spec: _Spec = ctx.spec
        lif, shape = spec.lif, ctx.shape
        n, (timesteps, channels) = len(spec.eps), (shape[0], shape[2])
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        flats, scales, total = saved[:n], saved[n : 2 * n], saved[2 * n]
        moments = saved[2 * n + 1 :]
        arrived = _flat(grads[0].to(spec.dtype))
        grad = torch.empty_like(arrived)
        values = _Values(flats, scales, total, timesteps)
        sums = values.reduce(
            3,
            lambda first, last, sums: kernels.backward(
                *values.inputs, spec.whole, timesteps, first, last,
                lif.keep, lif.fire, lif.scale, lif.centre, lif.width, lif.height,
                _numpy(arrived), _numpy(grad), sums,
            ),
        )  # fmt: skip
        of_drive = sums[0]
        count = grad.numel() // channels
        result: list[Tensor | None] = [None]
        for i in range(n):
            scale, of_scale = scales[i].double(), sums[1 + i]
            # The last part may overwrite the drive's gradient; parts before it need it still.
            out = grad if i == n - 1 else torch.empty_like(grad)
            eps = spec.eps[i]
            if eps is None:
                if i < n - 1 or not bool((scales[i] == 1).all()):
                    values.scale_by(grad, scale, out)
                result += [_unflat(out, shape), of_scale.float(), of_drive.float()]
                continue
            mean, variance = (m.double() for m in moments[2 * i : 2 * i + 2])
            inverse = torch.rsqrt(variance + eps)
            of_weight = inverse * (of_scale - mean * of_drive)
            slope = -scale * inverse * of_weight / count
            offset = -scale * of_drive / count - slope * mean
            values.affine(grad, i, scale, slope, offset, out)
            result += [_unflat(out, shape), of_weight.float(), of_drive.float()]
        return tuple(result)


class _Values:
    """A block's values in flat memory with their coefficients, and threads to work on them."""

    def __init__(
        self, flats: Sequence[Tensor], scales: Sequence[Tensor], bias: Tensor, timesteps: int
    ) -> None:
        channels = len(bias)
        self.flats = flats
        self.size = flats[0].numel()
        self.repeat = max(1, TILE // channels)
        self.span = self.repeat * channels
        self.tiles = -(-(self.size // timesteps) // self.span)
        arrays = [_numpy(f) for f in flats]
        a, b = self._tiled(scales[0]), self._tiled(bias)
        a2 = self._tiled(scales[-1])
        self.inputs: tuple[Any, ...] = (arrays[0], a, b, arrays[-1], a2, len(flats))

    def _tiled(self, channel: Tensor) -> NDArray[np.float32]:
        return np.tile(channel.detach().numpy().astype(np.float32), self.repeat)

    def run(self, job: Callable[[int, int], object], tiles: int | None = None) -> None:
        """Call job(first, last) on all tiles, shared out among the threads."""
        pieces = self.tiles if tiles is None else tiles
        share_out(pieces, _threads(self.size, pieces), lambda first, last, _: job(first, last))

    def reduce(self, rows: int, job: Callable[[int, int, NDArray[np.float64]], object]) -> Tensor:
        """Sums (rows, C) of what job(first, last, sums) adds to sums (rows, L)."""
        return _reduced(self.size, self.tiles, rows, self.span, self.repeat, job)

    def affine(self, grad: Tensor, part: int, a: Tensor, c: Tensor, e: Tensor, out: Tensor) -> None:
        """out = a grad + c z + e."""
        arrays = [self._tiled(x) for x in (a, c, e)]
        g, z, o = _numpy(grad), _numpy(self.flats[part]), _numpy(out)
        self.run(
            lambda first, last: kernels.affine(g, z, *arrays, self.size, first, last, o),
            -(-self.size // self.span),
        )

    def scale_by(self, grad: Tensor, a: Tensor, out: Tensor) -> None:
        """out = a grad."""
        tiled, g, o = self._tiled(a), _numpy(grad), _numpy(out)
        self.run(
            lambda first, last: kernels.scaled(g, tiled, self.size, first, last, o),
            -(-self.size // self.span),
        )


def _moments(flat: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of each channel."""
    size, repeat = flat.numel(), max(1, TILE // channels)
    z, span = _numpy(flat), repeat * channels
    tiles = -(-size // span)
    sums = _reduced(
        size, tiles, 2, span, repeat,
        lambda first, last, out: kernels.moments(z, span, size, first, last, out),
    )  # fmt: skip
    mean, square = sums / (size // channels)
    return mean.float(), (square - mean * mean).clamp(min=0).float()


def _reduced(
    size: int, tiles: int, rows: int, span: int, repeat: int,
    job: Callable[[int, int, NDArray[np.float64]], object],
) -> Tensor:  # fmt: skip
    # One row of sums for each thread, added in their order: the same result in every run.
    parts = np.zeros((_threads(size, tiles), rows, span))
    share_out(tiles, len(parts), lambda first, last, i: job(first, last, parts[i]))
    return torch.from_numpy(parts.sum(0).reshape(rows, repeat, -1).sum(1))


def _threads(size: int, tiles: int) -> int:
    return min(torch.get_num_threads(), tiles) if size >= FEW else 1


def _flat(x: Tensor) -> Tensor:
    """The values of (T, N, C, H, W) in one row, channels innermost; copied if they lie otherwise."""
    images = x.flatten(0, 1)
    return images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1)


def _unflat(flat: Tensor, shape: Sequence[int]) -> Tensor:
    t, n, c, h, w = shape
    return flat.view(t * n, h, w, c).permute(0, 3, 1, 2).unflatten(0, (t, n))


def _numpy(flat: Tensor) -> NDArray[Any]:
    """The same memory; bfloat16, which numpy lacks, as int16."""
    flat = flat.detach()
    if flat.dtype == torch.bfloat16:
        return flat.view(torch.int16).numpy()
    return flat.numpy()


def lif(drive: Tensor, neuron: cuba.Neuron | LIF) -> Tensor:
    """Spikes (T, N, ...) of float input current `drive` (T, N, ...), as SLAYER's neuron gives them.

    Args:
        drive: weighted spikes plus bias at each timestep, in weight units.
        neuron: made by `slayer_neuron`, or its numbers.
    """
    numbers = neuron if isinstance(neuron, LIF) else LIF.of(neuron)
    if drive.device.type != "cpu" or drive.dtype != torch.float32:
        return lif_torch(drive, numbers)
    flat = drive.reshape(drive.shape[0], -1, 1, 1, 1)
    return norm_lif([Part(flat)], numbers).reshape(drive.shape)


def integrate(drive: Tensor) -> Tensor:
    """The readout: running sums (T, N, ...) of its input current, neither decaying nor spiking."""
    return drive.cumsum(0)


__all__ = [
    "DECAY_ONE",
    "FLOAT_SCALE",
    "LIF",
    "Part",
    "drive_of",
    "integrate",
    "lif",
    "norm_lif",
    "relu",
    "slayer_neuron",
]
