"""One SLAYER block's neuron and weights as integers can hold them, or why they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.weight_norm import WeightNorm

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import DECAY_ONE, THRESHOLD_MAX, Shape
from neucodex_lava.models.slayer import block as cuba_block
from neucodex_lava.models.slayer import cuba
from neucodex_lava.models.slayer import norm as cuba_norm

STATE_STEPS = 64
"""Steps of SLAYER's states per step of its weights."""


@dataclass(frozen=True, eq=False)
class ReadConvolution:
    """What a block does to a map, as a convolution.

    Attributes:
        out: channels.
        geometry: the rest, as `OwnLayer` has it.
        raw, effective: weights to go on training with, and those that SLAYER multiplies spikes by.
        bias: (1,) or (out,).
    """

    out: int
    geometry: dict[str, Any]
    raw: Tensor
    effective: Tensor
    bias: Tensor


def convolution_of(block: Any, shape: Shape, values: Tensor, where: str) -> ReadConvolution:
    """A Conv; or a Pool or an Input with neurons, which are convolutions of each channel by itself.

    Args:
        block: one of these.
        shape: (C, H, W) of what it gets.
        values: all that the network's input can hold.
        where: names the block.
    """
    channels = shape[0]
    bias = norm_bias(block.neuron, where)
    if isinstance(block, cuba_block.Input):
        if block.neuron.cx_current_decay != DECAY_ONE and block.bias is not None:
            raise NetError(
                f"{where}: its bias passes through a current with memory", "use current_decay=1"
            )
        hook: Any = block.pre_hook_fx
        if not torch.equal(hook(values), values):
            raise NetError(
                f"{where}: its quantiser clips input of up to {int(values[-1])}",
                "use a smaller scale, or an encoding into spikes",
            )
        raw = effective = torch.ones(1)
        if block.weight is not None:
            raw, effective = block.weight.detach(), hook(block.weight).detach()
        if block.bias is not None:
            bias = bias + hook(block.bias).detach()
        raw, effective = (w.expand(channels, 1, 1, 1, 1) for w in (raw, effective))
        return ReadConvolution(channels, {"groups": channels}, raw, effective, bias)
    synapse = block.synapse
    raw, effective = weights_of(block, where)
    geometry: dict[str, Any] = {
        key: tuple(int(n) for n in getattr(synapse, key)[:2])
        for key in ("stride", "padding", "dilation")
    }
    geometry["kernel"] = tuple(int(n) for n in synapse.kernel_size[:2])
    if isinstance(block, cuba_block.Pool):
        _check_pool(geometry, shape, where)
        geometry["groups"] = channels
        raw, effective = (w.expand(channels, 1, -1, -1, 1) for w in (raw, effective))
        return ReadConvolution(channels, geometry, raw, effective, bias)
    if int(synapse.in_channels) != channels:
        raise NetError(f"{where}: takes {synapse.in_channels} channels, its input has {channels}")
    geometry["groups"] = int(synapse.groups)
    return ReadConvolution(int(synapse.out_channels), geometry, raw, effective, bias)


def _check_pool(geometry: dict[str, Any], shape: Shape, where: str) -> None:
    """SLAYER puts the channels of a Pool below each other; only so does none reach into the next."""
    kernel = geometry["kernel"]
    plain = geometry["stride"] == kernel and geometry["padding"] == (0, 0)
    divides = all(n % k == 0 for n, k in zip(shape[1:], kernel))
    if not plain or not divides or geometry["dilation"] != (1, 1):
        raise NetError(
            f"{where}: pools {kernel} of {shape[1]}x{shape[2]} with stride {geometry['stride']},"
            f" padding {geometry['padding']}",
            "only a stride of the kernel's size that divides the map, without padding, can be",
        )


def check_kind(block: Any, where: str) -> None:
    """Raise NetError unless the block has CUBA neurons whose sums are exact."""
    neuron = block.neuron
    if not isinstance(neuron, cuba.Neuron):
        raise NetError(
            f"{where}: neurons of {type(neuron).__module__} cannot be imported", "CUBA neurons can"
        )
    if neuron.persistent_state:
        raise NetError(
            f"{where}: keeps its state from one sample to the next (persistent_state)",
            "train it with persistent_state=False: every sample starts at rest",
        )
    scale = int(neuron.w_scale)
    if scale & (scale - 1):
        raise NetError(
            f"{where}: its scale {scale} is no power of two, so that SLAYER's own sums are rounded",
            "use scale=64, or another power of two",
        )


