"""`EdgeSession`: the edge part, fed timestep by timestep by the caller's own loop."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.fused import FusedRun, StepData
from neucodex_lava.edge.wiring import (
    NODE_COLUMNS,
    SYNAPSE_COLUMNS,
    Backend,
    Schedule,
    Wiring,
    check_inputs,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet


@dataclass(frozen=True)
class StepResult:
    """What one logical timestep gave.

    Attributes:
        sample: from 0.
        timestep: t, from 1.
        code: spikes of the last edge node, uint8 (C, H, W).
        sums: running sums S_t, int64 (K,), when the edge part ends in the readout, else None.
        links: counts of this timestep (gated) or Lava step (pipelined) per connection, int64
            (connections, 4), in the order of `energy.ledger.CONNECTION_COUNTS`.
        nodes: the same per node, int64 (nodes, 2), in the order of `NODE_COUNTS`.
        spikes: with ``record=True``, uint8 (C, H, W) per node name, else empty.
        seconds: time the simulator took, as seen by the caller.
    """

    sample: int
    timestep: int
    code: NDArray[np.uint8]
    sums: NDArray[np.int64] | None
    links: NDArray[np.int64]
    nodes: NDArray[np.int64]
    spikes: dict[str, NDArray[np.uint8]]
    seconds: float


class EdgeSession:
    """A running edge part, as a context manager.

    Gated: `start_sample`, then `step` up to T times; a sample may be left after any timestep, and what
    was not run costs nothing. Pipelined: `feed` whole samples back to back, results come as many
    steps later as the pipeline is deep, `drain` fetches the last ones.

    Counts are kept for `ledger`: 48 bytes or so per connection, node and timestep, in all.

    Args:
        net: the network; only the part before its cut runs.
        timesteps: T, by default the net's T_max.
        backend: ``fused``; for ``reference`` use `simulate`.
        schedule: ``gated`` or ``pipelined``.
        record: return every node's spikes.

    Raises:
        ConfigError: a backend, schedule or T that is not possible.
        SimulationError: Lava could not start.
    """

    def __init__(
        self,
        net: IntegerNet,
        *,
        timesteps: int | None = None,
        backend: Backend = "fused",
        schedule: Schedule = "gated",
        record: bool = False,
    ) -> None:
        if backend != "fused":
            check_backend(backend, schedule)
            raise ConfigError(
                "a session runs on the backend fused", "for the backend reference, call simulate"
            )
        self.wiring = Wiring.of(net, schedule, timesteps)
        self._run = FusedRun(self.wiring, record=record)
        self._sample = -1
        self._timestep = self.wiring.timesteps
        self._links: list[NDArray[np.int64]] = []
        self._nodes: list[NDArray[np.int64]] = []
        self._place: list[tuple[int, int]] = []

    def __enter__(self) -> EdgeSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all Lava processes; the ledger stays readable. Closing twice does no harm."""
        self._run.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the Lava processes."""
        return self._run.pids

    def start_sample(self) -> None:
        """Begin the next sample; the one before may have been left early (gated).

        Raises:
            ConfigError: in the pipelined schedule, where samples follow each other by the clock.
        """
        self._only("gated", "start_sample")
        self._sample += 1
        self._timestep = 0

    def step(self, frame: NDArray[np.uint8]) -> StepResult:
        """Run the sample's next timestep.

        Args:
            frame: input spikes or values, uint8 (C, H, W).

        Raises:
            ConfigError: no sample was started, or all its T timesteps are done.
            DataError: a frame of the wrong type, shape or range.
            OverflowInRunError: a synaptic sum left the 24-bit range.
            SimulationError: a Lava process failed or died; the session is closed.
        """
        self._only("gated", "step")
        if self._timestep >= self.wiring.timesteps:
            raise ConfigError(
                f"timestep {self.wiring.timesteps} was the sample's last, or none was started",
                "call start_sample first",
            )
        check_inputs(frame, self.wiring.net, axes="C H W")
        self._timestep += 1
        self._place.append((self._sample, self._timestep))
        return self._exchange(frame, start=self._timestep == 1)

    def feed(self, frame: NDArray[np.uint8]) -> StepResult | None:
        """Give a pipelined session its next frame; returns what comes out in this Lava step.

        Args:
            frame: uint8 (C, H, W); samples of T frames follow each other without a gap.

        Returns:
            The logical timestep that left the pipeline, None while it fills.

        Raises:
            As `step`.
        """
        self._only("pipelined", "feed")
        check_inputs(frame, self.wiring.net, axes="C H W")
        self._sample = len(self._links) // self.wiring.timesteps
        result = self._exchange(frame, start=False)
        return result if result.sample >= 0 else None

    def drain(self) -> list[StepResult]:
        """Run a pipelined session on empty frames until all that was fed has come out.

        The pipeline then lies outside of every window; the session cannot be fed again.

        Raises:
            ConfigError: the last sample is not complete.
        """
        self._only("pipelined", "drain")
        if len(self._links) % self.wiring.timesteps:
            raise ConfigError(f"the last sample has fewer than {self.wiring.timesteps} timesteps")
        fed = len(self._links)
        blank = np.zeros(self.wiring.net.input_shape, np.uint8)
        results = [self._exchange(blank, start=False) for _ in range(self.wiring.depth)]
        last = fed // self.wiring.timesteps
        self.close()
        return [r for r in results if 0 <= r.sample < last]

    def ledger(self) -> Ledger:
        """Counts so far, (samples, ..., T): timesteps that were not run hold zeros.

        A pipelined session has one only after `drain`; its last Lava steps are still in flight before.

        Raises:
            ConfigError: called too early.
        """
        links = np.array(self._links, np.int64).reshape(
            len(self._links), len(self.wiring.links), SYNAPSE_COLUMNS
        )
        nodes = np.array(self._nodes, np.int64).reshape(
            len(self._nodes), len(self.wiring.net.nodes), NODE_COLUMNS
        )
        if self.wiring.pipelined:
            samples, rest = divmod(len(links) - self.wiring.depth, self.wiring.timesteps)
            if rest or samples < 0:
                raise ConfigError("the pipeline is not empty", "call drain first")
            return self.wiring.ledger(links, nodes, samples)
        samples = self._sample + 1
        full_links = np.zeros((samples, self.wiring.timesteps, *links.shape[1:]), np.int64)
        full_nodes = np.zeros((samples, self.wiring.timesteps, *nodes.shape[1:]), np.int64)
        for i, (sample, timestep) in enumerate(self._place[: len(links)]):
            full_links[sample, timestep - 1] = links[i]
            full_nodes[sample, timestep - 1] = nodes[i]
        return self.wiring.ledger(
            full_links.reshape(-1, *links.shape[1:]),
            full_nodes.reshape(-1, *nodes.shape[1:]),
            samples,
        )

    def _only(self, schedule: Schedule, call: str) -> None:
        mine = "pipelined" if self.wiring.pipelined else "gated"
        if mine != schedule:
            other = "start_sample and step" if mine == "gated" else "feed and drain"
            raise ConfigError(f"{call} is for {schedule} sessions", f"use {other}")

    def _exchange(self, frame: NDArray[np.uint8], *, start: bool) -> StepResult:
        began = time.perf_counter()
        try:
            self._run.send(frame, start=start)
            data: StepData = self._run.receive()
        except BaseException:
            self.close()
            raise
        self._links.append(data.links)
        self._nodes.append(data.nodes)
        sample, timestep = self._sample, self._timestep
        if self.wiring.pipelined:
            step = len(self._links) - 1 - self.wiring.offset(self.wiring.output)
            sample, rest = divmod(step, self.wiring.timesteps)
            timestep = rest + 1
        seconds = time.perf_counter() - began
        return StepResult(
            sample, timestep, data.code, data.sums, data.links, data.nodes, data.spikes, seconds
        )


def check_backend(backend: str, schedule: str) -> None:
    """Raise ConfigError unless the backend exists and knows the schedule."""
    if backend not in ("fused", "reference"):
        raise ConfigError(f"backend '{backend}' is not one of fused, reference")
    if backend == "reference" and schedule == "gated":
        raise ConfigError(
            "the backend reference has no gated schedule: no stock neuron does this",
            "use schedule pipelined, or the backend fused",
        )
