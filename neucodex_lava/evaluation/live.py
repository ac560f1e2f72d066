"""Samples over a link that may fail: every one ends with one result, labelled with whose it is.

Used by ``neucodex infer``. Without a deadline the edge waits for the cloud as long as its patience
lasts, and what comes out is what `measured` gives; with one, a sample is answered by what there is when
its time is up (`host_bridge.client.ladder`), and neither a link that is lost for good nor a sample that
the cloud fails at is an error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from host_bridge.client import EdgeClient, EdgePool, LinkCounts, StepReply, Verdict, descend
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import BridgeError, ConfigError
from neucodex_lava.exits.policy import Action, ExitPolicy, predicted
from neucodex_lava.progress import Progress, silent


@dataclass(frozen=True)
class LiveOptions:
    """How samples are run.

    Attributes:
        deadline_s: a sample's time in seconds of the wall clock, from its first timestep on, the
            simulation of the edge included; infinite for none.
        speculate: compute and send timestep t + 1 before the answer to t has come.
    """

    deadline_s: float = math.inf
    speculate: bool = False

    def __post_init__(self) -> None:
        if not self.deadline_s > 0:
            raise ConfigError(f"a deadline of {1e3 * self.deadline_s:g} ms, expected more than 0")


@dataclass(frozen=True, eq=False)
class LiveSample:
    """One sample's result, and what it took.

    Attributes:
        verdict: sums, and whose they are.
        prediction: the class with the largest sum; None for an abstention.
        timesteps: that the result is of; of an abstention those that were run.
        edge_timesteps: computed; more than `timesteps` where the edge ran ahead or waited in vain.
        edge_s: wall time of the simulator, in seconds.
        roundtrip_s: from codes to answers, in seconds, summed over timesteps.
        cloud_s: the server's part of it.
        payload_bits, wire_bytes: really sent, what was sent ahead or again included.
        extra_bits: of the payload, what the result did not need.
    """

    verdict: Verdict
    prediction: int | None
    timesteps: int
    edge_timesteps: int
    edge_s: float
    roundtrip_s: float
    cloud_s: float
    payload_bits: int
    wire_bytes: int
    extra_bits: int


@dataclass(frozen=True, eq=False)
class Live:
    """What became of samples.

    Attributes:
        samples: one by one.
        ledger: counts of the edge part, what it ran ahead included; None when nothing ran there.
        link_lost: number of the first sample from which on there was no link; None where it held.
        problem: why there was none, or why the cloud failed.
        counts: of the sessions' links, together.
        failed: samples that the cloud failed at, while the link held.
    """

    samples: list[LiveSample]
    ledger: Ledger | None
    link_lost: int | None
    problem: str
    counts: LinkCounts
    failed: int = 0


def run_live(
    inputs: NDArray[np.uint8],
    policy: ExitPolicy,
    session: EdgeSession | None,
    client: EdgeClient,
    options: LiveOptions,
    *,
    progress: Progress = silent,
) -> Live:
    """Run samples one after the other; opens the client.

    Args:
        inputs: encoded samples, uint8 (N, C, H, W, T).
        policy: decides after each of the cloud's answers.
        session: gated Lava session of the edge part that keeps its ledger; its last exit head, where it
            has one, is the local exit. None sends the encoded input.
        client: of the cloud's tail, not opened yet.
        options: deadline and speculation.
        progress: called after every sample.

    Raises:
        BridgeError: without a deadline, a link that is lost for longer than patience lasts; with one,
            only a server that refuses this session from the start.
        SimulationError: from Lava.
    """
    client.open(required=options.deadline_s == math.inf)
    first = session.ledger().samples if session is not None else 0
    runner = _Runner(policy, session, client, options)
    samples: list[LiveSample] = []
    for n, sample in enumerate(inputs):
        samples.append(runner.run(n, sample))
        progress("infer", n + 1, len(inputs))
    ledger = session.ledger().rows(slice(first, None)) if session is not None else None
    return Live(samples, ledger, runner.lost_at, runner.problem, client.counts, runner.failed)


def run_in_flight(
    inputs: NDArray[np.uint8],
    policy: ExitPolicy,
    pool: EdgePool,
    options: LiveOptions,
    *,
    progress: Progress = silent,
) -> Live:
    """The same for codes that are there already, several samples at once; opens the pool.

    Args:
        inputs: codes of each sample, uint8 (N, C, H, W, T).
        policy, options, progress: as `run_live`.
        pool: of clients of the cloud's tail, not opened yet.
    """
    pool.open(required=options.deadline_s == math.inf)
    runners = {id(c): _Runner(policy, None, c, options) for c in pool.clients}
    samples: list[LiveSample] = []

    def run(client: EdgeClient, item: tuple[int, NDArray[np.uint8]]) -> LiveSample:
        return runners[id(client)].run(*item)

    for found in pool.map(run, enumerate(inputs)):
        samples.append(found)
        progress("infer", len(samples), len(inputs))
    lost = [r for r in runners.values() if r.lost_at is not None]
    first = min(lost, key=lambda r: r.lost_at or 0, default=None)
    problems = [r.problem for r in ([first] if first else runners.values()) if r.problem]
    return Live(
        samples,
        None,
        first.lost_at if first else None,
        problems[0] if problems else "",
        LinkCounts.sum(client.counts for client in pool.clients),
        sum(r.failed for r in runners.values()),
    )


class _Runner:
    """One session's samples, one after the other."""

    def __init__(
        self,
        policy: ExitPolicy,
        session: EdgeSession | None,
        client: EdgeClient,
        options: LiveOptions,
    ) -> None:
        self.lost_at: int | None = None
        self.problem, self.failed = "", 0
        self._alone = False
        self._policy, self._session, self._client = policy, session, client
        self._options = options

    def run(self, n: int, sample: NDArray[np.uint8]) -> LiveSample:
        """Sample n until it is decided, or its time is up."""
        until = time.monotonic() + self._options.deadline_s
        counts = self._client.counts
        before = counts.payload_bits, counts.wire_bytes
        self._alone = self.lost_at is not None
        edge = _Edge(self._session, sample)
        replies, decided = self._converse(n, edge, until)
        self._try(n, self._client.end_sample)
        verdict = descend(decided, replies[-1] if replies else None, edge.local)
        payload_bits, wire_bytes = counts.payload_bits - before[0], counts.wire_bytes - before[1]
        return LiveSample(
            verdict=verdict,
            prediction=None if verdict.sums is None else int(predicted(verdict.sums)),
            timesteps=verdict.timestep or edge.ran,
            edge_timesteps=edge.ran,
            edge_s=edge.seconds,
            roundtrip_s=sum(reply.roundtrip_s for reply in replies),
            cloud_s=sum(reply.cloud_s for reply in replies),
            payload_bits=payload_bits,
            wire_bytes=wire_bytes,
            extra_bits=payload_bits - sum(reply.payload_bits for reply in replies),
        )

    def _converse(self, n: int, edge: _Edge, until: float) -> tuple[list[StepReply], bool]:
        """The cloud's answers, and whether the policy stopped at the last of them."""
        replies: list[StepReply] = []
        state: Any = self._policy.start()
        self._try(n, self._client.start_sample)
        while True:
            self._send(n, edge, len(replies) + 1)
            if self._options.speculate:
                self._send(n, edge, len(replies) + 2)
            reply = self._try(n, lambda: self._client.receive(until))
            if reply is None:
                self._run_alone(edge, until)
                return replies, False
            replies.append(reply)
            state, action = self._policy.step(state, len(replies), reply.sums)
            if action is not Action.CONTINUE:
                return replies, True
            if time.monotonic() >= until:
                return replies, False

    def _send(self, n: int, edge: _Edge, timestep: int) -> None:
        """Compute and send a timestep, unless that has been done or there is none."""
        if edge.ran < min(timestep, edge.timesteps):
            code = edge.step()
            self._try(n, lambda: self._client.send(code))

    def _run_alone(self, edge: _Edge, until: float) -> None:
        """No answer will come: the local exit goes on while there is time, since it gets better."""
        while self._alone and edge.local and edge.ran < edge.timesteps:
            if time.monotonic() >= until:
                return
            edge.step()

    def _try(self, n: int, call: Callable[[], Any]) -> Any:
        """The call's result; None where the cloud says no more of this sample, which only a deadline
        forgives."""
        if self._alone:
            return None
        try:
            return call()
        except BridgeError as error:
            if self._options.deadline_s == math.inf:
                raise
            self._alone = True
            if self._client.over:
                self.lost_at, self.problem = n, str(error)
            else:
                self.failed += 1
                self.problem = self.problem or str(error)
            return None


class _Edge:
    """One sample on the edge: its codes, timestep by timestep, and what its exit head says."""

    def __init__(self, session: EdgeSession | None, sample: NDArray[np.uint8]) -> None:
        self.timesteps = sample.shape[-1]
        self.ran = 0
        self.seconds = 0.0
        self.local: tuple[int, NDArray[np.int64]] | None = None
        self._session, self._sample = session, sample
        if session is not None:
            session.start_sample()

    def step(self) -> NDArray[np.uint8]:
        """The next timestep's code."""
        frame = np.ascontiguousarray(self._sample[..., self.ran])
        self.ran += 1
        if self._session is None:
            return frame
        result = self._session.step(frame)
        self.seconds += result.seconds
        if result.exit_sums:
            # The deepest head before the cut is the best of them.
            self.local = self.ran, list(result.exit_sums.values())[-1]
        return result.code
