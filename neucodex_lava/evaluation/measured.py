"""The real run: Lava on the edge, gRPC over a socket, the policy deciding while both run.

Also what ``neucodex infer`` does. Nothing here is replayed from a finished run: a sample that stops
after timestep t never sends timestep t + 1, and simulates it only where a pipeline had begun it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from host_bridge.client import Channels, EdgeClient
from host_bridge.client.client import DEFAULT_PATIENCE_S
from host_bridge.security import ClientSecurity
from neucodex_lava.bundle.coding import load_coding
from neucodex_lava.edge.books import Stop
from neucodex_lava.edge.session import EdgeSession, StepResult
from neucodex_lava.errors import ConfigError, SimulationError
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.exits.policy import Action, ExitPolicy, Exits, has_nan, predicted
from neucodex_lava.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Measured:
    """Results and measurements per sample; each array is (N,).

    Attributes:
        exits: timesteps run and predictions.
        ledger: counts of the Lava run, None when nothing ran on the edge.
        edge_s: wall time of the simulator, in seconds.
        roundtrip_s: wall time of the bridge from code to logits, in seconds, summed over timesteps.
        cloud_s: the server's part of it.
        payload_bits: as sent.
        wire_bytes: modelled from the messages really sent.
        sums: running sums that each sample was answered by, int64 (N, K).
        stops: pipelined samples that were stopped before T, in order.
    """

    exits: Exits
    ledger: Ledger | None
    edge_s: NDArray[np.float64]
    roundtrip_s: NDArray[np.float64]
    cloud_s: NDArray[np.float64]
    payload_bits: NDArray[np.int64]
    wire_bytes: NDArray[np.int64]
    sums: NDArray[np.int64] | None = None
    stops: tuple[Stop, ...] = ()


@dataclass(frozen=True)
class LinkUse:
    """How the edge uses its link to the cloud.

    Attributes:
        timeout_s: longest silence while an answer is awaited, in seconds.
        patience_s: how long a sample waits for a lost link to come back, in seconds.
        codec: one of `host_bridge.codecs.CHOICES`.
        link_rate_bps: towards the cloud; `auto` then weighs time against size. None: by size alone.
        security: what to trust and to show; None for a plain connection.
        deadline_ms: a code that waited longer for its turn on the server is not run; 0 for none.
    """

    timeout_s: float = 30.0
    patience_s: float = DEFAULT_PATIENCE_S
    codec: str = "packed"
    link_rate_bps: float | None = None
    security: ClientSecurity | None = None
    deadline_ms: int = 0


def connect(
    configuration: Configuration,
    address: str,
    use: LinkUse | None = None,
    channels: Channels | None = None,
) -> EdgeClient:
    """A client for the configuration's cloud tail (not yet opened).

    Args:
        configuration: whose tail.
        address: HOST:PORT, or several with commas between them.
        use: of the link.
        channels: connections shared with other clients.
    """
    use = use or LinkUse()
    net = configuration.net
    tables = None if use.codec == "packed" else load_coding(configuration.bundle, net.cut)
    return EdgeClient(
        targets=[target.strip() for target in address.split(",")],
        model=configuration.model_id,
        code_shape=net.code_shape,
        code_bits=net.code_bits,
        t_max=net.timesteps,
        timeout_s=use.timeout_s,
        patience_s=use.patience_s,
        deadline_ms=use.deadline_ms,
        coding=tables,
        codec=use.codec,
        link_rate_bps=use.link_rate_bps,
        security=use.security,
        channels=channels,
    )


def run_measured(
    inputs: NDArray[np.uint8],
    policy: ExitPolicy,
    session: EdgeSession | None,
    client: EdgeClient | None,
    *,
    task: str = "Lava and bridge",
    progress: Progress = silent,
) -> Measured:
    """Run samples one after the other, or back to back through a pipelined session.

    Args:
        inputs: encoded samples, uint8 (N, C, H, W, T).
        policy: decides after each timestep.
        session: Lava session of the edge part that keeps its ledger; None sends the encoded input
            (cloud-only). A pipelined one must be fresh, and is drained.
        client: connected to the cloud tail; None when the edge part ends in the readout.
        task: name shown by `progress`.
        progress: called after every sample.

    Raises:
        ConfigError: neither a session nor a client, or a session without a ledger.
        SimulationError, BridgeError: from Lava and from the bridge.
    """
    if session is None and client is None:
        raise ConfigError("nothing to run: neither an edge nor a cloud part")
    samples = len(inputs)
    answers = _Answers(samples, policy, client, lambda done: progress(task, done, samples))
    if session is not None and session.wiring.pipelined:
        edge_s = _run_pipelined(inputs, answers, session)
        return answers.measured(edge_s, session.ledger(), tuple(session.stops))
    first = len(session.ledger().axon_out) if session is not None else 0
    edge_s = _run_gated(inputs, answers, session)
    ledger = session.ledger().rows(slice(first, first + samples)) if session is not None else None
    return answers.measured(edge_s, ledger)


def _run_gated(
    inputs: NDArray[np.uint8], answers: _Answers, session: EdgeSession | None
) -> NDArray[np.float64]:
    """Each sample until it is decided; returns the simulator's seconds, (N,)."""
    edge_s = np.zeros(len(inputs))
    for n, sample in enumerate(inputs):
        if session is not None:
            session.start_sample()
        t, done = 0, False
        while not done:
            code = np.ascontiguousarray(sample[..., t])
            t += 1
            if session is None:
                done = answers.take(n, t, code, None)
            else:
                step = session.step(code)
                edge_s[n] += step.seconds
                done = answers.take(n, t, step.code, step.sums)
    return edge_s


