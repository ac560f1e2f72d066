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

    The operations are chosen for a CPU's speed (torch 2.3: `trunc` and `masked_fill` cost ten to
    forty times a `div` or `addcmul`), and work in place: the sums become the potentials.

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
        initial = node.neuron.initial * UNIT
        self._initial = torch.full((1, 1, 1, 1), initial, device=device) if initial else None

    def run(
        self,
        sums: Tensor,
        u: Tensor | None,
        v: Tensor | None,
        currents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Some timesteps.

        Args:
            sums: synaptic sums, (T, N, C, H, W); overwritten.
            u, v: current and potential before, (N, C, H, W), in state units; None at a sample's start.
            currents: where given, u at each timestep is written here, (T, N, C, H, W).

        Returns:
            Spikes and potentials after reset, (T, N, C, H, W), and the last current, None where it has
            no memory.

        Raises:
            OverflowInRunError: a synaptic sum or a running sum left the 24-bit range.
        """
        neuron = self.node.neuron
        spikes = torch.empty_like(sums)
        memory = neuron.current_decay != DECAY_ONE
        bounded = self.node.sum_bound is not None
        # What a spike takes away: None, all that there is.
        taken = -self._threshold if neuron.reset == "subtract" else None
        potentials = sums.mul_(UNIT)
        v = self._initial if v is None else v
        for t, x in enumerate(potentials):
            if memory:
                _add_decayed(x, u, neuron.current_decay)
                u = x.clone()
            if memory or bounded:
                self._check_range(x, t)
            if currents is not None:
                currents[t] = x
            x.add_(self._bias)
            _add_decayed(x, v, neuron.voltage_decay)
            if bounded and neuron.is_readout:
                # A sum that clips would answer wrongly, and one that spikes would start anew.
                self._check_range(x, t, self._threshold + 1, "running sum")
            elif bounded and taken is not None:
                # Clipping would lose a part of what a spike leaves.
                self._check_range(x, t, STATE_MAX - 0.5, "potential")
            x.clamp_(-STATE_MAX + 1, STATE_MAX - 1)
            torch.gt(x, self._threshold, out=spikes[t])
            if taken is None:
                v = x.addcmul_(x, spikes[t], value=-1)
            else:
                v = x.add_(spikes[t], alpha=taken)
        return spikes, potentials, u

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


def _add_decayed(x: Tensor, state: Tensor | None, by: int) -> None:
    """``x += state * (4096 - by) >> 12``, towards zero, exactly."""
    keep = DECAY_ONE - by
    if state is None or keep == 0:
        return
    if keep & (keep - 1) == 0:
        x.add_(torch.div(state, DECAY_ONE // keep, rounding_mode="trunc"))
        return
    # 24 state bits times 12 decay bits do not fit a float32.
    x.add_(torch.div(state.double().mul_(keep), DECAY_ONE, rounding_mode="trunc"))
