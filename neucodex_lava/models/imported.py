"""A user's own SLAYER blocks, read into an `OwnConfig` and weights that give the same spikes.

Every block of neurons becomes one layer. A neuron's weights, biases and threshold are brought to our
float phase's threshold of 2 (a LIF neuron is scale-invariant), and the gain that makes them SLAYER's
own integers again is kept: with s the block's `scale` and theta its threshold in steps of 1/s ::

    W' = W * 2 s / theta        g = theta / 2        quantised(g W') = s * quantised(W)

What SLAYER does that an integer network cannot, or that training could not go on with, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neucodex_lava.config.own import OwnConfig, OwnLayer
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import DECAY_ONE, SUM_MAX, Shape
from neucodex_lava.models.imported_block import (
    check_kind,
    checked_neuron,
    convolution_of,
    keeping,
    norm_bias,
    threshold_of,
    weights_of,
)
from neucodex_lava.models.slayer import block as cuba_block
from neucodex_lava.models.synapses import FLOAT_THRESHOLD

COUNT_WEIGHT = 128
"""Integer weight with which a readout counts the spikes of an output layer."""
RATE_LOGITS = 8.0
"""Logit of an output neuron that spikes at every timestep: the softmax of 1 against nine of 0 is 0.23,
of 8 it is 0.997, so that a confidence can be reached."""


@dataclass(frozen=True, eq=False)
class ReadBlock:
    """Weights of one layer.

    Attributes:
        weight: float32, (out, in / groups, ky, kx, 1), SLAYER's layout.
        bias: float32 (out,).
        gain: by which both become integers.
    """

    weight: Tensor
    bias: Tensor
    gain: float


def read_blocks(
    blocks: Iterable[nn.Module],
    input_shape: Shape,
    timesteps: int,
    name: str,
    input_bits: int = 1,
) -> tuple[OwnConfig, list[ReadBlock]]:
    """A chain of SLAYER's CUBA blocks as a configuration and its weights; nothing is changed in them.

    Read are ``Input``, ``Flatten``, ``Conv``, ``Pool``, ``Dense``, and at the end ``Average`` and
    ``Affine``. The readout is an ``Affine`` block's own sum of weighted spikes, or else it counts the
    output layer's spikes, times `RATE_LOGITS` per timestep. ``delay_shift`` and learned delays
    become delays of the next layer's connection.

    Args:
        blocks: in order.
        input_shape: (C, H, W).
        timesteps: T_max.
        name: of the architecture.
        input_bits: 1 for spikes, b for graded input.

    Raises:
        NetError: a block that cannot be imported, by its number and type, and the way out.
    """
    reader = _Reader(input_shape, input_bits)
    for number, block in enumerate(blocks):
        reader.read(block, f"block {number} ({type(block).__name__})")
    return reader.finish(timesteps, name)


class _Reader:
    """Where the walk through the blocks stands.

    `late` holds, for every neuron of the layer before, how many timesteps its spikes take, (C, H, W).
    """

    def __init__(self, input_shape: Shape, input_bits: int) -> None:
        self.values = torch.arange(1 << input_bits).float()
        self.shape: Shape = input_shape
        self.late: NDArray[np.int64] = np.zeros(input_shape, np.int64)
        self.flat = False
        self.layers: list[OwnLayer] = []
        self.weights: list[ReadBlock] = []
        self.groups = 0
        self.ended = False

    def read(self, block: nn.Module, where: str) -> None:
        """Take in the next block."""
        if self.ended or (self.groups and not isinstance(block, cuba_block.Flatten)):
            raise NetError(f"{where}: comes after the output", "pass only the blocks up to it")
        if isinstance(block, cuba_block.Flatten):
            self.flat = True
        elif isinstance(block, cuba_block.Input) and block.neuron is None:
            pass  # SLAYER itself cannot delay what such a block passes on.
        elif isinstance(block, cuba_block.Average):
            outputs = int(block.num_outputs)
            if not self.layers or self.shape[0] % outputs or self.shape[1:] != (1, 1):
                raise NetError(f"{where}: cannot average {self.shape} into {outputs} outputs")
            self.groups = outputs
        elif isinstance(block, cuba_block.Affine):
            self._affine(block, where)
        elif isinstance(block, (cuba_block.Input, cuba_block.Conv, cuba_block.Pool)):
            self._convolution(block, where)
        elif isinstance(block, cuba_block.Dense):
            self._dense(block, where)
        else:
            raise NetError(
                f"{where}: blocks of type {type(block).__module__}.{type(block).__name__} cannot be"
                " imported",
                "rebuild it from slayer.block.cuba: Input, Flatten, Conv, Pool, Dense, Affine, Average",
            )

    def finish(self, timesteps: int, name: str) -> tuple[OwnConfig, list[ReadBlock]]:
        """The configuration, with a readout that counts spikes where the network has none."""
        if not self.layers:
            raise NetError("there is no block with neurons among the blocks")
        if self.ended:
            return OwnConfig(name, tuple(self.layers)), self.weights
        if self.shape[1:] != (1, 1):
            raise NetError(
                f"the last block gives maps of {self.shape}, not one output for each class",
                "end the network in a Dense or an Affine block",
            )
        neurons = self.shape[0]
        classes = self.groups or neurons
        members = neurons // classes
        integer = min(COUNT_WEIGHT, 2 * (SUM_MAX // (2 * timesteps * members)))
        if not integer:
            raise NetError(
                f"{members} output neurons a class over {timesteps} timesteps cannot be counted in"
                f" {SUM_MAX}",
                "use fewer",
            )
        owner = torch.arange(neurons) // members
        each = RATE_LOGITS / members
        weight = torch.where(owner == torch.arange(classes)[:, None], each, 0.0)
        self.layers.append(OwnLayer("readout", "dense", classes, delay=self._delay("dense", "")))
        self.weights.append(
            ReadBlock(
                weight.reshape(classes, neurons, 1, 1, 1), torch.zeros(classes), integer / each
            )
        )
        return OwnConfig(name, tuple(self.layers), counts_spikes=True), self.weights

    def _convolution(self, block: Any, where: str) -> None:
        """A Conv; or a Pool or an Input with neurons, which are convolutions of each channel."""
        if self.flat:
            raise NetError(
                f"{where}: comes after a flatten, so that its input has no height and width"
            )
        neuron = checked_neuron(block, where)
        read = convolution_of(block, self.shape, self.values, where)
        layer = OwnLayer(
            f"{_word(block)}{len(self.layers) + 1}",
            "conv",
            read.out,
            current_decay=int(neuron.cx_current_decay),
            voltage_decay=int(neuron.cx_voltage_decay),
            delay=self._delay("conv", where),
            **read.geometry,
        )
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                self.shape[1:], layer.padding, layer.dilation, layer.kernel, layer.stride
            )
        ]
        if min(size) < 1:
            raise NetError(f"{where}: its kernel is larger than its input of {self.shape}")
        self._add(layer, neuron, read.raw, read.effective, read.bias, where)
        self.shape = layer.out, size[0], size[1]
        self._send(block, where)

    def _dense(self, block: Any, where: str) -> None:
        neuron = checked_neuron(block, where)
        raw, effective = self._dense_weights(block, where)
        layer = OwnLayer(
            f"dense{len(self.layers) + 1}",
            "dense",
            int(raw.shape[0]),
            current_decay=int(neuron.cx_current_decay),
            voltage_decay=int(neuron.cx_voltage_decay),
            delay=self._delay("dense", where),
        )
        self._add(layer, neuron, raw, effective, norm_bias(neuron, where), where)
        self.shape, self.flat = (layer.out, 1, 1), False
        self._send(block, where)

    def _affine(self, block: Any, where: str) -> None:
        """The readout: its weighted spikes are summed up, as SLAYER's voltage does without a leak."""
        neuron = block.neuron
        check_kind(block, where)
        sums = neuron.cx_current_decay == DECAY_ONE and neuron.cx_voltage_decay == 0
        if block.dynamics and not (sums and neuron.norm is None):
            raise NetError(
                f"{where}: its voltage leaks or has a norm, but a readout sums its input",
                "build it with dynamics=False (or current_decay=1, voltage_decay=0): the checkpoint"
                " still fits, and finetune adapts the rest",
            )
        raw, effective = self._dense_weights(block, where)
        scale = float(neuron.w_scale)
        out = int(raw.shape[0])
        self.layers.append(OwnLayer("readout", "dense", out, delay=self._delay("dense", where)))
        exact = torch.round(effective * scale)
        self.weights.append(ReadBlock(keeping(raw, exact, scale), torch.zeros(out), scale))
        self.ended = True

    def _dense_weights(self, block: Any, where: str) -> tuple[Tensor, Tensor]:
        raw, effective = weights_of(block, where)
        found, expected = raw[0].numel(), int(np.prod(self.shape))
        if found != expected:
            raise NetError(
                f"{where}: takes {found} neurons, its input has {expected}, {self.shape}",
                "put a Flatten before it" if found == self.shape[0] else "",
            )
        # Before the first layer of weights, (C, H, W) is only how we see flat input.
        first = all(layer.name.startswith("input") for layer in self.layers)
        flat = self.flat or first or self.shape[1:] == (1, 1)
        if not flat and tuple(raw.shape[2:4]) != self.shape[1:]:
            raise NetError(f"{where}: its input is {self.shape}", "put a Flatten before it")
        return raw.reshape(len(raw), -1, 1, 1, 1), effective.reshape(len(raw), -1, 1, 1, 1)

    def _add(
        self,
        layer: OwnLayer,
        neuron: Any,
        raw: Tensor,
        effective: Tensor,
        bias: Tensor,
        where: str,
    ) -> None:
        """Keep a layer of neurons, its weights brought to a threshold of 2."""
        scale, theta = float(neuron.w_scale), threshold_of(neuron, where)
        factor, gain = FLOAT_THRESHOLD * scale / theta, theta / FLOAT_THRESHOLD
        weight = keeping(raw * factor, torch.round(effective * scale), gain)
        if bias.numel() not in (1, layer.out):
            raise NetError(f"{where}: its norm has {bias.numel()} means for {layer.out} channels")
        exact_bias = torch.round(bias * scale).expand(layer.out)
        self.layers.append(layer)
        self.weights.append(ReadBlock(weight, exact_bias / gain, gain))

    def _send(self, block: Any, where: str) -> None:
        """What the block adds to the delay of its spikes on their way to the next."""
        late = np.full(self.shape, int(bool(getattr(block, "delay_shift", False))), np.int64)
        delay: Any = getattr(block, "delay", None)
        if delay is not None:
            values = torch.floor(delay.delay.detach().clamp(0, delay.max_delay)).long().numpy()
            if not delay.init:
                raise NetError(
                    f"{where}: its delays were never set: SLAYER draws them at the first forward pass",
                    "run the network once, or pass its checkpoint",
                )
            late += values.reshape(-1, 1, 1)
        self.late = late

    def _delay(self, kind: str, where: str) -> tuple[int, ...]:
        """The delay of the connection to come, as `OwnLayer` has it."""
        late = self.late
        if (late == late.flat[0]).all():
            return (int(late.flat[0]),) if late.any() else ()
        if kind == "conv":
            raise NetError(
                f"{where}: the channels before it have delays of their own, which a convolution on"
                " the chip has no room for",
                "train the block before it with delay=False",
            )
        return tuple(int(d) for d in late.reshape(-1))


def _word(block: nn.Module) -> str:
    kinds = {"pool": cuba_block.Pool, "input": cuba_block.Input}
    return next((word for word, kind in kinds.items() if isinstance(block, kind)), "conv")
