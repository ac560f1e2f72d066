"""The next batches are made by a thread of their own while a step runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 3
"""Batches that may lie ready."""


def prefetched(items: Iterator[T], ahead: int = AHEAD) -> Generator[T, None, None]:
    """The same items in the same order, up to `ahead` of them made in advance by one thread.

    What fails in the thread is raised here. Close the generator to end the thread early.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as maker:
        waiting = deque(maker.submit(next, items, None) for _ in range(ahead))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(maker.submit(next, items, None))
                yield item
        finally:
            maker.shutdown(wait=True, cancel_futures=True)
