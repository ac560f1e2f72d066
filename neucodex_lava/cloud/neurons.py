"""Neurons in torch: integers held in float32, float64 where a decay needs more than 24 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from neucodex_lava.errors import OverflowInRunError
from neucodex_lava.integer_net import DECAY_ONE, STATE_SHIFT, Node

STATE_MAX = float(1 << 23)
"""States are 24 bits wide: a current above this, or at or below its negative, would wrap."""
UNIT = float(1 << STATE_SHIFT)


class Neurons:
    """A node's neurons.

    Args:
        node: says decays, threshold and bias.
        device: of bias and inputs.
    """

    def __init__(self, node: Node, device: torch.device) -> None:
        self.node = node
        self._bias = (
            torch.tensor(node.bias, dtype=torch.float32, device=device)[:, None, None] * UNIT
        )
        self._threshold = node.neuron.threshold * UNIT

    def run(
        self, drive: Tensor, u: Tensor, v: Tensor, record: bool
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor]]:
        """Some timesteps.

        Args:
            drive: synaptic sums, (T, N, C, H, W).
            u, v: current and potential before, (N, C, H, W), in state units.
            record: keep the potentials of any node, not only of a readout.

        Returns:
            Spikes and potentials after reset (T, N, C, H, W), and u and v after.

        Raises:
            OverflowInRunError: a synaptic sum or a running sum left the 24-bit range.
        """
        neuron = self.node.neuron
        spikes = torch.empty_like(drive)
        potential = torch.empty_like(drive) if neuron.is_readout or record else None
        memory = neuron.current_decay != DECAY_ONE
        bounded = self.node.sum_bound is not None
        for t in range(drive.shape[0]):
            current = drive[t] * UNIT
            if memory:
                current = _decay(u, neuron.current_decay) + current
            if memory or bounded:
                self._check_range(current, t)
            u = current
            v = _decay(v, neuron.voltage_decay) + current + self._bias
            if bounded and neuron.is_readout:
                # A sum that clips would answer wrongly, and one that spikes would start anew.
                self._check_range(v, t, self._threshold + 1, "running sum")
            v = v.clamp(-STATE_MAX + 1, STATE_MAX - 1)
            fired = v > self._threshold
            spikes[t] = fired
            v = v.masked_fill(fired, 0.0)
            if potential is not None:
                potential[t] = v
        return spikes, potential, (u, v)

    def _check_range(
        self, state: Tensor, t: int, limit: float = STATE_MAX, what: str = "synaptic sum"
    ) -> None:
        low, high = torch.aminmax(state)
        if high > limit or low <= -limit:
            worst = high if high > limit else low
            raise OverflowInRunError(
                f"node '{self.node.name}': the {what} reached {float(worst) / UNIT:.0f} at"
                f" step {t + 1}, a 24-bit state holds {int(STATE_MAX / UNIT) - 1}",
                "quantise again with a larger margin",
            )


def _decay(state: Tensor, by: int) -> Tensor:
    """``state * (4096 - by) >> 12`` towards zero, exactly."""
    keep = DECAY_ONE - by
    if keep == 0:
        return torch.zeros_like(state)
    if keep & (keep - 1) == 0:
        return torch.trunc(state * (keep / DECAY_ONE))
    # 24 state bits times 12 decay bits do not fit a float32.
    return torch.trunc(state.double() * keep / DECAY_ONE).float()
