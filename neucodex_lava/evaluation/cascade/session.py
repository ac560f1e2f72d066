"""The cascade in Lava: a gated session for each segment, decided while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.evaluation.agreement import require_same_answers, require_same_counts
from neucodex_lava.evaluation.cascade.offline import Cascade, CascadeOutcome, check_exits
from neucodex_lava.exits.policy import Action, ExitPolicy, Exits, predicted
from neucodex_lava.progress import Progress, silent


class CascadeSession:
    """The segments in Lava, one gated session for each, as a context manager.

    Start it before anything of gRPC: Lava forks.

    Raises:
        SimulationError: Lava could not start.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self._stack = ExitStack()
        self._sessions: list[EdgeSession] = []
        try:
            for segment in cascade.segments:
                session = EdgeSession(segment, keep_ledger=True)
                self._sessions.append(self._stack.enter_context(session))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> CascadeSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(
        self,
        inputs: NDArray[np.uint8],
        policy: ExitPolicy,
        *,
        task: str = "cascade in Lava",
        progress: Progress = silent,
    ) -> CascadeOutcome:
        """Run samples one after the other, each only as deep as the policy lets it go.

        Args:
            inputs: encoded samples, uint8 (N, C, H, W, T).
            policy: decides after each segment.
            task: name shown by `progress`.
            progress: called after every sample.

        Raises:
            ConfigError: a policy for another number of exits.
            SimulationError: from Lava.
        """
        cascade, samples = self.cascade, len(inputs)
        check_exits(policy, cascade)
        before = [session.ledger().samples for session in self._sessions]
        rows = np.zeros((samples, 3), np.int64)
        sums = np.zeros((samples, cascade.net.last.size), np.int64)
        edge_s = np.zeros(samples)
        for n, sample in enumerate(inputs):
            frames = [np.ascontiguousarray(frame) for frame in np.moveaxis(sample, -1, 0)]
            state, action, e = policy.start(), Action.CONTINUE, 0
            while action is Action.CONTINUE:
                frames, sums[n], seconds = self._segment(e, frames)
                edge_s[n] += seconds
                e += 1
                logits = sums[n] / (cascade.gains[e - 1] * cascade.net.timesteps)
                state, action = policy.step(state, e, logits)
                rows[n] = e, predicted(logits), int(action)
            progress(task, n + 1, samples)
        exits = Exits(rows[:, 0], rows[:, 1], rows[:, 2].astype(np.uint8))
        return CascadeOutcome(exits, self._ledger(before, exits.timesteps), sums, edge_s)

    def _segment(
        self, e: int, frames: Sequence[NDArray[np.uint8]]
    ) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64], float]:
        """All timesteps of a segment: spikes that it sends, S_T of its exit, seconds."""
        session, heads = self._sessions[e], self.cascade.segments[e].exit_heads
        session.start_sample()
        steps = [session.step(frame) for frame in frames]
        sums = steps[-1].exit_sums[heads[0].name] if heads else steps[-1].sums
        assert sums is not None, "a segment has an exit"
        return [step.code for step in steps], sums, sum(step.seconds for step in steps)

    def _ledger(self, before: Sequence[int], passed: NDArray[np.int64]) -> Ledger:
        """The whole network's counts, put together from those of the segments."""
        whole = self.cascade.empty_ledger(len(passed))
        for e, (session, first) in enumerate(zip(self._sessions, before)):
            part = session.ledger().rows(slice(first, None))
            samples = np.flatnonzero(passed > e)
            for count in ALL_COUNTS:
                # A node's connections come in the same order in both; nodes need not.
                into, out = whole.node_of(count), part.node_of(count)
                for i, name in enumerate(part.nodes):
                    rows = np.flatnonzero(into == whole.nodes.index(name))
                    target = getattr(whole, count)
                    target[np.ix_(samples, rows)] = getattr(part, count)[:, out == i]
        return whole


def require_same(
    offline: CascadeOutcome, real: CascadeOutcome, chosen: NDArray[np.intp], where: str
) -> None:
    """Raise SimulationError unless Lava gave the executor's exits, answers, sums and counts."""
    pairs = {
        "exits": (real.exits.timesteps, offline.exits.timesteps),
        "predictions": (real.exits.predictions, offline.exits.predictions),
        "sums": (real.sums, offline.sums),
    }
    require_same_answers(pairs, chosen, where)
    require_same_counts(real.ledger, offline.ledger, chosen, where)
