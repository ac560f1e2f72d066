"""A sample's whole state as one row of numbers, so that samples join and leave a batch by one copy.

What a node has not got at a sample's start (no current, no potential, nothing in flight) is written
out: zeros, and the initial potential. Every row then has the same length, whatever its timestep, and
rows of different timesteps can be stepped together, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from neucodex_lava.cloud.executor import Executor, NodeState, State
from neucodex_lava.cloud.neurons import UNIT
from neucodex_lava.integer_net import DECAY_ONE, Node, Shape


@dataclass(frozen=True)
class _Part:
    """Where one array of a node's state lies in a row: (depth, H, W, C) from `start` on.

    Args:
        start, stop: of the row.
        depth: timesteps in flight; 0 for a current or potential, which has none.
        shape: (C, H, W).
    """

    start: int
    stop: int
    depth: int
    shape: Shape

    def read(self, rows: Tensor) -> Tensor:
        """(N, C, H, W), or (depth, N, C, H, W); a view of `rows`."""
        channels, height, width = self.shape
        part = rows[:, self.start : self.stop]
        if not self.depth:
            return part.view(-1, height, width, channels).permute(0, 3, 1, 2)
        return part.view(-1, self.depth, height, width, channels).permute(1, 0, 4, 2, 3)


@dataclass(frozen=True)
class _NodeParts:
    name: str
    u: _Part | None
    v: _Part | None
    spikes: tuple[_Part | None, ...]
    sums: tuple[_Part | None, ...]


class StateRows:
    """How the states of an executor's nodes lie in a row.

    Attributes:
        initial: the row at a sample's start, float32 (size,).
        flights: whether anything is on its way between timesteps: some connection has a delay.
    """

    def __init__(self, executor: Executor) -> None:
        self._size = 0
        self._nodes = [self._parts(executor, node) for node in executor.nodes]
        self.flights = any(part for node in self._nodes for part in node.spikes + node.sums)
        self.initial = torch.zeros(self._size, device=executor.device)
        for node, parts in zip(executor.nodes, self._nodes, strict=True):
            if parts.v is not None:
                self.initial[parts.v.start : parts.v.stop] = node.neuron.initial * UNIT

    def read(self, rows: Tensor) -> State:
        """The executor's state of N samples, from rows (N, size); views, not copies."""

        def view(part: _Part | None) -> Tensor | None:
            return None if part is None else part.read(rows)

        return {
            parts.name: NodeState(
                view(parts.u),
                view(parts.v),
                tuple(map(view, parts.spikes)),
                tuple(map(view, parts.sums)),
            )
            for parts in self._nodes
        }

    def write(self, state: State) -> Tensor:
        """Rows (N, size) of a state in which nothing that `read` gives is None."""
        return torch.cat(list(self._columns(state)), dim=1)

    def _columns(self, state: State) -> Iterator[Tensor]:
        for parts in self._nodes:
            node = state[parts.name]
            if parts.u is not None:
                yield _columns(node.u)
            if parts.v is not None:
                yield _columns(node.v)
            for part, flight in zip(parts.spikes + parts.sums, node.spikes + node.sums):
                if part is not None:
                    yield _columns(flight)

    def _parts(self, executor: Executor, node: Node) -> _NodeParts:
        def part(shape: Shape, depth: int = 0) -> _Part:
            start = self._size
            self._size += max(1, depth) * prod(shape)
            return _Part(start, self._size, depth, shape)

        def flights(shape_of: Callable[[str], Shape], targets: bool) -> tuple[_Part | None, ...]:
            return tuple(
                part(shape_of(c.source), c.longest_delay)
                if c.longest_delay and c.delays_targets == targets
                else None
                for c in node.connections
            )

        neuron = node.neuron
        return _NodeParts(
            node.name,
            part(node.shape) if neuron.current_decay != DECAY_ONE else None,
            part(node.shape) if neuron.voltage_decay != DECAY_ONE else None,
            flights(executor.net.shape_of, False),
            flights(lambda _: node.shape, True),
        )


def _columns(x: Tensor | None) -> Tensor:
    """(N, C, H, W) or (depth, N, C, H, W) as (N, depth * H * W * C), as `_Part` has it."""
    assert x is not None
    if x.ndim == 4:
        return x.permute(0, 2, 3, 1).flatten(1)
    return x.permute(1, 0, 3, 4, 2).flatten(1)
