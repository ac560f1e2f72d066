"""Which step does what: depths, waiting times and the way from Lava steps to (sample, timestep).

Both pipelined backends count per Lava step; `Wiring.ledger` sorts their counts into samples'
windows, and books what lies outside of them apart. Terms are those of ``docs/semantics.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from energy.ledger import CONNECTION_COUNTS, NODE_COUNTS, Ledger, Overhead
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.integer_net import INPUT, IntegerNet, Shape

Backend = Literal["fused", "reference"]
Schedule = Literal["gated", "pipelined"]

SYNAPSE_COLUMNS = len(CONNECTION_COUNTS)
NODE_COLUMNS = len(NODE_COUNTS)


@dataclass(frozen=True)
class Link:
    """A connection's place in the run.

    Attributes:
        source, node: names.
        wait: steps from the source's spike to the node's update, 1 for neighbours in depth; a spike
            waits ``wait - 1`` steps before it enters the synapse. Gated runs do not wait.
    """

    source: str
    node: str
    wait: int


@dataclass(frozen=True)
class Wiring:
    """An edge part with its schedule.

    Attributes:
        net: the edge part alone, cut at its end.
        pipelined: the schedule.
        timesteps: T of a sample.
        links: one per connection, in the ledger's order.
    """

    net: IntegerNet
    pipelined: bool
    timesteps: int
    links: tuple[Link, ...]

    @classmethod
    def of(cls, net: IntegerNet, schedule: Schedule, timesteps: int | None = None) -> Wiring:
        """Wiring of the part of `net` before its cut.

        Args:
            net: a whole network.
            schedule: ``gated`` or ``pipelined``.
            timesteps: T, by default the net's T_max.

        Raises:
            ConfigError: an unknown schedule, a cut of 0, or T outside 1..T_max.
        """
        if schedule not in ("gated", "pipelined"):
            raise ConfigError(f"schedule '{schedule}' is not one of gated, pipelined")
        if net.cut == 0:
            raise ConfigError(
                "the network is cut at 0: nothing runs on the edge", "cut it after a node"
            )
        steps = net.timesteps if timesteps is None else int(timesteps)
        if not 1 <= steps <= net.timesteps:
            raise ConfigError(
                f"T is {steps}, this network allows 1 to {net.timesteps} timesteps",
                "its readout and its currents are only checked up to there",
            )
        edge = net.edge_part()
        depth = edge.depth
        links = tuple(
            Link(c.source, node.name, depth[node.name] - depth[c.source])
            for node, c in edge.connections()
        )
        return cls(edge, schedule == "pipelined", steps, links)

    @property
    def depth(self) -> int:
        """Depth of the whole edge part; its output need not be the deepest node."""
        return max(self.net.depth.values())

    @property
    def output(self) -> str:
        """Name of the node whose spikes cross the cut."""
        return self.net.output

    @property
    def exit_heads(self) -> tuple[str, ...]:
        """Names of the edge part's exit heads."""
        return tuple(head.name for head in self.net.exit_heads)

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of the nodes that a timestep's result is made of: the output and the exit heads."""
        return (self.output, *self.exit_heads)

    @property
    def result_offset(self) -> int:
        """Lava step (from 0) after which the first sample's first timestep has all its answers."""
        return max(self.offset(name) for name in self.answers)

    def shape_of(self, source: str) -> Shape:
        """Shape (C, H, W) of a node or the input."""
        return self.net.shape_of(source)

    def longest_wait(self, source: str) -> int:
        """Largest wait among the links that leave a source, at least 1."""
        return max((link.wait for link in self.links if link.source == source), default=1)

    def steps(self, samples: int) -> int:
        """Lava steps that so many samples take, draining included."""
        run = samples * self.timesteps
        return run + self.depth if self.pipelined else run

    def offset(self, node: str) -> int:
        """Lava step (from 0) in which a node updates for the first sample's first timestep."""
        return self.net.depth[node] if self.pipelined else 0

    def by_logical_time(self, per_step: NDArray[Any], offset: int, samples: int) -> NDArray[Any]:
        """Rows of the samples' windows of an array (steps, ...): a view (N, T, ...)."""
        end = offset + samples * self.timesteps
        shape = (samples, self.timesteps, *per_step.shape[1:])
        return per_step[offset:end].reshape(shape)

    def ledger(
        self,
        synapses: NDArray[np.int64],
        nodes: NDArray[np.int64],
        samples: int,
        fed: NDArray[np.int64] | None = None,
    ) -> Ledger:
        """Sort per-step counts into a ledger.

        Args:
            synapses: (steps, links, 4); in pipelined runs a synapse works in the step before its
                node updates.
            nodes: (steps, nodes, 2).
            samples: N.
            fed: timesteps fed to each sample, (N,), by default all; what its nodes did in the rest of
                its window is booked outside of it.
        """
        names = [node.name for node in self.net.nodes]
        ledger = Ledger.zeros(
            names,
            [(k.node, k.source) for k in self.links],
            samples,
            self.timesteps,
            kinds=[c.kind for _, c in self.net.connections()],
        )
        outside: dict[str, int] = dict.fromkeys((*CONNECTION_COUNTS, *NODE_COUNTS), 0)
        early = 1 if self.pipelined else 0
        last = np.full(samples, self.timesteps) if fed is None else fed
        own = (np.arange(self.timesteps) < last[:, None])[..., None]

        def book(counts: tuple[str, ...], table: NDArray[np.int64], row: int, offset: int) -> None:
            window = self.by_logical_time(table[:, row], offset, samples) * own
            for column, count in enumerate(counts):
                getattr(ledger, count)[:, row] = window[..., column]
                outside[count] += int(table[:, row, column].sum() - window[..., column].sum())

        for row, link in enumerate(self.links):
            book(CONNECTION_COUNTS, synapses, row, self.offset(link.node) - early)
        for row, name in enumerate(names):
            book(NODE_COUNTS, nodes, row, self.offset(name))
        outside.pop("spikes_in")
        object.__setattr__(ledger, "outside_window", Overhead(**outside))
        return ledger


