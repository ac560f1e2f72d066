"""Blocks of SLAYER synapses and neurons: one block is one node of the later IntegerNet.

A block sums its synapses (residual joins are two synapses into one membrane), adds biases and drives
one SLAYER neuron. It works in two phases:

* **float**: v <- v/2 + x, threshold 2 (the paper's LIF with tau = 2, threshold 1); batch norm with
  batch statistics while training;
* **integer**: batch norm folded with frozen running statistics, multiplied by the block's gain g and
  rounded straight-through to even 8-bit weights and integer biases, threshold 2g. The forward pass
  is then on the exact integers of docs/semantics.md.

An artificial network has an activation in place of the neuron; converted ones have the neurons of
`models.converted`, whose threshold may be another than 2.

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

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import (
    BIAS_MAX,
    EXPONENT_MAX,
    INPUT,
    SUM_MAX,
    THRESHOLD_MAX,
    WEIGHT_MAX,
)
from neucodex_lava.models.converted import QCFS, Converted, fire, fire_plainly
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
from neucodex_lava.models.synapses import FLOAT_THRESHOLD, Synapses, pool

VOLTAGE_DECAY = 0.5
HEADROOM = 0.9
"""Share of each limit that a gain may use, so that weights may still grow while training."""
FINE_WEIGHT = 64
"""A readout whose largest weight would be smaller than this is too coarse."""
MEASURED_MARGIN = 4.0
"""How much larger than measured sums may become before they overflow."""


def round_straight_through(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


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


def largest_even_mantissa(limit: float) -> int:
    """The largest integer w * 2^e <= limit with w even, 2 <= w <= 254: what an identity can weigh."""
    fitting = (min(WEIGHT_MAX, 2 * int(limit / 2**e / 2)) << e for e in range(EXPONENT_MAX + 1))
    return max(fitting)
