"""A user's own network as trainable blocks: a chain with its own decays, geometry and delays."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.config.own import OwnConfig, OwnLayer
from neucodex_lava.connection import DELAY_MAX
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import (
    BIAS_MAX,
    INPUT,
    SUM_MAX,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    Shape,
)
from neucodex_lava.models.blocks import HEADROOM, SpikingBlock, round_straight_through
from neucodex_lava.models.neurons import DECAY_ONE, Part, slayer_neuron
from neucodex_lava.models.slayer import cuba, shift
from neucodex_lava.models.slayer import synapse as slayer_synapse
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import Synapses


def build_own(
    config: OwnConfig, input_shape: Shape, classes: int, timesteps: int, input_bits: int = 1
) -> SplitModel:
    """A base network (uncut) with random weights: a chain of the configured layers.

    Args:
        config: the layers.
        input_shape: (C, H, W).
        classes: outputs of the readout, which are the last layer's.
        timesteps: T_max.
        input_bits: 1 for spikes, b for graded input.
    """
    assert config.layers[-1].out == classes, (config.layers[-1].out, classes)
    source, shape = INPUT, input_shape
    blocks: list[SpikingBlock] = []
    for layer in config.layers:
        readout = layer is config.layers[-1]
        synapses = OwnSynapses(source, shape, layer)
        block = OwnBlock(layer, synapses, readout=readout, timesteps=timesteps)
        blocks.append(block)
        source, shape = block.name, block.shape
    split_points = {i: i for i in range(1, config.split_points + 1)}
    return SplitModel(input_shape, blocks, split_points, timesteps, input_bits)


class OwnSynapses(Synapses):
    """Synapses of any geometry, whose spikes may arrive later; without a norm.

    Args:
        source, source_shape: as in `Synapses`.
        layer: says the rest.
    """

    def __init__(self, source: str, source_shape: Shape, layer: OwnLayer) -> None:
        super().__init__(source, layer.kind, source_shape, layer.out, norm=False)
        if layer.kind == "conv":
            conv: Any = slayer_synapse.Conv  # its annotations know no pairs
            geometry = layer.kernel, layer.stride, layer.padding, layer.dilation, layer.groups
            self.synapse = conv(source_shape[0], layer.out, *geometry)
        self.layer = layer
        self.delay = torch.tensor(layer.delay, dtype=torch.int64)
        if len(layer.delay) > 1:
            self.delay = self.delay.reshape(source_shape)

    def output_shape(self) -> Shape:
        """(C, H, W) these synapses give."""
        if self.kind == "dense":
            return self.out, 1, 1
        image = torch.empty(1, *self.source_shape, device="meta")
        out = self._convolve(image, torch.empty_like(self.synapse.weight, device="meta"))
        return cast("Shape", tuple(out.shape[1:]))

    def apply(self, x: Tensor, weight: Tensor, *, exact: bool = False) -> Tensor:
        """As in `Synapses`, in float32 always; `x` has arrived already."""
        if self.kind == "dense":
            return super().apply(x, weight, exact=exact)
        # Of one channel, memory can look like channels last too: torch 2.3 then leaves sums unwritten.
        images = x.flatten(0, 1).float().clone(memory_format=torch.contiguous_format)
        out = self._convolve(images, weight)
        return out.unflatten(0, x.shape[:2])

    def _convolve(self, images: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums of (N, C, H, W), weights in SLAYER's layout."""
        s: Any = self.synapse
        stride, padding, dilation = s.stride[:2], s.padding[:2], s.dilation[:2]
        return F.conv2d(images, weight[..., 0], None, stride, padding, dilation, s.groups)

    def arriving(self, x: Tensor) -> Tensor:
        """Spikes (T, N, C, H, W) as they reach the synapses; later ones than T are lost."""
        if not self.delay.numel():
            return x
        steps = torch.arange(len(x), device=x.device)[:, None, None, None, None]
        sent = steps - self.delay.to(x.device)
        there = x.gather(0, sent.clamp(min=0).expand_as(x))
        return there * (sent >= 0)

    def integer_delay(self) -> NDArray[np.uint8]:
        """The delay as a `Connection` has it: () or one per source neuron, (1, in)."""
        delay = self.delay.numpy()
        if not delay.size:
            return np.zeros((), np.uint8)
        if delay.max() > DELAY_MAX:
            raise NetError(
                f"layer '{self.layer.name}': its spikes take {delay.max()} timesteps, the limit is"
                f" {DELAY_MAX}",
                "train with a smaller max_delay",
            )
        return (delay.reshape(1, -1) if delay.size > 1 else delay.reshape(())).astype(np.uint8)


