"""How fast is an exchange over our bridge beside a bare gRPC asyncio stream of the same sizes, and how
much of a tail's own throughput is left when 64 sessions share it (`bridge_load`)?

Both servers run in processes of their own. Rounds of ours and of the baseline alternate, so that a
change in the machine's load meets both; the figure is the median over all exchanges.

Run it alone with `python -m benchmarks.bridge`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bridge_load import measure
from neucodex_lava.errors import ConfigError
from neucodex_lava.progress import Progress, silent

REPOSITORY = Path(__file__).resolve().parents[1]
CODE_SHAPE = (1, 2, 2)  # ResNet-18 cut at SP7 on 32x32 images: 4 bits a timestep
CLASSES = 10
T_MAX = 4
BASELINE = "bare gRPC asyncio bidirectional stream, same message sizes"
_PATH = "/neucodex.benchmark.Echo/Echo"


class EchoTail:
    """Answers at once, so that only the way there and back is timed."""

    model = hashlib.sha256(b"benchmarks/bridge.py").hexdigest()
    code_shape = CODE_SHAPE
    code_bits = 1
    classes = CLASSES
    t_max = T_MAX
    gain = 1.0

    def __init__(self) -> None:
        self._sums = np.arange(CLASSES, dtype=np.int64)

    def new_state(self) -> None:
        return None

    def step(
        self, state: None, code: npt.NDArray[np.uint8], /
    ) -> tuple[None, npt.NDArray[np.int64]]:
        return None, self._sums


CASES = ("echo_p50", "throughput_64")


def run(*, cases: Sequence[str] = CASES, progress: Progress = silent) -> dict[str, Any]:
    """Measure the cases.

    Returns:
        `{"name": "bridge", "cases": [{"case", "ours_s", "baseline", "baseline_s", "ratio", ...}]}`
        with ratio = baseline / ours; times in seconds, sizes in bytes.

    Raises:
        ConfigError: an unknown case.
    """
    measures: dict[str, Callable[[], dict[str, Any]]] = {"echo_p50": echo, "throughput_64": measure}
    found: list[dict[str, Any]] = []
    for done, name in enumerate(cases):
        progress("bench bridge", done, len(cases))
        if name not in measures:
            raise ConfigError(f"no benchmark case '{name}'", f"cases: {', '.join(CASES)}")
        found.append(measures[name]())
    progress("bench bridge", len(cases), len(cases))
    return {"name": "bridge", "cases": found}


def echo(exchanges: int = 4000, rounds: int = 10) -> dict[str, Any]:
    """The case ``echo_p50``: single exchanges.

    Args:
        exchanges: how many are timed on each side, over all rounds.
        rounds: how often ours and the baseline take turns.
    """
    from host_bridge import EdgeClient
    from host_bridge.messages import HEADER_BYTES

    per_round = max(exchanges // rounds, 2 * T_MAX)
    up, down = HEADER_BYTES + 1, HEADER_BYTES + 4 + 4 * CLASSES
    ours: list[float] = []
    theirs: list[float] = []
    # One asyncio loop for the whole run: gRPC does not like several in a process.
    with (
        _server("ours") as address,
        _server("baseline") as echo_address,
        asyncio.Runner() if sys.version_info >= (3, 11) else _Runner() as runner,
        EdgeClient(address, model=EchoTail.model, code_shape=CODE_SHAPE, t_max=T_MAX) as client,
    ):
        stream = _BareStream(echo_address)
        runner.run(stream.open())
        _ours(client, per_round)  # warm-up, not counted
        runner.run(stream.exchange(per_round, up, down))
        for _ in range(rounds):
            ours += _ours(client, per_round)
            theirs += runner.run(stream.exchange(per_round, up, down))
        runner.run(stream.close())
    ours_s, baseline_s = statistics.median(ours), statistics.median(theirs)
    return {
        "case": "echo_p50",
        "ours_s": ours_s,
        "baseline": BASELINE,
        "baseline_s": baseline_s,
        "ratio": baseline_s / ours_s,
        "ours_p99_s": float(np.quantile(ours, 0.99)),
        "baseline_p99_s": float(np.quantile(theirs, 0.99)),
        "exchanges": len(ours),
        "message_bytes": [up, down],
    }


def _ours(client: Any, exchanges: int) -> list[float]:
    code = np.array([[[1, 0], [0, 1]]], np.uint8)
    times: list[float] = []
    while len(times) < exchanges:
        client.start_sample()
        for _ in range(T_MAX):
            start = time.perf_counter()
            client.step(code)
            times.append(time.perf_counter() - start)
        client.end_sample()
    return times


class _BareStream:
    """The baseline's client: raw bytes there and back, nothing checked."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: Any = None
        self._call: Any = None

    async def open(self) -> None:
        import grpc

        self._channel = grpc.aio.insecure_channel(self._address)
        self._call = self._channel.stream_stream(_PATH)()

    async def exchange(self, exchanges: int, up: int, down: int) -> list[float]:
        message = bytes(up)
        times: list[float] = []
        for _ in range(exchanges):
            start = time.perf_counter()
            await self._call.write(message)
            answer = await self._call.read()
            times.append(time.perf_counter() - start)
            if len(answer) != down:
                raise RuntimeError(f"echo of {len(answer)} bytes, expected {down}")
        return times

    async def close(self) -> None:
        await self._call.done_writing()
        await self._channel.close()


class _Runner:
    """What asyncio.Runner is from Python 3.11 on, as far as it is needed here."""

    def __enter__(self) -> _Runner:
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(self, *_: object) -> None:
        # Lets gRPC's last callbacks find the loop still open.
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    def run(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)


@contextmanager
def _server(which: str) -> Generator[str, None, None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bridge", "--serve", which],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the benchmark's server ({which}) did not start")
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _serve(which: str) -> None:
    if which == "ours":
        from host_bridge import serve_forever

        serve_forever(
            EchoTail(),
            port=0,
            on_listening=lambda host, port: print(f"{host}:{port}", flush=True),
        )
    else:
        asyncio.run(_serve_baseline())


async def _serve_baseline() -> None:
    import grpc

    answer = bytes(29 + 4 + 4 * CLASSES)

    async def echo(_requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(answer)

    service, method = _PATH.strip("/").split("/")
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        _serve(sys.argv[2])
    else:
        print(json.dumps(run(), indent=2))
