"""The ledger: what was counted, per sample, connection or node, and timestep, as int64.

Rules of counting are in ``docs/semantics.md``. Every backend fills the same arrays, and they are
compared with ``==``. Timesteps that were never run (an early exit) hold zeros.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy import _checks
from neucodex_lava.errors import FormatError

Counts = NDArray[np.int64]

CONNECTION_COUNTS = ("spikes_in", "syn_ops", "syn_ops_nonzero", "macs")
NODE_COUNTS = ("dendrite_updates", "axon_out")
ALL_COUNTS = CONNECTION_COUNTS + NODE_COUNTS
FORMAT = "neucodex-ledger"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Overhead:
    """Work that belongs to no sample: relay neurons, filling or draining a pipeline, and the rest of a
    stopped sample's window.

    Attributes:
        syn_ops, syn_ops_nonzero, macs, dendrite_updates, axon_out: totals of a run.
    """

    syn_ops: int = 0
    syn_ops_nonzero: int = 0
    macs: int = 0
    dendrite_updates: int = 0
    axon_out: int = 0

    def __add__(self, other: Overhead) -> Overhead:
        return Overhead(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Overhead)))


@dataclass(frozen=True, eq=False)
class Ledger:
    """Counts of a run.

    Attributes:
        nodes: node names, in network order.
        connections: (node, source) names, in network order.
        spikes_in: nonzero inputs, (samples, connections, timesteps).
        syn_ops: existing synapses reached by incoming spikes, same shape.
        syn_ops_nonzero: those of a weight other than zero, same shape.
        macs: synapses reached by nonzero graded input (then not in syn_ops), same shape.
        dendrite_updates: neurons updated, (samples, nodes, timesteps).
        axon_out: spikes sent, (samples, nodes, timesteps).
        relay: work of relay neurons, in no sample's own counts.
        outside_window: work outside the samples' windows, in no sample's own counts.
        kinds: kind of each connection (``conv``, ``dense``, ...), for device models whose synapses
            differ; empty when unknown.
    """

    nodes: tuple[str, ...]
    connections: tuple[tuple[str, str], ...]
    spikes_in: Counts
    syn_ops: Counts
    syn_ops_nonzero: Counts
    macs: Counts
    dendrite_updates: Counts
    axon_out: Counts
    relay: Overhead = field(default_factory=Overhead)
    outside_window: Overhead = field(default_factory=Overhead)
    kinds: tuple[str, ...] = ()

    @classmethod
    def zeros(
        cls,
        nodes: Sequence[str],
        connections: Sequence[tuple[str, str]],
        samples: int,
        timesteps: int,
        kinds: Sequence[str] = (),
    ) -> Ledger:
        """An empty ledger whose arrays a backend fills in place."""
        per_connection = (samples, len(connections), timesteps)
        per_node = (samples, len(nodes), timesteps)
        arrays: dict[str, Any] = {n: np.zeros(per_connection, np.int64) for n in CONNECTION_COUNTS}
        arrays |= {name: np.zeros(per_node, np.int64) for name in NODE_COUNTS}
        links = tuple((n, s) for n, s in connections)
        return cls(tuple(nodes), links, **arrays, kinds=tuple(kinds))

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.axon_out.shape[0])

    @property
    def timesteps(self) -> int:
        """Number of timesteps there is room for, T_max."""
        return int(self.axon_out.shape[2])

    def node_of(self, count: str) -> NDArray[np.intp]:
        """For each row of a count's second axis, the index of its node."""
        if count in NODE_COUNTS:
            return np.arange(len(self.nodes))
        index = {name: i for i, name in enumerate(self.nodes)}
        return np.array([index[node] for node, _ in self.connections], dtype=np.intp)

    def per_node(self, count: str) -> Counts:
        """A count summed over each node's connections: (samples, nodes, timesteps)."""
        array = np.asarray(getattr(self, count))
        if count in NODE_COUNTS:
            return array
        result = np.zeros((self.samples, len(self.nodes), self.timesteps), np.int64)
        for row, node in enumerate(self.node_of(count)):
            result[:, node] += array[:, row]
        return result

    def per_sample(self, count: str) -> Counts:
        """A count summed over nodes and timesteps: (samples,)."""
        return np.asarray(getattr(self, count)).sum(axis=(1, 2))

    def total(self, count: str) -> int:
        """A count summed over everything, overhead left out."""
        return int(np.asarray(getattr(self, count)).sum())

    def select(self, nodes: Sequence[str]) -> Ledger:
        """The ledger of these nodes alone."""
        keep = set(nodes)
        rows = [i for i, name in enumerate(self.nodes) if name in keep]
        links = [i for i, (name, _) in enumerate(self.connections) if name in keep]
        arrays = {name: getattr(self, name)[:, links] for name in CONNECTION_COUNTS}
        arrays |= {name: getattr(self, name)[:, rows] for name in NODE_COUNTS}
        return replace(
            self,
            nodes=tuple(self.nodes[i] for i in rows),
            connections=tuple(self.connections[i] for i in links),
            kinds=tuple(self.kinds[i] for i in links) if self.kinds else (),
            **arrays,
        )

    def rows(self, samples: slice) -> Ledger:
        """The ledger of these samples alone; overhead belongs to the run and is left out."""
        arrays = {name: getattr(self, name)[samples] for name in ALL_COUNTS}
        return replace(self, **arrays, relay=Overhead(), outside_window=Overhead())

    @staticmethod
    def concatenate(parts: Sequence[Ledger]) -> Ledger:
        """Ledgers of the same nodes and timesteps, one after the other along the samples."""
        first = parts[0]
        if any((p.nodes, p.connections) != (first.nodes, first.connections) for p in parts):
            raise ValueError("ledgers of different nodes or connections cannot be concatenated")
        arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in ALL_COUNTS}
        relay = sum((p.relay for p in parts), Overhead())
        outside = sum((p.outside_window for p in parts), Overhead())
        return replace(first, **arrays, relay=relay, outside_window=outside)

    def until(self, last_timestep: NDArray[np.integer[Any]]) -> Ledger:
        """The ledger as if sample n had stopped after timestep ``last_timestep[n]`` (from 1)."""
        run = np.arange(1, self.timesteps + 1)[None, :] <= np.asarray(last_timestep)[:, None]
        arrays = {n: getattr(self, n) * run[:, None, :] for n in ALL_COUNTS}
        return replace(self, **arrays)

    def after(self, last_timestep: NDArray[np.integer[Any]]) -> Ledger:
        """The counts that `until` leaves out."""
        late = np.arange(1, self.timesteps + 1)[None, :] > np.asarray(last_timestep)[:, None]
        arrays = {n: getattr(self, n) * late[:, None, :] for n in ALL_COUNTS}
        return replace(self, **arrays)

    def put(self, samples: NDArray[np.integer[Any]], part: Ledger) -> None:
        """Overwrite these samples' counts with those of another ledger of the same network."""
        for name in ALL_COUNTS:
            getattr(self, name)[samples] = getattr(part, name)

    def as_overhead(self) -> Overhead:
        """All its counts as work that belongs to no sample."""
        return Overhead(**{f.name: self.total(f.name) for f in fields(Overhead)})

    def first_difference(self, other: Ledger) -> tuple[str, str, int, int] | None:
        """(count, node, sample, timestep from 1) of the first difference in time, or None."""
        found: list[tuple[int, int, int, str]] = []
        for name in ALL_COUNTS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.shape != theirs.shape:
                return name, "(shapes differ)", 0, 0
            for n, row, t in np.argwhere(mine != theirs)[:1_000_000]:
                found.append((int(n), int(t), int(self.node_of(name)[row]), name))
        if not found:
            return None
        n, t, node, name = min(found)
        return name, self.nodes[node], n, t + 1

    def differences(self, other: Ledger) -> int:
        """Number of counts that differ."""
        return sum(int((getattr(self, n) != getattr(other, n)).sum()) for n in ALL_COUNTS)

    def to_json(self) -> str:
        """JSON text that `from_json` reads back."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "nodes": list(self.nodes),
                "connections": [list(c) for c in self.connections],
                "kinds": list(self.kinds),
                "samples": self.samples,
                "timesteps": self.timesteps,
                **{name: getattr(self, name).tolist() for name in ALL_COUNTS},
                "relay": vars(self.relay),
                "outside_window": vars(self.outside_window),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        """Read a ledger written by `to_json`.

        Raises:
            FormatError: when the text is not such a ledger.
        """
        hint = "pass a file written by simulate"
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"not a ledger: {error}", hint) from error
        if not isinstance(raw, dict):
            raise FormatError("not a ledger: the file holds no JSON object", hint)
        found = (raw.get("format"), raw.get("version"))
        if found != (FORMAT, FORMAT_VERSION):
            raise FormatError(
                f"ledger format {found[0]!r} version {found[1]!r},"
                f" expected {FORMAT!r} version {FORMAT_VERSION}",
                hint,
            )
        try:
            nodes = _checks.names(raw["nodes"], "nodes")
            links = _checks.links(raw["connections"], nodes)
            kinds = _checks.kinds(raw.get("kinds", []), len(links))
            samples, timesteps = _checks.sizes(raw["samples"], raw["timesteps"])
            arrays: dict[str, Any] = {}
            for name in ALL_COUNTS:
                rows = len(nodes) if name in NODE_COUNTS else len(links)
                arrays[name] = _checks.counts(raw[name], name, (samples, rows, timesteps))
            keys = [f.name for f in fields(Overhead)]
            for name in ("relay", "outside_window"):
                arrays[name] = Overhead(**_checks.overhead(raw[name], name, keys))
        except KeyError as error:
            raise FormatError(f"ledger: {error} is missing", hint) from error
        return cls(nodes, links, **arrays, kinds=kinds)