class OwnBlock(SpikingBlock):
    """A node of a user's network, with the decays of its own neurons.

    Args:
        layer: its name and decays.
        synapses: the one connection into it.
        readout, timesteps: as in `SpikingBlock`.
    """

    def __init__(
        self, layer: OwnLayer, synapses: OwnSynapses, *, readout: bool, timesteps: int
    ) -> None:
        # Before the base class, which makes the first neuron.
        self.layer = layer
        self.imported_gain = 0.0
        super().__init__(layer.name, [synapses], readout=readout, timesteps=timesteps)

    def _neuron(self, threshold: float, scale: int) -> cuba.Neuron:
        neuron = super()._neuron(threshold, scale)
        if not self.readout:
            slow = slayer_neuron(threshold, self.layer.voltage_decay / DECAY_ONE, scale)
            slow.current_decay.data.fill_(self.layer.current_decay)
            self.lif = type(self.lif).of(slow)
            return slow
        return neuron

    def set_gain(self, gain: float) -> None:
        """As in `SpikingBlock`; the first gain is the one the user's network had."""
        super().set_gain(gain)
        self.imported_gain = self.imported_gain or gain

    def choose_gain(self, input_bits: int = 1, measured: float = 0.0) -> float:
        """The largest gain within the limits, but no coarser than the user's own where it fits.

        Slow neurons of many inputs may only in theory sum up more than 24 bits hold: then
        `quantize.to_integer_net` gives the node a bound that every run watches.
        """
        if self.readout:
            return super().choose_gain(input_bits, measured)
        (link,) = self.links()
        weight, bias = (x.detach().cpu().abs() for x in link.fold())
        largest = float((1 << input_bits) - 1) if link.source == INPUT else 1.0
        grow_u, grow_v = (
            min(DECAY_ONE / decay, self.timesteps) if decay else self.timesteps
            for decay in (self.layer.current_decay, self.layer.voltage_decay)
        )
        total = weight.flatten(1).sum(1) * largest * grow_u
        worst = float((total + bias).max()) * grow_v
        fits = min(
            WEIGHT_MAX / max(float(weight.max()), 1e-9),
            BIAS_MAX / max(float(bias.max()), 1e-9),
            THRESHOLD_MAX / 2,
        )
        safe = SUM_MAX / max(worst, 1e-9)
        limit = HEADROOM * min(fits, max(safe, self.imported_gain / HEADROOM))
        if limit < 2:
            # Raises, and says what is too large.
            return super().choose_gain(input_bits, measured)
        return math.floor(2 * limit) / 2

    def parts(self, values: dict[str, Tensor]) -> list[Part]:
        """As in `SpikingBlock`, after the delays, and with the current's memory."""
        (link,) = self.links()
        assert isinstance(link, OwnSynapses)
        (part,) = super().parts({link.source: link.arriving(values[link.source])})
        if self.readout or self.layer.current_decay == DECAY_ONE:
            return [part]
        z = round_straight_through(part.z) if self.integer else part.z
        states = cast("Tensor", _Current.apply(z, self.layer.current_decay, self.lif.scale))
        # In state units, so that they are integers like any other sums.
        unit = torch.full((self.shape[0],), 1 / self.lif.scale, device=z.device)
        return [Part(states, scale=unit, bias=part.bias)]

    def forward_slayer(self, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As in `SpikingBlock`, delays by SLAYER's own shift in time."""
        (link,) = self.links()
        assert isinstance(link, OwnSynapses)
        if link.delay.numel():
            late = link.delay if link.delay.numel() > 1 else int(link.delay)
            values = {link.source: shift(values[link.source], late)}
        return super().forward_slayer(values)


class _Current(torch.autograd.Function):
    """SLAYER's current in state units: u[t] = trunc(u[t-1] (4096 - decay) / 4096) + trunc(s x[t]).

    As in SLAYER, the gradient passes through time by the decay alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: int, scale: float) -> Tensor:
        ctx.keep = keep = (DECAY_ONE - decay) / DECAY_ONE
        ctx.scale = scale
        current = torch.empty_like(x)
        u = torch.zeros_like(x[0])
        for t in range(len(x)):
            # 24 bits of state times 12 of decay need float64.
            u = torch.trunc(u.double() * keep).float() + torch.trunc(x[t] * scale)
            current[t] = u
        return current

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0] * ctx.scale
        for t in range(len(grad) - 2, -1, -1):
            grad[t].add_(grad[t + 1], alpha=ctx.keep)
        return grad, None, None
