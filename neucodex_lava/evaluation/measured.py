"""The real run: Lava on the edge, gRPC over a socket, the policy deciding while both run.

Also what ``neucodex infer`` does. Nothing here is replayed from a finished run: a sample that stops
after timestep t never simulates or sends timestep t + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from host_bridge.client import EdgeClient
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import ConfigError, SimulationError
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.exits.policy import Action, ExitPolicy, Exits
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
    """

    exits: Exits
    ledger: Ledger | None
    edge_s: NDArray[np.float64]
    roundtrip_s: NDArray[np.float64]
    cloud_s: NDArray[np.float64]
    payload_bits: NDArray[np.int64]
    wire_bytes: NDArray[np.int64]
    sums: NDArray[np.int64] | None = None


def connect(configuration: Configuration, address: str, timeout_s: float = 30.0) -> EdgeClient:
    """A client for the configuration's cloud tail (not yet opened)."""
    net = configuration.net
    return EdgeClient(
        address,
        model=configuration.model_id,
        code_shape=net.code_shape,
        code_bits=net.code_bits,
        t_max=net.timesteps,
        timeout_s=timeout_s,
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
    """Run samples one after the other.

    Args:
        inputs: encoded samples, uint8 (N, C, H, W, T).
        policy: decides after each timestep.
        session: gated Lava session of the edge part; None sends the encoded input (cloud-only).
        client: connected to the cloud tail; None when the edge part ends in the readout.
        task: name shown by `progress`.
        progress: called after every sample.

    Raises:
        ConfigError: neither a session nor a client.
        SimulationError, BridgeError: from Lava and from the bridge.
    """
    if session is None and client is None:
        raise ConfigError("nothing to run: neither an edge nor a cloud part")
    samples = len(inputs)
    first = len(session.ledger().axon_out) if session is not None else 0
    seconds = {name: np.zeros(samples) for name in ("edge", "roundtrip", "cloud")}
    payload, wire = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    answers = np.zeros((samples, 3), np.int64)
    last_sums: list[NDArray[np.int64]] = []
    for n in range(samples):
        if session is not None:
            session.start_sample()
        if client is not None:
            client.start_sample()
        state, action, t = policy.start(), Action.CONTINUE, 0
        sums: NDArray[np.int64] | None = None
        while action is Action.CONTINUE:
            code = np.ascontiguousarray(inputs[n, ..., t])
            t += 1
            if session is not None:
                step = session.step(code)
                seconds["edge"][n] += step.seconds
                code, sums = step.code, step.sums
            if client is not None:
                reply = client.step(code)
                seconds["roundtrip"][n] += reply.roundtrip_s
                seconds["cloud"][n] += reply.cloud_s
                payload[n] += reply.payload_bits
                wire[n] += reply.wire_bytes
                sums = reply.sums
            if sums is None:
                raise SimulationError(
                    "the edge part does not end in the readout, and no cloud answers",
                    "pass --cloud HOST:PORT",
                )
            state, action = policy.step(state, t, sums)
        assert sums is not None
        if client is not None:
            wire[n] += client.end_sample()
        answers[n] = t, int(sums.argmax()), int(action)
        last_sums.append(sums)
        progress(task, n + 1, samples)
    exits = Exits(answers[:, 0], answers[:, 1], answers[:, 2].astype(np.uint8))
    ledger = session.ledger().rows(slice(first, first + samples)) if session is not None else None
    return Measured(
        exits,
        ledger,
        seconds["edge"],
        seconds["roundtrip"],
        seconds["cloud"],
        payload,
        wire,
        np.array(last_sums, np.int64),
    )
