"""Several samples in flight: a session each, all over one connection to a server."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from host_bridge.client.channels import Channels
from host_bridge.client.client import EdgeClient
from host_bridge.security import ClientSecurity
from neucodex_lava.errors import ConfigError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class EdgePool:
    """Runs samples through `size` sessions at once; results come in the order of the samples::

        def run(client, codes):
            client.start_sample()
            sums = [client.step(code).sums for code in codes]
            client.end_sample()
            return sums

        with EdgePool(8, lambda channels: EdgeClient(..., channels=channels)) as pool:
            for sums in pool.map(run, samples):
                ...

    A session runs one sample at a time, so each sample gets what it would get alone. A session that is
    over takes no more samples while there is another.

    Args:
        size: sessions.
        make: makes a client over the shared connection.
        security: of that connection.

    Raises:
        ConfigError: a size below 1, or as `EdgeClient`.
    """

    def __init__(
        self,
        size: int,
        make: Callable[[Channels], EdgeClient],
        security: ClientSecurity | None = None,
    ) -> None:
        if size < 1:
            raise ConfigError(f"{size} samples in flight, expected 1 or more")
        self._channels = Channels(security)
        self.clients = [make(self._channels) for _ in range(size)]
        self._free: queue.SimpleQueue[EdgeClient] = queue.SimpleQueue()
        for client in self.clients:
            self._free.put(client)
        self._lock, self._in_use = threading.Lock(), size

    def __enter__(self) -> EdgePool:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, *, required: bool = True) -> None:
        """Open all sessions; as `EdgeClient.open`."""
        try:
            for client in self.clients:
                client.open(required=required)
        except BaseException:
            self.close()
            raise

    def map(
        self, run: Callable[[EdgeClient, _Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Call `run(client, item)` for each item, as many at once as there are sessions.

        Returns:
            The results, in the order of the items.

        Raises:
            Whatever `run` raises, at the place of its item; what has not begun then is not run.
        """

        def one(item: _Item) -> _Result:
            client = self._free.get()
            try:
                return run(client, item)
            finally:
                self._put_back(client)

        with ThreadPoolExecutor(len(self.clients), "neucodex-sample") as workers:
            pending = [workers.submit(one, item) for item in items]
            try:
                for future in pending:
                    yield future.result()
            finally:
                for future in pending:
                    future.cancel()

    def _put_back(self, client: EdgeClient) -> None:
        with self._lock:
            if client.over and self._in_use > 1:
                self._in_use -= 1
                return
        self._free.put(client)

    def close(self) -> None:
        """End all sessions and the connection; may be called again."""
        for client in self.clients:
            client.close()
        self._channels.close()