def check_backend(backend: str, schedule: str) -> None:
    """Raise ConfigError unless the backend exists and knows the schedule."""
    if backend not in ("fused", "reference"):
        raise ConfigError(f"backend '{backend}' is not one of fused, reference")
    if backend == "reference" and schedule == "gated":
        raise ConfigError(
            "the backend reference has no gated schedule: no stock neuron does this",
            "use schedule pipelined, or the backend fused",
        )


def check_inputs(inputs: NDArray[Any], net: IntegerNet, *, axes: str = "N C H W T") -> None:
    """Raise unless `inputs` are uint8 of the net's input shape and range.

    Args:
        inputs: (N, C, H, W, T), or with axes ``"C H W"`` one frame.

    Raises:
        DataError: wrong type, shape or range.
    """
    frame = axes == "C H W"
    found = inputs.shape if frame else inputs.shape[1:-1]
    if inputs.dtype != np.uint8 or inputs.ndim != (3 if frame else 5):
        raise DataError(
            f"input is {inputs.dtype} of {inputs.ndim} axes, it must be uint8 of axes {axes}"
        )
    if tuple(found) != net.input_shape:
        raise DataError(f"input has shape {tuple(found)}, the network takes {net.input_shape}")
    limit = (1 << net.input_bits) - 1
    if inputs.size and int(inputs.max()) > limit:
        raise DataError(f"input value {int(inputs.max())} is above {limit} ({net.input_bits} bit)")


__all__ = [
    "INPUT",
    "NODE_COLUMNS",
    "SYNAPSE_COLUMNS",
    "Backend",
    "Link",
    "Schedule",
    "Wiring",
    "check_backend",
    "check_inputs",
]
