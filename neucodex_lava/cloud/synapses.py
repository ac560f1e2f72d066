"""Synapses in torch: a node's exact synaptic sums over time, its delays, and what its spikes reach.

Arrays are (T, N, C, H, W), time first, so that a convolution sees T * N images at once. In memory
channels come last, which is what convolutions are fastest with; `flat` is the order (H, W, C).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neucodex_lava.integer_net import Connection, IntegerNet, Node, Shape, worst_case_sums

EXACT = 1 << 24
"""Integers up to this are exact in a float32, and so is every order of a sum that stays below."""


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
        self._memory_format = _memory_format(connection)
        shape = net.shape_of(connection.source)
        self._weight = self._layout(shape).to(device, _sum_type(net, node, connection, device))
        self._fan_out = _FanOut(connection, shape, node.shape, device)
        late = node.shape if connection.delays_targets else shape
        delay = connection.delay
        self._delays = {
            int(d): torch.tensor((delay == d).reshape(late) if delay.ndim else True, device=device)
            for d in np.unique(delay)
        }

    def _layout(self, source: Shape) -> Tensor:
        weight = torch.tensor(self._connection.effective_weight())
        if weight.ndim == 4:
            return weight.contiguous(memory_format=self._memory_format)
        if weight.ndim == 2:
            return weight.unflatten(1, source).permute(0, 2, 3, 1).flatten(1)
        return weight

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
        """Synaptic sums a as they reach the neurons, (T, N, C, H, W), exact integers in an array of
        their own; and sums still in flight, where each target neuron has a delay of its own.
        """
        sums = self._weighted(arriving)
        return self._delayed(sums, flight) if self._connection.delays_targets else (sums, flight)

    def count(self, arriving: Tensor) -> dict[str, Tensor]:
        """The ledger's counts of a connection, each int64 (T, N): spike map times fan-out map."""
        if self.graded:
            arriving = torch.ne(arriving, 0, out=torch.empty_like(arriving))
        spikes_in, every, nonzero = self._fan_out.reached(arriving).unbind(-1)
        none = torch.zeros_like(spikes_in)
        return {
            "spikes_in": spikes_in,
            "syn_ops": none if self.graded else every,
            "syn_ops_nonzero": none if self.graded else nonzero,
            "macs": every if self.graded else none,
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

    def _weighted(self, x: Tensor) -> Tensor:
        connection, weight = self._connection, self._weight
        if connection.kind == "identity":
            return x * weight
        if connection.kind == "dense":
            out = F.linear(flat(x).to(weight.dtype), weight)
            return out.float().round_().unflatten(2, self._target)
        images = x.flatten(0, 1).to(weight.dtype, memory_format=self._memory_format)
        if self._memory_format == torch.contiguous_format:
            # Of one channel, memory can look like both; only a copy settles what torch takes it for.
            images = images.clone(memory_format=self._memory_format)
        geometry = connection.stride, connection.padding
        groups, dilation = connection.groups, connection.dilation
        if connection.kind == "conv":
            out = F.conv2d(images, weight, None, *geometry, dilation, groups)
        else:
            more = connection.output_padding
            out = F.conv_transpose2d(images, weight, None, *geometry, more, groups, dilation)
        # Fast convolution algorithms may be off by less than a half.
        return out.float().round_().unflatten(0, x.shape[:2])


def _memory_format(connection: Connection) -> torch.memory_format:
    """Channels last, where torch 2.3 on a CPU can be trusted with it.

    With one input channel it leaves whole columns of sums unwritten, and where the padding goes beyond
    the kernel it crashes (found by tests/parity/test_random_parity.py).
    """
    if connection.weight.ndim != 4:
        return torch.contiguous_format
    first, second, *kernel = connection.weight.shape
    channels = second * connection.groups if connection.kind == "conv" else first
    reach = [d * (k - 1) for d, k in zip(connection.dilation, kernel)]
    beyond = any(p > r for p, r in zip(connection.padding, reach))
    return torch.contiguous_format if beyond or channels == 1 else torch.channels_last


class _FanOut:
    """How many synapses a timestep's spikes reach: the spike map times the fan-out maps.

    The product is taken in float32, over blocks of neurons so small that their whole fan-out stays
    below `EXACT`; blocks are added as integers.
    """

    def __init__(
        self, connection: Connection, source: Shape, target: Shape, device: torch.device
    ) -> None:
        every, nonzero = connection.fan_out(source, target)
        maps = np.stack([np.ones_like(every), every, nonzero])
        rows = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)).reshape(3, -1)
        step = EXACT // max(1, int(every.max()))
        assert step, "a neuron's fan-out itself is exact"
        self._blocks = [
            (slice(first, first + step), _float32(rows[:, first : first + step], device))
            for first in range(0, rows.shape[1], step)
        ]

    def reached(self, active: Tensor) -> Tensor:
        """Int64 (T, N, 3): spikes, synapses they reach, and those of a weight other than 0.

        Args:
            active: 0 or 1, float32 (T, N, C, H, W).
        """
        spikes = flat(active)
        parts = [F.linear(spikes[..., part], maps).long() for part, maps in self._blocks]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def flat(x: Tensor) -> Tensor:
    """(T, N, C, H, W) as (T, N, H * W * C); no copy where channels come last in memory."""
    return x.permute(0, 1, 3, 4, 2).flatten(2)


def _float32(rows: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=device)


def _sum_type(
    net: IntegerNet, node: Node, connection: Connection, device: torch.device
) -> torch.dtype:
    """float32 where every algorithm adds exactly, else float64.

    Some input could take a sum, or a part of it, beyond `EXACT`; and GPUs have convolutions that
    transform their input (Winograd, FFT), whose error nobody bounds below a half in float32.
    """
    alone = replace(node, connections=(connection,))
    small = max(worst_case_sums(alone, net.input_bits)) < EXACT
    return torch.float32 if small and device.type == "cpu" else torch.float64
