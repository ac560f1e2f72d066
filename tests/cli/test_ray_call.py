"""A stream through Ray Serve that its edge leaves: nothing of it stays behind."""

from __future__ import annotations

import asyncio

from neucodex_lava.deploy.ray_call import RawMessage, RayCall

MESSAGE = b"NX\x02\x04 some sums"


class Talker:
    """Says something over and over, or once and then nothing."""

    def __init__(self, call: RayCall, *, endless: bool) -> None:
        self.call, self.endless = call, endless

    async def run(self) -> None:
        await self.call.write(MESSAGE)
        while self.endless:
            await self.call.write(MESSAGE)


def test_a_stream_that_its_edge_leaves_leaves_no_task() -> None:
    async def scene() -> set[asyncio.Task[None]]:
        before = asyncio.all_tasks()
        call = RayCall(None, None)
        answers = call.answers(Talker(call, endless=True))
        assert await anext(answers) == RawMessage(MESSAGE)
        # Until the conversation waits for room.
        await asyncio.sleep(0.05)
        await answers.aclose()
        await asyncio.sleep(0.05)
        return asyncio.all_tasks() - before

    assert asyncio.run(asyncio.wait_for(scene(), 10)) == set()


def test_what_was_said_last_is_read_before_the_end() -> None:
    async def scene() -> list[RawMessage]:
        call = RayCall(None, None)
        return [raw async for raw in call.answers(Talker(call, endless=False))]

    assert asyncio.run(asyncio.wait_for(scene(), 10)) == [MESSAGE]
