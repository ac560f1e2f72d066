"""Structural exits: a network is run up to the first exit head that is sure enough (SPARQ).

Segment by segment: all T timesteps of the first segment run, then its exit head answers, or the
spikes that it sent go into the second one, and so on; the last exit is the network's own readout.
A policy sees the exits in their order as if they were timesteps 1..E; in place of running sums it
gets the logits that an exit ends with, S_T / (gain * T). A whole run of the network holds all of
this: where a sample stops, and what it costs, can be read off from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.bundle import Bundle
from neucodex_lava.errors import ConfigError
from neucodex_lava.exits.policy import Exits, OfflinePolicy, decide
from neucodex_lava.integer_net import IntegerNet

if TYPE_CHECKING:
    from neucodex_lava.cloud.twin import TwinResult


@dataclass(frozen=True, eq=False)
class CascadeOutcome:
    """Where each sample was answered, and what that took.

    Attributes:
        exits: ``timesteps`` are exits passed, 1..E: 1 is the first exit head, E the readout.
        ledger: of the whole network; nodes of segments that were not run hold zeros.
        sums: S_T of the exit that answered, int64 (N, K).
        edge_s: the simulator's wall time, in seconds, (N,); None where it did not run.
    """

    exits: Exits
    ledger: Ledger
    sums: NDArray[np.int64]
    edge_s: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Cascade:
    """A network as a row of segments, each with an exit at its end.

    Attributes:
        net: the whole network.
        gains: of each exit, the readout's last.
        segments: as `IntegerNet.segments` gives them.
    """

    net: IntegerNet
    gains: tuple[float, ...]
    segments: tuple[IntegerNet, ...]

    @classmethod
    def of(cls, bundle: Bundle) -> Cascade:
        """A bundle's network, which must have exit heads and end in a readout.

        Raises:
            ConfigError: it has none.
            NetError: an exit head lies where the network cannot be taken apart.
        """
        net = bundle.net
        if not net.exit_heads or not net.ends_in_readout:
            raise ConfigError(
                f"bundle '{bundle.path}' has no exit heads",
                "train with --exit-heads, say --exit-heads 1 2",
            )
        names = [head.name for head in net.exit_heads] + [net.last.name]
        gains = tuple(bundle.manifest.gains[name] for name in names)
        return cls(net, gains, tuple(net.segments()))

    @property
    def exits(self) -> tuple[str, ...]:
        """Names of the exits in order: the heads and, last, the readout."""
        return (*(head.name for head in self.net.exit_heads), self.net.last.name)

    def logits(self, sums: NDArray[np.int64]) -> NDArray[np.float64]:
        """S_T / (gain * T) of all exits.

        Args:
            sums: S_T, (N, K, E).
        """
        return sums / (np.array(self.gains) * self.net.timesteps)

    def sums(self, result: TwinResult) -> NDArray[np.int64]:
        """S_T of every exit in a whole run, (N, K, E)."""
        assert result.sums is not None, "a cascade ends in a readout"
        trains = [result.exit_sums[head.name] for head in self.net.exit_heads] + [result.sums]
        return np.stack([train[..., -1] for train in trains], axis=-1)

    def syn_ops(self, ledger: Ledger) -> NDArray[np.int64]:
        """What answering at each exit takes, SynOps and MACs of all that runs up to it, (N, E).

        Args:
            ledger: of a whole run.
        """
        work = ledger.per_node("syn_ops").sum(axis=2) + ledger.per_node("macs").sum(axis=2)
        place = self.segment_of_nodes()
        exits = range(len(self.segments))
        return np.stack([work[:, place <= e].sum(axis=1) for e in exits], axis=1)

    def read_off(self, result: TwinResult, policy: OfflinePolicy) -> CascadeOutcome:
        """What the cascade does with these samples under a policy, from one whole run.

        Args:
            result: of the whole network in the executor.
            policy: with as many timesteps as there are exits.

        Raises:
            ConfigError: a policy for another number of exits.
        """
        check_exits(policy, self)
        sums = self.sums(result)
        exits = decide(policy, self.logits(sums))
        ran = self.segment_of_nodes()[None, :] < exits.timesteps[:, None]
        return CascadeOutcome(exits, _masked(result.ledger, ran), _answering(sums, exits))

    def empty_ledger(self, samples: int) -> Ledger:
        """A ledger of zeros of the whole network."""
        names = [node.name for node in self.net.nodes]
        links = [(node.name, c.source) for node, c in self.net.connections()]
        kinds = [c.kind for _, c in self.net.connections()]
        return Ledger.zeros(names, links, samples, self.net.timesteps, kinds)

    def segment_of_nodes(self) -> NDArray[np.int64]:
        """For each node of the network, the number of its segment, from 0."""
        place = {n.name: i for i, segment in enumerate(self.segments) for n in segment.nodes}
        return np.array([place[node.name] for node in self.net.nodes])


def check_exits(policy: OfflinePolicy, cascade: Cascade) -> None:
    """Refuse a policy that was made for another number of exits.

    Raises:
        ConfigError: it was.
    """
    if policy.t_max != len(cascade.segments):
        raise ConfigError(
            f"the exit policy is for {policy.t_max} exits, the network has {len(cascade.segments)}",
            "calibrate it again: neucodex calibrate BUNDLE",
        )


def _masked(ledger: Ledger, ran: NDArray[np.bool_]) -> Ledger:
    """The counts of the nodes that ran, (N, nodes); all others are zero."""
    arrays = {
        count: getattr(ledger, count) * ran[:, ledger.node_of(count), None] for count in ALL_COUNTS
    }
    return replace(ledger, **arrays)


def _answering(sums: NDArray[np.int64], exits: Exits) -> NDArray[np.int64]:
    return sums[np.arange(len(sums)), :, exits.timesteps - 1]