def _run_pipelined(
    inputs: NDArray[np.uint8], answers: _Answers, session: EdgeSession
) -> NDArray[np.float64]:
    """All samples back to back; returns the simulator's seconds of each one's frames, (N,).

    Those of draining are the last sample's.
    """
    edge_s = np.zeros(len(inputs))

    def take(result: StepResult | None) -> None:
        if result is None:
            return
        if answers.take(result.sample, result.timestep, result.code, result.sums):
            session.stop(result)

    for n, sample in enumerate(inputs):
        for t in range(sample.shape[-1]):
            frame = np.ascontiguousarray(sample[..., t])
            began = time.perf_counter()
            result = session.feed(frame)
            edge_s[n] += time.perf_counter() - began
            take(result)
    began = time.perf_counter()
    for result in session.drain():
        edge_s[-1] += time.perf_counter() - began
        take(result)
        began = time.perf_counter()
    return edge_s


class _Answers:
    """Cloud and policy: what becomes of the codes, sample by sample, and what that cost."""

    def __init__(
        self,
        samples: int,
        policy: ExitPolicy,
        client: EdgeClient | None,
        done: Callable[[int], None],
    ) -> None:
        self._policy, self._client, self._done = policy, client, done
        self._state: Any = None
        self._not_numbers = 0
        self._exits = np.zeros((samples, 3), np.int64)
        self._roundtrip_s, self._cloud_s = np.zeros(samples), np.zeros(samples)
        self._payload, self._wire = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
        self._sums: list[NDArray[np.int64]] = []

    def take(self, n: int, t: int, code: NDArray[np.uint8], sums: NDArray[np.int64] | None) -> bool:
        """The code of sample n's timestep t (from 1) came out; whether it decides the sample."""
        client = self._client
        if t == 1:
            self._state = self._policy.start()
            if client is not None:
                client.start_sample()
        if client is not None:
            reply = client.step(code)
            self._roundtrip_s[n] += reply.roundtrip_s
            self._cloud_s[n] += reply.cloud_s
            self._payload[n] += reply.payload_bits
            self._wire[n] += reply.wire_bytes
            sums = reply.sums
        if sums is None:
            raise SimulationError(
                "the edge part does not end in the readout, and no cloud answers",
                "pass --cloud HOST:PORT",
            )
        self._not_numbers += has_nan(sums)
        self._state, action = self._policy.step(self._state, t, sums)
        if action is Action.CONTINUE:
            return False
        if client is not None:
            self._wire[n] += client.end_sample()
        self._exits[n] = t, int(predicted(sums)), int(action)
        self._sums.append(sums)
        self._done(n + 1)
        return True

    def measured(
        self,
        edge_s: NDArray[np.float64],
        ledger: Ledger | None,
        stops: tuple[Stop, ...] = (),
    ) -> Measured:
        """What came of all samples."""
        timesteps, predictions, actions = self._exits.T
        return Measured(
            Exits(timesteps, predictions, actions.astype(np.uint8), self._not_numbers),
            ledger,
            edge_s,
            self._roundtrip_s,
            self._cloud_s,
            self._payload,
            self._wire,
            np.array(self._sums, np.int64),
            stops,
        )