def checked_neuron(block: Any, where: str) -> Any:
    """The block's neuron, if one shared integer neuron can be it."""
    check_kind(block, where)
    neuron = block.neuron
    if neuron.graded_spike:
        raise NetError(f"{where}: sends graded spikes", "train it with graded_spike=False")
    decays = neuron.current_decay.numel(), neuron.voltage_decay.numel()
    if not neuron.shared_param or decays != (1, 1):
        raise NetError(
            f"{where}: its neurons have decays of their own (shared_param=False)",
            "train it with shared_param=True: a core of the chip holds one neuron model",
        )
    return neuron


def threshold_of(neuron: Any, where: str) -> int:
    """The threshold in steps of 1 / scale, if SLAYER's own comparison is v > threshold.

    It compares v >= threshold + eps in float32, once for the reset and once for the spike.
    """
    scale = float(neuron.s_scale)
    theta = int(neuron.v_th_mant)
    level = float(neuron.threshold) + float(neuron.threshold_eps)
    at, above = theta * STATE_STEPS, theta * STATE_STEPS + 1
    resets = at < float(np.float32(level * scale)) <= above
    spikes = np.float32(at / scale) < np.float32(level) <= np.float32(above / scale)
    if 1 <= theta <= THRESHOLD_MAX and resets and bool(spikes):
        return theta
    raise NetError(
        f"{where}: its threshold is {theta} steps of 1/{int(neuron.w_scale)}; SLAYER does as the chip"
        " does, and spikes above the threshold only, from 1 to 4095",
        "train it with a smaller scale or threshold, or with"
        " neuron.threshold_eps = 0.5 / neuron.s_scale",
    )


def norm_bias(neuron: Any, where: str) -> Tensor:
    """What a mean-only batch norm adds in evaluation, (1,) or (out,)."""
    norm = neuron.norm
    if norm is None:
        return torch.zeros(1)
    if not isinstance(norm, cuba_norm.MeanOnlyBatchNorm):
        raise NetError(
            f"{where}: its norm {type(norm).__name__} cannot be imported",
            "MeanOnlyBatchNorm can: it is a bias",
        )
    bias = -cast("Tensor", norm.pre_hook_fx(norm.running_mean)).detach()
    integers = bias * neuron.w_scale
    if not torch.equal(torch.round(integers), integers):
        raise NetError(f"{where}: its norm is not quantised", "leave the norm's pre_hook_fx alone")
    return bias


def weights_of(block: Any, where: str) -> tuple[Tensor, Tensor]:
    """Weights to go on training with, and those that SLAYER multiplies spikes by."""
    synapse = block.synapse
    raw: Tensor = synapse.weight
    for hook in synapse._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):  # its `weight` is as old as the last forward pass
            raw = hook.compute_weight(synapse)
    raw = raw.detach()
    mask: Any = getattr(block, "mask", None)
    if mask is not None:
        raw = raw * mask
    if not bool(raw.isfinite().all()):
        raise NetError(f"{where}: its weights hold NaN or infinity", "import an earlier checkpoint")
    quantiser = synapse.pre_hook_fx
    effective = raw if quantiser is None else quantiser(raw).detach()
    own = block.neuron.quantize_8bit
    if torch.equal(own(raw), effective):
        return raw, effective
    if torch.equal(own(effective), effective):
        return effective, effective
    raise NetError(
        f"{where}: its weights are no even 8-bit multiples of 1/{int(block.neuron.w_scale)}",
        "leave the synapse's pre_hook_fx alone: it is the block's own quantiser",
    )


def keeping(weight: Tensor, integers: Tensor, gain: float) -> Tensor:
    """`weight`, but exactly integers / gain where float32 would round it to another even integer."""
    rounded = 2 * torch.round(weight * gain / 2)
    clamped = rounded.clamp(-256, 254)
    return torch.where(clamped == integers, weight, integers / gain).contiguous()
