"""Blocks of SLAYER synapses and neurons: one block is one node of the later IntegerNet.

A block sums its synapses (residual joins are two synapses into one membrane), adds biases and drives
one SLAYER neuron. It works in two phases:

* **float**: v <- v/2 + x, threshold 2 (the paper's LIF with tau = 2, threshold 1); batch norm with
  batch statistics while training;
* **integer**: batch norm folded with frozen running statistics, multiplied by the block's gain g and
  rounded straight-through to even 8-bit weights and integer biases, threshold 2g. The forward pass
  is then on the exact integers of docs/semantics.md.

Two paths compute the same spikes: the fast one (`models.neurons.norm_lif`, time folded into the batch),
and SLAYER's own modules (`forward_slayer`).

Arrays inside a network are (T, N, C, H, W), channels innermost in memory; SLAYER's are (N, C, H, W, T).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import (
    BIAS_MAX,
    EXPONENT_MAX,
    INPUT,
    SUM_MAX,
    THRESHOLD_MAX,
    WEIGHT_MAX,
    ConnectionKind,
    Shape,
)
from neucodex_lava.models.converted import QCFS, Converted, fire, fire_plainly
from neucodex_lava.models.convolution import Convolution
from neucodex_lava.models.neurons import (
    DECAY_ONE,
    FLOAT_SCALE,
    LIF,
    Part,
    drive_of,
    integrate,
    norm_lif,
    relu,
    slayer_neuron,
)
from neucodex_lava.models.slayer import cuba
from neucodex_lava.models.slayer import synapse as slayer_synapse

FLOAT_THRESHOLD = 2.0
VOLTAGE_DECAY = 0.5
NORM_EPS = 1e-2
"""A silent channel's variance is near 0; torch's eps of 1e-5 would fold into weights 300 times their
size, and one such channel would take the whole node's 8-bit range."""
HEADROOM = 0.9
"""Share of each limit that a gain may use, so that weights may still grow while training."""
FINE_WEIGHT = 64
"""A readout whose largest weight would be smaller than this is too coarse."""
MEASURED_MARGIN = 4.0
"""How much larger than measured sums may become before they overflow."""


