"""Synapses in torch: a node's exact synaptic sums over time, its delays, and what its spikes reach.

Arrays are (T, N, C, H, W): time first, so that a convolution sees T * N images at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.integer_net import Connection, IntegerNet, Node, Shape


class Synapses:
    """One connection into a node, its weights and fan-out maps on the device.

    Args:
        net: the network.
        node: where the connection leads.
        connection: one of the node's.
        device: of weights and inputs.
    """

    def __init__(
        self, net: IntegerNet, node: Node, connection: Connection, device: torch.device
    ) -> None:
        self.source = connection.source
        self.graded = net.is_graded(connection)
        self._connection = connection
        self._target: Shape = node.shape
        self._weight = torch.tensor(connection.effective_weight(), device=device).float()
        shape = net.shape_of(connection.source)
        maps = connection.fan_out(shape, node.shape)
        stacked = np.stack([m.reshape(-1) for m in maps], axis=1)
        self._fan_out = torch.tensor(stacked, dtype=torch.float64, device=device)
        late = node.shape if connection.delays_targets else shape
        delay = connection.delay
        self._delays = {
            int(d): torch.tensor((delay == d).reshape(late) if delay.ndim else True, device=device)
            for d in np.unique(delay)
        }

    def arrive(self, spikes: Tensor, flight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What reaches the synapses, and what is then still in flight.

        Args:
            spikes: of the source, (T, N, C, H, W).
            flight: as returned by the last call of these samples; None at a sample's start.
        """
        if self._connection.delays_targets:
            return spikes, flight
        return self._delayed(spikes, flight)

    def sums(self, arriving: Tensor, flight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Synaptic sums a as they reach the neurons, (T, N, C, H, W), exact integers; and sums still
        in flight, where each target neuron has a delay of its own.
        """
        sums = _weighted(self._connection, self._weight, arriving, self._target)
        return self._delayed(sums, flight) if self._connection.delays_targets else (sums, flight)

    def count(self, arriving: Tensor) -> dict[str, Tensor]:
        """The ledger's counts of a connection, each int64 (T, N): spike map times fan-out map."""
        active = (arriving != 0).flatten(2).double()
        reached = (active @ self._fan_out).long()
        none = torch.zeros_like(reached[..., 0])
        return {
            "spikes_in": active.sum(2).long(),
            "syn_ops": none if self.graded else reached[..., 0],
            "syn_ops_nonzero": none if self.graded else reached[..., 1],
            "macs": reached[..., 0] if self.graded else none,
        }

    def _delayed(self, values: Tensor, flight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`values` of earlier and these timesteps, each later by its delay; the last ones wait on."""
        longest = self._connection.longest_delay
        if not longest:
            return values, None
        past = values if flight is None else torch.cat([flight, values])
        late = torch.zeros_like(values)
        first = past.shape[0] - values.shape[0]
        for delay, where in self._delays.items():
            # Timesteps first.. of the past, moved by the delay; before the sample there was nothing.
            missing = max(0, delay - first)
            if missing < values.shape[0]:
                moved = past[first + missing - delay : past.shape[0] - delay]
                late[missing:] += moved * where
        return late, past[-longest:]


def _weighted(connection: Connection, weight: Tensor, x: Tensor, target: Shape) -> Tensor:
    steps, samples = x.shape[:2]
    if connection.kind == "identity":
        return x * weight
    if connection.kind == "dense":
        out = x.flatten(2) @ weight.T
        return out.round_().reshape(steps, samples, *target)
    images = x.flatten(0, 1)
    if connection.kind == "conv":
        out = F.conv2d(
            images,
            weight,
            None,
            connection.stride,
            connection.padding,
            connection.dilation,
            connection.groups,
        )
    else:
        out = F.conv_transpose2d(
            images,
            weight,
            None,
            connection.stride,
            connection.padding,
            connection.output_padding,
            connection.groups,
            connection.dilation,
        )
    # Fast convolution algorithms may be off by less than a half.
    return out.round_().unflatten(0, (steps, samples))
