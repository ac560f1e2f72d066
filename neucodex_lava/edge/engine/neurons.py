"""The neurons of a node: state and parameters, laid out for `update` once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.engine.update import NO_CEILING, STATE_MAX, update
from neucodex_lava.integer_net import DECAY_ONE, STATE_SHIFT, Node, worst_case_sums


class Neurons:
    """State and parameters of one node, laid out for `update`.

    Attributes:
        acc: synaptic sums (H, W, C); int32 where they fit whatever the input, else int64.
        current: u, int32 (H, W, C).
        potential: v after reset, int32 (H, W, C).
        overflow: int64 (3,): whether a neuron left its range, the first one, and its value.
    """

    def __init__(self, node: Node, input_bits: int) -> None:
        channels, height, width = node.shape
        shape = (height, width, channels)
        fits = max(worst_case_sums(node, input_bits)) < 1 << 31
        self.acc: NDArray[Any] = np.zeros(shape, np.int32 if fits else np.int64)
        self.current = np.zeros(shape, np.int32)
        self.potential = np.zeros(shape, np.int32)
        self.overflow = np.zeros(3, np.int64)
        self._bias = np.tile(node.bias << STATE_SHIFT, width)
        self._keep_current = DECAY_ONE - node.neuron.current_decay
        self._keep_potential = DECAY_ONE - node.neuron.voltage_decay
        self._threshold = node.neuron.threshold << STATE_SHIFT
        self._subtract = node.neuron.reset == "subtract"
        self._initial = node.neuron.initial << STATE_SHIFT
        self._ceiling = NO_CEILING
        if node.neuron.is_readout:
            # Its potential is the result, which must neither clip nor fire.
            self._ceiling = self._threshold
        elif self._subtract and node.sum_bound is not None:
            # Clipping would lose a part of what a spike leaves.
            self._ceiling = STATE_MAX - 1
        flat = (height, width * channels)
        self._flat = [a.reshape(flat) for a in (self.acc, self.current, self.potential)]
        self._flat_shape = flat

    def reset(self) -> None:
        """Back to the state at the start of a sample."""
        self.current.fill(0)
        self.potential.fill(self._initial)

    def step(self, spikes: NDArray[np.uint8]) -> int:
        """Run `update`, writing uint8 (H, W, C) spikes; returns how many there are."""
        acc, current, potential = self._flat
        return update(
            acc,
            current,
            potential,
            spikes.reshape(self._flat_shape),
            self._bias,
            self._keep_current,
            self._keep_potential,
            self._threshold,
            self._subtract,
            self._ceiling,
            self.overflow,
        )