def round_straight_through(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


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
        self.bias = None if norm or kind == "identity" else nn.Parameter(torch.zeros(out))
        if self.synapse is not None:
            fan_in = self.synapse.weight[0].numel()
            if kind == "conv_transpose":
                fan_in = channels * kernel * kernel / stride**2
            nn.init.normal_(self.synapse.weight, std=math.sqrt(2.0 / fan_in))

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
        factor = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        shape = [1] * weight.dim()
        shape[1 if self.kind == "conv_transpose" else 0] = -1
        return weight * factor.view(shape), self.bn.bias - self.bn.running_mean * factor

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

    def float_part(self, x: Tensor) -> Part:
        """What the float phase brings to the block: sums, and the batch norm or a bias."""
        if self.kind == "identity":
            return Part(x)
        weight: Tensor = self.synapse.weight
        z = self.apply(x, weight / self.positions if self.pooled else weight)
        if self.bn is None:
            return Part(z, bias=self.bias)
        if self.bn.training:
            return Part(z, norm=self.bn)
        assert self.bn.running_mean is not None
        assert self.bn.running_var is not None
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        return Part(z, scale=scale, bias=self.bn.bias - self.bn.running_mean * scale)


class SpikingBlock(nn.Module):
    """One node: synapses into one membrane, and a SLAYER neuron (or an integrating readout).

    Args:
        name: node name, unique in the network; letters, digits and underscores.
        synapses: at least one; all give the same shape.
        readout: integrate instead of spike.
        timesteps: T_max, for the readout's limit.
    """

    def __init__(
        self,
        name: str,
        synapses: Sequence[Synapses],
        *,
        readout: bool = False,
        timesteps: int = 1,
    ) -> None:
        super().__init__()
        self.name = name
        self.synapses = nn.ModuleList(synapses)
        self.readout = readout
        self.timesteps = timesteps
        self.shape = synapses[0].output_shape()
        self.gain = 0.0
        self.artificial = False
        self.activation: QCFS | None = None
        self.converted: Converted | None = None
        self.neuron = self._neuron(FLOAT_THRESHOLD, FLOAT_SCALE)

    def _neuron(self, threshold: float, scale: int) -> cuba.Neuron:
        decay = self.converted.voltage_decay / DECAY_ONE if self.converted else VOLTAGE_DECAY
        neuron = slayer_neuron(threshold, 0.0 if self.readout else decay, scale)
        if self.readout:
            # SLAYER's own way to say "no spikes": block.cuba.Affine sets the same.
            neuron._threshold = -1.0  # pyright: ignore[reportPrivateUsage]
        else:
            self.lif = LIF.of(neuron)
        return neuron

    def convert(self, neurons: Converted) -> None:
        """Give it neurons of a converted network, before any gain is set."""
        self.converted = neurons
        self.neuron = self._neuron(FLOAT_THRESHOLD, FLOAT_SCALE)

    @property
    def integer(self) -> bool:
        """Whether the block is in its integer phase."""
        return self.gain > 0

    @property
    def threshold(self) -> float:
        """Of its neurons, in weight units of the phase it is in; an integer in the integer phase."""
        theta = float(self.activation.threshold) if self.activation else FLOAT_THRESHOLD
        return round(theta * self.gain) if self.integer else theta

    @property
    def soft(self) -> bool:
        """Whether its neurons keep what exceeds their threshold, and start at half of it."""
        return self.converted is not None and self.converted.soft and not self.readout

    @property
    def initial(self) -> float:
        """Potential before the first timestep, in the threshold's units."""
        if not self.soft:
            return 0.0
        return self.threshold // 2 if self.integer else self.threshold / 2

    def links(self) -> list[Synapses]:
        """The synapses, typed."""
        return [s for s in self.synapses if isinstance(s, Synapses)]

    def set_gain(self, gain: float) -> None:
        """Enter the integer phase with this gain: threshold 2g (theta g), weights times g."""
        self.gain = gain
        threshold = 1.0 if self.readout else float(self.threshold)
        self.neuron = self._neuron(threshold, 1).to(next(self.parameters()).device)

    def choose_gain(self, input_bits: int = 1, measured: float = 0.0) -> float:
        """The largest gain whose weights, biases and sums stay within `HEADROOM` of the limits.

        Args:
            input_bits: of the network's input.
            measured: of a readout, the largest running sum seen (float phase), of neurons that keep
                what exceeds their threshold the largest potential. Where the worst case over all
                possible inputs would leave too coarse weights, `MEASURED_MARGIN` times this one must
                fit instead.

        Raises:
            NetError: the gain would be below 2, or leave a readout no weights.
        """
        with torch.no_grad():
            largest_weight, bias = 0.0, torch.zeros(self.shape[0])
            positive, negative = torch.zeros(self.shape[0]), torch.zeros(self.shape[0])
            joins = False
            for link in self.links():
                weight, b = (x.detach().cpu() for x in link.fold())
                bias = bias + b
                scale = float((1 << input_bits) - 1) if link.source == INPUT else 1.0
                if link.kind == "identity":
                    joins = True
                    positive = positive + scale
                    continue
                largest_weight = max(largest_weight, float(weight.abs().max()))
                axes = [i for i in range(weight.dim()) if i != (link.kind == "conv_transpose")]
                positive = positive + scale * link.positions * weight.clamp(min=0).sum(axes)
                negative = negative + scale * link.positions * (-weight).clamp(min=0).sum(axes)
            largest_bias, bias_max = float(bias.abs().max()), float(BIAS_MAX)
            if self.converted and not self.readout:
                # After a reset to zero a potential that has fallen out of range is clipped, and only
                # a timestep's sums must fit; one that keeps what it has must not be.
                largest_sum = float(torch.maximum(positive, negative).max())
                bias_max = min(bias_max, SUM_MAX / self.converted.growth)
                if self.soft:
                    largest_sum = (largest_sum + largest_bias) * self.converted.growth
                    largest_sum = min(largest_sum, MEASURED_MARGIN * measured or largest_sum)
            elif self.readout:
                both = torch.maximum(positive, negative) + bias.abs()
                largest_sum = self.timesteps * float(both.max())
                if measured and largest_weight * SUM_MAX < FINE_WEIGHT * largest_sum:
                    largest_sum = min(largest_sum, MEASURED_MARGIN * measured)
            else:
                down = float((negative + bias.abs()).max()) / VOLTAGE_DECAY
                largest_sum = max(float(positive.max()), down)
            bounds = [
                WEIGHT_MAX / max(largest_weight, 1e-9),
                bias_max / max(largest_bias, 1e-9),
                SUM_MAX / max(largest_sum, 1e-9),
                THRESHOLD_MAX / self.threshold,
            ]
        limit = HEADROOM * min(bounds)
        if limit < 2:
            raise NetError(
                f"node '{self.name}' cannot be quantised: its gain would be {limit:.2g}, at least 2"
                f" is needed (largest folded weight {largest_weight:.3g}, bias {largest_bias:.3g})",
                "train longer, or with a smaller learning rate: a layer has died or exploded",
            )
        if self.readout:
            if limit * largest_weight < 2:
                raise NetError(
                    f"node '{self.name}' cannot be quantised: its sums over {self.timesteps} timesteps"
                    f" leave it weights of at most {limit * largest_weight:.2g}, all of them 0",
                    "give it a smaller map (a larger stem stride), or fewer timesteps",
                )
            return limit
        if joins:
            return float(largest_even_mantissa(limit))
        return math.floor(self.threshold * limit) / self.threshold

    def integer_weights(self, link: Synapses) -> Tensor:
        """Even integer weights of one connection in SLAYER's layout, by SLAYER's own quantiser.

        An identity's weight is the gain itself.
        """
        weight, _ = link.fold()
        if link.kind == "identity":
            return weight * self.gain
        return self.neuron.quantize_8bit(weight * self.gain)

    def integer_bias(self) -> Tensor:
        """Integer bias per channel, (C,)."""
        device = next(self.parameters()).device
        total = torch.zeros(self.shape[0], device=device)
        for link in self.links():
            total = total + link.fold()[1].to(device)
        return round_straight_through(total * self.gain).clamp(-BIAS_MAX, BIAS_MAX)

    def largest(self, values: dict[str, Tensor]) -> float:
        """What `choose_gain` wants measured; 0 of neurons that need none.

        Args:
            values: of all nodes up to this one, in the float phase, each (T, N, C, H, W).
        """
        if self.readout:
            return float(values[self.name].abs().max())
        if not self.soft:
            return 0.0
        taken = self.threshold * values[self.name]
        kept = self.initial + (drive_of(self.parts(values)) - taken).cumsum(0)
        return float(torch.maximum(kept.abs(), (kept + taken).abs()).max())

    def parts(self, values: dict[str, Tensor]) -> list[Part]:
        """What each connection brings to the membrane; see `forward`."""
        parts = [
            self._integer_part(link, values[link.source])
            if self.integer
            else link.float_part(values[link.source])
            for link in self.links()
        ]
        if self.integer:
            parts[0] = replace(parts[0], bias=self.integer_bias())
        return parts

    def forward(self, values: dict[str, Tensor]) -> Tensor:
        """Spikes (or the readout's running sums), (T, N, C, H, W), on the fast path.

        Args:
            values: spikes of the nodes before, by name, each (T, N, C, H, W).
        """
        parts, dtype = self.parts(values), self.links()[0].dtype
        if self.artificial and not self.readout:
            if self.activation is not None:
                return self.activation(drive_of(parts)).to(dtype)
            return relu(parts, self.lif.fire / self.lif.scale, dtype)
        if self.soft:
            drive = drive_of(parts, whole=self.integer)
            return fire(drive, self.threshold, self.initial).to(dtype)
        if not self.readout:
            return norm_lif(parts, self.lif, whole=self.integer, dtype=dtype)
        # A readout has one dense connection, no batch norm.
        (part,) = parts
        assert part.bias is not None
        drive = round_straight_through(part.z) if self.integer else part.z
        return integrate(drive + part.bias[:, None, None])

    def _integer_part(self, link: Synapses, x: Tensor) -> Part:
        if link.kind == "identity":
            return Part(x, scale=torch.full((self.shape[0],), self.gain, device=x.device))
        return Part(link.apply(x, self.integer_weights(link), exact=True))

    def forward_slayer(self, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The same spikes or sums from SLAYER's own synapses and neuron, and its potential.

        SLAYER has no neuron that keeps what exceeds its threshold: those are run by plain loops.

        Returns:
            Spikes (or the readout's running sums), and the potential after each timestep, 0 where the
            neuron spiked and was reset to it, in weight units; both (N, C, H, W, T).
        """
        drive: Tensor | None = None
        for link in self.links():
            x = values[link.source]
            if link.kind == "identity":
                part = x * self.integer_weights(link)
            else:
                link.synapse.pre_hook_fx = lambda _weight, link=link: self.integer_weights(link)
                part = link.synapse(_flat(link, x))
                link.synapse.pre_hook_fx = None
            drive = part if drive is None else drive + part
        assert drive is not None
        bias = self.integer_bias()[:, None, None, None]
        if self.soft:
            return fire_plainly(drive + bias, int(self.threshold), int(self.initial))
        self.neuron.norm = lambda current: current + bias
        self.neuron.shape = None
        voltage: Any = self.neuron.dynamics(torch.round(drive))[1]
        if self.readout:
            return voltage, voltage
        spikes: Any = self.neuron.spike(voltage)
        return spikes, voltage * (1 - spikes)


def _flat(link: Synapses, x: Tensor) -> Tensor:
    """A dense synapse sees (N, neurons, 1, 1, T), pooled where it pools."""
    if link.kind != "dense":
        return x
    return pool(x.movedim(-1, 0), link.window).flatten(2).movedim(0, -1)[:, :, None, None]


def pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Sums (..., H / h, W / w), rounded up, over windows (h, w) of maps (..., H, W)."""
    if window == (1, 1):
        return x
    h, w = window
    x = F.pad(x, (0, -x.shape[-1] % w, 0, -x.shape[-2] % h))
    return x.unflatten(-1, (-1, w)).unflatten(-3, (-1, h)).sum((-1, -3))


def largest_even_mantissa(limit: float) -> int:
    """The largest integer w * 2^e <= limit with w even, 2 <= w <= 254: what an identity can weigh."""
    fitting = (min(WEIGHT_MAX, 2 * int(limit / 2**e / 2)) << e for e in range(EXPONENT_MAX + 1))
    return max(fitting)
