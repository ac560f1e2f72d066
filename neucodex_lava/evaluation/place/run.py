"""The place policy offline, and for real: Lava, its exit head, and the cloud while the link holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from host_bridge.client import EdgeClient
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import BridgeError
from neucodex_lava.evaluation.agreement import require_same_answers, require_same_counts
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.place.placement import Placement
from neucodex_lava.exits.place import Placed, decide_place
from neucodex_lava.exits.policy import Action, predicted
from neucodex_lava.progress import Progress, silent

if TYPE_CHECKING:
    from neucodex_lava.cloud.twin import TwinResult

Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class PlacedOutcome:
    """What became of samples, and what that took; each array is (N,).

    Attributes:
        placed: answers, who gave them, timesteps run and sent.
        edge: counts of the edge part.
        payload_bits, wire_bytes: as sent; a kept code is a message of its own.
        edge_s, roundtrip_s, cloud_s: measured; empty where nothing was run for real.
        link_lost: the first sample for which there was no link; None where it held.
        problem: why there was none.
    """

    placed: Placed
    edge: Ledger
    payload_bits: NDArray[np.int64]
    wire_bytes: NDArray[np.int64]
    edge_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    roundtrip_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    cloud_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    link_lost: int | None = None
    problem: str = ""


def read_off(placement: Placement, result: TwinResult) -> PlacedOutcome:
    """What the policy does with these samples over a link that holds, from one whole run."""
    site = placement.site
    placed = decide_place(placement.policy, *site.sums(result))
    cost = LinkCost.of(site.net)
    return PlacedOutcome(
        placed,
        site.edge(result.ledger).until(placed.timesteps),
        cost.payload_bits * placed.sent,
        np.where(placed.sent > 0, cost.wire_bytes(placed.sent), 0),
    )


def run_placed(
    placement: Placement,
    inputs: NDArray[np.uint8],
    session: EdgeSession,
    client: EdgeClient,
    *,
    task: str = "Lava and bridge",
    progress: Progress = silent,
) -> PlacedOutcome:
    """Run samples one after the other; while there is no link, the exit head answers them.

    Args:
        placement: site and tables.
        inputs: encoded samples, uint8 (N, C, H, W, T).
        session: gated, of the edge part, keeping its ledger.
        client: of the cloud's tail, not opened yet.
        task: name shown by `progress`.
        progress: called after every sample.

    Raises:
        SimulationError: from Lava.
    """
    first, samples = session.ledger().samples, len(inputs)
    link = _Link(client, samples)
    edge_s = np.zeros(samples)
    rows = np.zeros((samples, 5), np.int64)
    with link:
        for n, sample in enumerate(inputs):
            link.start(n)
            rows[n], edge_s[n] = _run_sample(placement, sample, session, link)
            link.end()
            progress(task, n + 1, samples)
    predictions, actions, timesteps, sent, asked = rows.T
    return PlacedOutcome(
        Placed(predictions, actions.astype(np.uint8), timesteps, sent, asked),
        session.ledger().rows(slice(first, None)),
        *link.bits,
        edge_s,
        *link.seconds,
        link.lost_at,
        link.problem,
    )


def _run_sample(
    placement: Placement, sample: NDArray[np.uint8], session: EdgeSession, link: _Link
) -> tuple[tuple[int, ...], float]:
    """Answer, who gave it, timesteps run, sent, times asked; and the simulator's seconds."""
    policy = placement.policy if link.up else placement.down
    sent, action, t, asked, seconds = policy.start(), Action.WAIT, 0, 0, 0.0
    kept: list[NDArray[np.uint8]] = []
    sums: NDArray[np.int64] | None = None
    session.start_sample()
    while action in (Action.WAIT, Action.CONTINUE):
        step = session.step(np.ascontiguousarray(sample[..., t]))
        t, seconds = t + 1, seconds + step.seconds
        kept.append(step.code)
        sums = step.exit_sums[placement.site.head]
        state, action = policy.edge_step(sent, t, sums)
        if action is Action.SEND:
            answer = link.send(kept)
            if answer is None:
                policy = placement.down
                _, action = policy.edge_step(sent, t, sums)
                continue
            sums, kept, asked = answer, [], asked + 1
            sent, action = policy.cloud_step(state, t, sums)
    assert sums is not None, "at least one timestep runs"
    return (int(predicted(sums)), int(action), t, sent, asked), seconds


class _Link:
    """The client, and what was sent over it. A sample that gets no answer in time, or that the cloud
    fails at, goes on without it.

    The client connects again meanwhile; samples that begin after it has are sent again.
    """

    def __init__(self, client: EdgeClient, samples: int) -> None:
        self._client, self._sample = client, 0
        self._gone = self._unanswered = False
        self.lost_at: int | None = None
        self.problem = ""
        self.bits = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
        self.seconds = np.zeros(samples), np.zeros(samples)

    def __enter__(self) -> None:
        self._try(partial(self._client.open, required=False))

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def up(self) -> bool:
        """Whether the sample that runs can be sent."""
        return not self._gone and not self._unanswered and self._client.connected

    def start(self, sample: int) -> None:
        """Begin a sample."""
        self._sample, self._unanswered = sample, False
        self._try(self._client.start_sample)
        if not self.up:
            self._lose("the cloud server is not reached")

    def send(self, codes: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64] | None:
        """S_t after the last of these codes; None where the link fails."""
        sums: NDArray[np.int64] | None = None
        for code in codes:
            self._try(partial(self._client.send, code))
            until = time.monotonic() + self._client.timeout_s
            reply = self._try(partial(self._client.receive, until))
            if reply is None:
                self._unanswered = True
                self._lose(f"no answer within {self._client.timeout_s:g} s")
                return None
            sums, n = reply.sums, self._sample
            self.bits[0][n] += reply.payload_bits
            self.bits[1][n] += reply.wire_bytes
            self.seconds[0][n] += reply.roundtrip_s
            self.seconds[1][n] += reply.cloud_s
        return sums

    def end(self) -> None:
        """End the sample."""
        self.bits[1][self._sample] += self._try(self._client.end_sample) or 0

    def _lose(self, problem: str) -> None:
        # The first problem stays: what follows comes of it.
        if self.lost_at is None:
            self.lost_at, self.problem = self._sample, problem

    def _try(self, call: Callable[[], Answer]) -> Answer | None:
        if self._gone:
            return None
        try:
            return call()
        except BridgeError as error:
            self._gone, self._unanswered = self._client.over, True
            self._lose(str(error))
            return None


def require_same_places(
    offline: PlacedOutcome, real: PlacedOutcome, chosen: NDArray[np.intp], where: str
) -> None:
    """Raise SimulationError unless a real run gave what was read off for these samples.

    Raises:
        BridgeError: the link did not hold.
    """
    if real.link_lost is not None:
        raise BridgeError(f"{where}: the link failed: {real.problem}")
    pairs = {
        f.name: (getattr(real.placed, f.name), getattr(offline.placed, f.name))
        for f in fields(Placed)
    }
    pairs["payload"] = real.payload_bits, offline.payload_bits
    pairs["wire bytes"] = real.wire_bytes, offline.wire_bytes
    require_same_answers(pairs, chosen, where)
    require_same_counts(real.edge, offline.edge, chosen, where)
