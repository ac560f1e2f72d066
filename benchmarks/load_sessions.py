"""The sessions that load a server in benchmarks: asyncio streams that speak the wire format directly.

A process of its own, so that it shares no interpreter with the server:
``python -m benchmarks.load_sessions JSON`` prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

RATE = 0.25
"""Firing rate of the codes; a tail's speed does not depend on it."""


@dataclass(frozen=True)
class Job:
    """What to load a server with.

    Attributes:
        address: HOST:PORT.
        model: sha256 of the bundle.
        code_shape, t_max: of its codes and samples.
        sessions: streams.
        seconds: how long.
        rate: samples a second in all, arriving at random (Poisson); 0: every session as fast as it can.
    """

    address: str
    model: str
    code_shape: tuple[int, int, int]
    t_max: int
    sessions: int
    seconds: float
    rate: float = 0.0

    def to_json(self) -> str:
        """As the process takes it."""
        return json.dumps(asdict(self))


@dataclass
class Counts:
    """What all sessions saw together.

    Attributes:
        latencies_s: of each answered timestep, from sending its code to its sums, in seconds.
        refused: samples given up because the server was busy.
        unsent: samples that found every session still at work.
        samples: finished ones.
    """

    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    unsent: int = 0
    samples: int = 0


class LoadSession:
    """One stream that runs samples of random codes."""

    def __init__(self, channel: Any, number: int, job: Job) -> None:
        from host_bridge._grpc import METHOD, SERVICE
        from host_bridge.codecs import pack

        self._call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        self._number, self._job = number, job
        codes = np.random.default_rng(number).random((job.t_max, *job.code_shape)) < RATE
        self._codes = [pack(code.astype(np.uint8)) for code in codes]
        self._sample = -1

    async def open(self) -> None:
        """Agree with the server on the model."""
        from host_bridge.handshake import Open
        from host_bridge.messages import Kind

        job = self._job
        hello = Open(job.model, job.code_shape, 1, job.t_max, {"python": "load"})
        answer = await self._ask(Kind.OPEN, hello.to_bytes())
        if answer.kind is not Kind.OPENED:
            raise RuntimeError(f"the server answered {answer.kind.name}: {answer.payload!r}")

    async def run_sample(self, counts: Counts) -> None:
        """All timesteps of one sample, or until the server is busy."""
        from host_bridge.messages import Kind

        self._sample += 1
        for timestep, code in enumerate(self._codes, start=1):
            began = time.perf_counter()
            answer = await self._ask(Kind.CODE, code, timestep)
            if answer.kind is Kind.BUSY:
                counts.refused += 1
                await self._say(Kind.END_SAMPLE, b"", timestep)
                return
            if answer.kind is not Kind.LOGITS:
                raise RuntimeError(f"the server answered {answer.kind.name}: {answer.payload!r}")
            counts.latencies_s.append(time.perf_counter() - began)
        counts.samples += 1
        await self._say(Kind.END_SAMPLE, b"", self._job.t_max)

    async def close(self) -> None:
        """End the stream."""
        from host_bridge.messages import Kind

        await self._say(Kind.CLOSE, b"", 0)
        await self._call.done_writing()

    async def _say(self, kind: Any, payload: bytes, timestep: int) -> None:
        from host_bridge.codecs import BIT_PACKED
        from host_bridge.messages import Kind, Message, encode

        codec = BIT_PACKED if kind is Kind.CODE else 0
        sample = max(self._sample, 0)
        await self._call.write(
            encode(Message(kind, self._number, 0, sample, timestep, codec, payload))
        )

    async def _ask(self, kind: Any, payload: bytes, timestep: int = 0) -> Any:
        from host_bridge.messages import decode

        await self._say(kind, payload, timestep)
        raw = await self._call.read()
        if not isinstance(raw, bytes):
            raise RuntimeError("the server ended the stream")
        return decode(raw, 1 << 20)


async def load(job: Job) -> dict[str, Any]:
    """Load a server; steps, samples, refusals, and latencies of a timestep in seconds."""
    import grpc

    channels = [grpc.aio.insecure_channel(job.address) for _ in range(min(8, job.sessions))]
    everyone = [LoadSession(channels[n % len(channels)], n + 1, job) for n in range(job.sessions)]
    await asyncio.gather(*(session.open() for session in everyone))
    counts = Counts()
    began = time.perf_counter()

    async def restless(session: LoadSession) -> None:
        while time.perf_counter() - began < job.seconds:
            await session.run_sample(counts)

    if job.rate <= 0:
        await asyncio.gather(*map(restless, everyone))
    else:
        await _open_loop(everyone, counts, job)
    took = time.perf_counter() - began
    await asyncio.gather(*(session.close() for session in everyone))
    for channel in channels:
        await channel.close()
    latencies = np.array(counts.latencies_s or [0.0])
    return {
        "seconds": took,
        "steps": len(counts.latencies_s),
        "steps_per_s": len(counts.latencies_s) / took,
        "samples": counts.samples,
        "refused": counts.refused,
        "unsent": counts.unsent,
        "p50_s": float(np.quantile(latencies, 0.5)),
        "p99_s": float(np.quantile(latencies, 0.99)),
    }


async def _open_loop(everyone: list[LoadSession], counts: Counts, job: Job) -> None:
    """Samples arrive whether or not earlier ones are done; an idle session takes each."""
    idle, started = list(everyone), list[asyncio.Task[None]]()
    arrivals = random.Random(0)

    async def one(session: LoadSession) -> None:
        await session.run_sample(counts)
        idle.append(session)

    began = due = time.perf_counter()
    while due - began < job.seconds:
        due += arrivals.expovariate(job.rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if not idle:
            counts.unsent += 1
            continue
        started.append(asyncio.create_task(one(idle.pop())))
    await asyncio.gather(*started)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    given["code_shape"] = tuple(given["code_shape"])
    print(json.dumps(asyncio.run(load(Job(**given)))))
