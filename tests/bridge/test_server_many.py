"""Many open sessions: what each takes while it is silent, and that nothing of it stays.

`NEUCODEX_SESSIONS=1000` opens as many as the project promises; CI opens fewer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import psutil
from raw_edge import PATH

import host_bridge
from host_bridge.codecs import pack
from host_bridge.handshake import Open
from host_bridge.messages import Kind, Message, decode, encode

SESSIONS = int(os.environ.get("NEUCODEX_SESSIONS", "200"))
CHANNELS = 8
LIMIT_KIB = 60
"""Measured with 1,000: 27 KiB each (gRPC 1.85, Python 3.10)."""

SERVE = """
import sys
sys.path.insert(0, "tests/bridge")
from conftest import FakeBatchTail
from host_bridge import serve_forever
def listening(host, port):
    print(f"{host}:{port}", flush=True)
serve_forever(FakeBatchTail(), port=0, on_listening=listening)
"""


def test_many_sessions_are_held_stepped_and_forgotten(make_batch_tail):
    tail = make_batch_tail()
    root = Path(host_bridge.__file__).parents[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        used = asyncio.run(hold(address, tail, psutil.Process(server.pid)))
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.communicate()
    assert used["held"] < LIMIT_KIB
    assert used["kept"] < LIMIT_KIB / 4, "a second round takes the place of the first"


async def hold(address, tail, process):
    """KiB a session, while it is silent, and of a session of a round before."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
    hello = Open(tail.model, tail.code_shape, tail.code_bits, tail.t_max, {}).to_bytes()
    sample = tail.codes(1)[0]
    expected = tail.run(sample)[0].astype(">f4").tobytes()

    async def opened(number):
        call = channels[number % CHANNELS].stream_stream(PATH)()
        await call.write(encode(Message(Kind.OPEN, number, payload=hello)))
        assert decode(await call.read(), 10_000).kind is Kind.OPENED
        return call

    async def all_of(numbers):
        return await asyncio.gather(*(opened(number) for number in numbers))

    async def step(number, call):
        raw = encode(Message(Kind.CODE, number, 0, 0, 1, 1, pack(sample[0])))
        await call.write(raw)
        return decode(await call.read(), 10_000)

    def kib():
        return process.memory_info().rss / 1024

    first = await all_of(range(10**6, 10**6 + CHANNELS))
    empty = kib()
    calls = await all_of(range(SESSIONS))
    await asyncio.sleep(0.5)
    full = kib()
    answers = await asyncio.gather(*(step(n, call) for n, call in enumerate(calls)))
    assert all(answer.payload[4:] == expected for answer in answers)
    for call in calls:
        call.cancel()
    await asyncio.sleep(1)
    between = kib()
    calls = await all_of(range(SESSIONS))
    again = kib()
    for call in (*calls, *first):
        call.cancel()
    for channel in channels:
        await channel.close()
    return {"held": (full - empty) / SESSIONS, "kept": (again - max(full, between)) / SESSIONS}
