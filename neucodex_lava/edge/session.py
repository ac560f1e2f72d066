"""`EdgeSession`: the edge part, fed timestep by timestep by the caller's own loop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.edge.books import Books, Stop, Totals
from neucodex_lava.edge.fused import FusedRun, StepData
from neucodex_lava.edge.result import StepResult
from neucodex_lava.edge.wiring import (
    Backend,
    Schedule,
    Wiring,
    check_backend,
    check_inputs,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet


class EdgeSession:
    """A running edge part, as a context manager.

    Gated: `start_sample`, then `step` up to T times; a sample may be left after any timestep, and what
    was not run costs nothing. Pipelined: `feed` whole samples back to back, results come as many
    steps later as the pipeline is deep, `stop` a sample once it is decided, `drain` fetches the last
    ones.

    A pipelined session gives a timestep once all of it has come: where an exit head lies deeper than
    the node whose code crosses the cut (by one step where it listens to that node), that many steps
    after the code (`behind`).

    Memory stays as it is however long a session runs, unless it keeps a ledger: that grows by 32 bytes
    per connection and 16 per node with every timestep.

    Args:
        net: the network; only the part before its cut runs.
        timesteps: T, by default the net's T_max.
        backend: ``fused``; for ``reference`` use `simulate`.
        schedule: ``gated`` or ``pipelined``.
        record: return every node's spikes.
        keep_ledger: keep all counts for `ledger`, and stopped samples for `stops`.
        threads: that share the work of large layers. Maps of 32x32 gain nothing from more than one;
            measure before you take more.

    Raises:
        ConfigError: a backend, schedule, T or number of threads that is not possible.
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
        keep_ledger: bool = False,
        threads: int = 1,
    ) -> None:
        if backend != "fused":
            check_backend(backend, schedule)
            raise ConfigError(
                "a session runs on the backend fused", "for the backend reference, call simulate"
            )
        self.wiring = Wiring.of(net, schedule, timesteps)
        self._run = FusedRun(self.wiring, record=record, threads=threads)
        self._books = Books(self.wiring, keep=keep_ledger)
        self._keeps = keep_ledger
        self._blank = np.zeros(self.wiring.net.input_shape, np.uint8)
        self._sample = -1
        self._timestep = self.wiring.timesteps
        self._drained = False
        offsets = [self.wiring.offset(name) for name in self.wiring.answers]
        self._recent: deque[StepData] = deque(maxlen=max(offsets) - min(offsets) + 1)

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

    @property
    def behind(self) -> int:
        """Lava steps from a code to its result: 0, but for exit heads that lie deeper (pipelined)."""
        return self.wiring.result_offset - self.wiring.offset(self.wiring.output)

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
        place = self._sample, self._timestep - 1
        data, seconds = self._exchange(frame, place)
        return self._result(place, data, seconds)

    def feed(self, frame: NDArray[np.uint8]) -> StepResult | None:
        """Give a pipelined session its next frame; returns what comes out in this Lava step.

        Args:
            frame: uint8 (C, H, W); samples of T frames follow each other without a gap. What is left
                of a stopped sample is replaced by blank frames: the clock goes on.

        Returns:
            The logical timestep that left the pipeline; None while it fills, and for a timestep that
            comes after the one by which its sample was decided.

        Raises:
            As `step`; ConfigError also after `drain`.
        """
        self._only("pipelined", "feed")
        if self._drained:
            raise ConfigError("the session was drained: its pipeline lies outside of every window")
        check_inputs(frame, self.wiring.net, axes="C H W")
        place = divmod(self._books.steps, self.wiring.timesteps)
        if self._books.decided(place[0]) is not None:
            return self._advance(self._blank, None)
        return self._advance(frame, place)

    def stop(self, result: StepResult) -> None:
        """Decide a pipelined sample by one of its results: no more of it is fed or returned.

        Its own counts end with the timesteps that were fed by now. Once the whole sample has left the
        pipeline, or with its last timestep, nothing is left to stop.

        Args:
            result: what `feed` or `drain` gave for the deciding timestep.
        """
        self._only("pipelined", "stop")
        self._books.decide(result.sample, result.timestep)

    def drain(self) -> Iterator[StepResult]:
        """Run a pipelined session on blank frames until all that was fed has come out.

        Lava goes on as the results are taken: the last of them ends its processes. The session cannot
        be fed again.

        Raises:
            ConfigError: the last sample is neither complete nor stopped.
        """
        self._only("pipelined", "drain")
        timesteps = self.wiring.timesteps
        last, missing = divmod(self._books.steps, timesteps)
        if missing and self._books.decided(last) is None:
            raise ConfigError(
                f"the last sample has fewer than {timesteps} timesteps", "feed or stop it"
            )
        self._sample = last if missing else last - 1
        self._drained = True
        return self._drain(self.wiring.steps(self._sample + 1))

    def _drain(self, end: int) -> Iterator[StepResult]:
        while self._books.steps < end:
            result = self._advance(self._blank, None)
            if result is not None and result.sample <= self._sample:
                yield result
        self.close()

    @property
    def totals(self) -> Totals:
        """Running sums of all counts so far."""
        return self._books.totals()

    @property
    def stops(self) -> list[Stop]:
        """What stopping saved, for each stopped sample that has left the pipeline.

        Raises:
            ConfigError: the session keeps no ledger.
        """
        self._need_ledger()
        return list(self._books.stops)

    def ledger(self) -> Ledger:
        """Counts so far, (samples, ..., T): timesteps that were not run hold zeros.

        A pipelined session has one only after `drain`; its last Lava steps are still in flight before.

        Raises:
            ConfigError: the session keeps no ledger, or called too early.
        """
        self._need_ledger()
        if self.wiring.pipelined and not (
            self._drained and self._books.steps == self.wiring.steps(self._sample + 1)
        ):
            raise ConfigError("the pipeline is not empty", "take all results of drain first")
        return self._books.ledger(self._sample + 1)

    def _need_ledger(self) -> None:
        if not self._keeps:
            raise ConfigError(
                "the session keeps no ledger", "open it with keep_ledger=True, or use totals"
            )

    def _only(self, schedule: Schedule, call: str) -> None:
        mine = "pipelined" if self.wiring.pipelined else "gated"
        if mine != schedule:
            other = "start_sample and step" if mine == "gated" else "feed, stop and drain"
            raise ConfigError(f"{call} is for {schedule} sessions", f"use {other}")

    def _advance(
        self, frame: NDArray[np.uint8], place: tuple[int, int] | None
    ) -> StepResult | None:
        """One step of the pipeline, and what left it."""
        came = self._books.steps - self.wiring.result_offset
        out = divmod(came, self.wiring.timesteps)
        decided = self._books.decided(out[0])
        data, seconds = self._exchange(frame, place)
        if came < 0 or (decided is not None and out[1] >= decided):
            return None
        return self._result(out, data, seconds)

    def _exchange(
        self, frame: NDArray[np.uint8], place: tuple[int, int] | None
    ) -> tuple[StepData, float]:
        began = time.perf_counter()
        try:
            self._run.send(frame, start=place is not None and place[1] == 0)
            data = self._run.receive()
        except BaseException:
            self.close()
            raise
        self._recent.append(data)
        self._books.add(data.links, data.nodes, place)
        return data, time.perf_counter() - began

    def _result(self, place: tuple[int, int], data: StepData, seconds: float) -> StepResult:
        """What came of a sample's timestep (both from 0), of which the step just done was the last."""
        sent = self._at(self.wiring.output, place)
        return StepResult(
            place[0],
            place[1] + 1,
            sent.code,
            sent.sums,
            data.links,
            data.nodes,
            data.spikes,
            seconds,
            {name: self._at(name, place).exit_sums[name] for name in self.wiring.exit_heads},
        )

    def _at(self, node: str, place: tuple[int, int]) -> StepData:
        """The step in which a node did its part of a sample's timestep, one of the latest."""
        if not self.wiring.pipelined:
            return self._recent[-1]
        sample, t = place
        step = sample * self.wiring.timesteps + t + self.wiring.offset(node)
        return self._recent[step - self._books.steps]
