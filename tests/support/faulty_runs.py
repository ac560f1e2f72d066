"""Samples through the edge's client whatever happens: one result each, and what it should be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from host_bridge.client.client import EdgeClient
from host_bridge.client.ladder import Source, Verdict, descend
from host_bridge.client.log import StepReply
from neucodex_lava.errors import BridgeError


@dataclass
class Runner:
    """Runs samples to their last timestep, with a deadline for each answer.

    Args:
        make: makes a client; another one when a session is over for good.
        deadline_s: longest wait for an answer, in seconds.
        before_step: called before each code is sent, with sample and timestep (from 1).

    Attributes:
        errors: messages of the sessions that ended for good.
        clients: how many were made.
        lost: reconnections of all of them.
    """

    make: Callable[[], EdgeClient]
    deadline_s: float
    before_step: Callable[[int, int], None] = lambda sample, timestep: None
    errors: list[str] = field(default_factory=list)
    clients: int = 0
    lost: int = 0

    def run(self, samples: np.ndarray) -> list[Verdict]:
        """One verdict for each of the samples, (N, T, C, H, W)."""
        verdicts: list[Verdict] = []
        client: EdgeClient | None = None
        for number, codes in enumerate(samples):
            if client is None:
                client = self.make()
                client.open(required=False)
                self.clients += 1
            reply: StepReply | None = None
            decided = False
            try:
                reply, decided = self._sample(client, number, codes)
                client.end_sample()
            except BridgeError as error:
                self.errors.append(str(error))
                self._leave(client)
                client = None
            verdicts.append(descend(decided, reply, None))
        if client is not None:
            self._leave(client)
        return verdicts

    def _sample(
        self, client: EdgeClient, number: int, codes: np.ndarray
    ) -> tuple[StepReply | None, bool]:
        client.start_sample()
        latest: StepReply | None = None
        for t, code in enumerate(codes, 1):
            self.before_step(number, t)
            client.send(code)
            reply = client.receive(time.monotonic() + self.deadline_s)
            if reply is None:
                return latest, False
            assert reply.timestep == t
            latest = reply
        return latest, True

    def _leave(self, client: EdgeClient) -> None:
        self.lost += client.counts.reconnects
        client.close()


def sources(verdicts: list[Verdict]) -> Counter[Source]:
    """How many results are whose."""
    return Counter(verdict.source for verdict in verdicts)


def differences(verdicts: list[Verdict], truth: np.ndarray) -> list[int]:
    """Samples whose result is not what the fault-free run gave at its timestep.

    Args:
        verdicts: of the run with faults.
        truth: running sums of the one without, (N, T, classes).
    """
    wrong: list[int] = []
    for number, verdict in enumerate(verdicts):
        if verdict.sums is None:
            right = verdict.source is Source.ABSTAINED and verdict.timestep == 0
        else:
            right = np.array_equal(verdict.sums, truth[number, verdict.timestep - 1])
            right = right and (
                verdict.source is not Source.CLOUD or verdict.timestep == len(truth[0])
            )
        if not right:
            wrong.append(number)
    return wrong
