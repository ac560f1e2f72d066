"""What a session's Lava steps counted: sums that never grow, and all counts where a ledger is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.ledger import CONNECTION_COUNTS, Ledger
from neucodex_lava.edge.wiring import NODE_COLUMNS, SYNAPSE_COLUMNS, Wiring

Counts = NDArray[np.int64]
_OPS = [CONNECTION_COUNTS.index("syn_ops"), CONNECTION_COUNTS.index("macs")]


@dataclass(frozen=True)
class Stop:
    """A sample that was decided while the pipeline ran: what it saved, and what was spent already.

    Attributes:
        sample: from 0.
        timestep: t, from 1: its code decided.
        fed: timesteps fed before the decision came; min(T, t + depth of the deepest node that answers)
            when it came at once.
        timesteps: T.
        syn_ops, macs: of timesteps 1 to t, which the decision needed.
        syn_ops_late, macs_late: of timesteps t + 1 to `fed`: in the pipeline when it came.
    """

    sample: int
    timestep: int
    fed: int
    timesteps: int
    syn_ops: int
    macs: int
    syn_ops_late: int
    macs_late: int

    @property
    def saved(self) -> int:
        """Timesteps that were not fed."""
        return self.timesteps - self.fed


@dataclass(frozen=True, eq=False)
class Totals:
    """Running sums over all Lava steps so far.

    Attributes:
        steps: Lava steps.
        timesteps: timesteps of samples among the frames fed; the others were blank.
        links: the samples' own counts per connection, int64 (connections, 4), in the order of
            `energy.ledger.CONNECTION_COUNTS`.
        nodes: the same per node, int64 (nodes, 2), in the order of `NODE_COUNTS`.
        outside_links, outside_nodes: work in no sample's own counts: a pipeline that fills or drains,
            and the windows' ends that were not fed after a decision.
        stopped: stopped samples that have left the pipeline.
        saved: timesteps of those that were not fed.
        syn_ops_late, macs_late: of those, as in `Stop`.
    """

    steps: int
    timesteps: int
    links: Counts
    nodes: Counts
    outside_links: Counts
    outside_nodes: Counts
    stopped: int
    saved: int
    syn_ops_late: int
    macs_late: int


class Books:
    """Counts of a running session.

    The work of a node at some Lava step belongs to the frame fed `offset` steps before, so whether it
    is a sample's own is known at once, and only as many frames are remembered as are on their way.

    Args:
        wiring: the edge part and its schedule.
        keep: keep the counts of every step for `ledger`.
    """

    def __init__(self, wiring: Wiring, *, keep: bool) -> None:
        self._wiring = wiring
        early = 1 if wiring.pipelined else 0
        self._link_offsets = np.array([wiring.offset(k.node) - early for k in wiring.links], int)
        self._node_offsets = np.array([wiring.offset(n.name) for n in wiring.net.nodes], int)
        links, nodes = len(wiring.links), len(wiring.net.nodes)
        self._links = np.zeros((2, links, SYNAPSE_COLUMNS), np.int64)
        self._nodes = np.zeros((2, nodes, NODE_COLUMNS), np.int64)
        frames = wiring.timesteps + (wiring.depth if wiring.pipelined else 0)
        self._own = np.zeros(frames, bool)
        self._ops = np.zeros((frames, len(_OPS)), np.int64)
        self._decided: dict[int, tuple[int, int]] = {}
        self._late = np.zeros(len(_OPS), np.int64)
        self._stopped = self._saved = self._timesteps = 0
        self.steps = 0
        self._keep = keep
        self._kept: list[tuple[Counts, Counts]] = []
        self._place: list[tuple[int, int] | None] = []
        self.stops: list[Stop] = []

    def add(self, links: Counts, nodes: Counts, place: tuple[int, int] | None) -> None:
        """Book one Lava step.

        Args:
            links: its counts per connection, (connections, 4).
            nodes: per node, (nodes, 2).
            place: sample and timestep (both from 0) of the frame fed; None for a blank one.
        """
        frames = len(self._own)
        self._own[self.steps % frames] = place is not None
        self._ops[self.steps % frames] = 0
        self._timesteps += place is not None
        came = self.steps - self._link_offsets
        own = (came >= 0) & self._own[came % frames]
        np.add.at(self._ops, came[own] % frames, links[own][:, _OPS])
        self._links[0] += links * own[:, None]
        self._links[1] += links * ~own[:, None]
        came = self.steps - self._node_offsets
        own = (came >= 0) & self._own[came % frames]
        self._nodes[0] += nodes * own[:, None]
        self._nodes[1] += nodes * ~own[:, None]
        if self._keep:
            self._kept.append((links, nodes))
            self._place.append(place)
        self.steps += 1
        self._settle()

    def decide(self, sample: int, timestep: int) -> None:
        """A sample was decided by its timestep (from 1); without effect once it has left."""
        timesteps = self._wiring.timesteps
        gone = self.steps >= (sample + 1) * timesteps + self._wiring.depth
        if timestep < timesteps and not gone and sample not in self._decided:
            self._decided[sample] = timestep, min(timesteps, self.steps - sample * timesteps)

    def decided(self, sample: int) -> int | None:
        """The timestep by which a sample still in the pipeline was decided."""
        return self._decided[sample][0] if sample in self._decided else None

    def _settle(self) -> None:
        """Close the account of a stopped sample that leaves the pipeline in this step."""
        if not self._decided:
            return
        sample, rest = divmod(self.steps - self._wiring.depth, self._wiring.timesteps)
        if rest or sample - 1 not in self._decided:
            return
        sample -= 1
        timestep, fed = self._decided.pop(sample)
        first = sample * self._wiring.timesteps
        ops = self._ops[np.arange(first, first + fed) % len(self._ops)]
        needed, late = ops[:timestep].sum(axis=0), ops[timestep:].sum(axis=0)
        self._stopped += 1
        self._saved += self._wiring.timesteps - fed
        self._late += late
        if self._keep:
            counts = (int(n) for n in (*needed, *late))
            self.stops.append(Stop(sample, timestep, fed, self._wiring.timesteps, *counts))

    def totals(self) -> Totals:
        """Sums so far."""
        return Totals(
            self.steps,
            self._timesteps,
            self._links[0].copy(),
            self._nodes[0].copy(),
            self._links[1].copy(),
            self._nodes[1].copy(),
            self._stopped,
            self._saved,
            int(self._late[0]),
            int(self._late[1]),
        )

    def ledger(self, samples: int) -> Ledger:
        """All counts that were kept, of so many samples."""
        wiring = self._wiring
        links = np.zeros((wiring.steps(samples), len(wiring.links), SYNAPSE_COLUMNS), np.int64)
        nodes = np.zeros((len(links), len(wiring.net.nodes), NODE_COLUMNS), np.int64)
        fed = np.zeros(samples, np.int64)
        for step, ((of_links, of_nodes), place) in enumerate(zip(self._kept, self._place)):
            row = step
            if place is not None:
                fed[place[0]] += 1
                row = step if wiring.pipelined else place[0] * wiring.timesteps + place[1]
            links[row], nodes[row] = of_links, of_nodes
        return wiring.ledger(links, nodes, samples, fed)
