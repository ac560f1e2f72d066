"""A real server of a real bundle that can be killed, drained and started again in a moment.

A parent process loads the bundle once and serves from a child it forks, so that a restart takes a
tenth of a second and not the time that torch takes to be imported. Run as a script it is that parent.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import host_bridge

ROOT = Path(host_bridge.__file__).parents[1]


class RestartingServer:
    """The parent process; a child of it serves.

    Attributes:
        address: host:port, the same after every restart.
        starts: how many children have listened so far.
    """

    def __init__(self, bundle: Path, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.starts = 0
        self._listening = threading.Condition()
        self._child = 0
        with log.open("w") as stderr:
            self._parent = subprocess.Popen(
                [sys.executable, __file__, str(bundle), str(port)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )
        threading.Thread(target=self._read, daemon=True).start()
        self.await_start(1)

    def await_start(self, number: int, timeout_s: float = 120) -> None:
        """Wait until so many children have listened."""
        with self._listening:
            assert self._listening.wait_for(lambda: self.starts >= number, timeout_s)

    def kill(self) -> None:
        """SIGKILL: the server is gone in the middle of whatever it does."""
        os.kill(self._child, signal.SIGKILL)

    def drain(self) -> None:
        """SIGTERM: the server tells its sessions, and goes when their samples have ended."""
        os.kill(self._child, signal.SIGTERM)

    def close(self) -> None:
        """End parent and child."""
        self._parent.terminate()
        self._parent.wait()

    def _read(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            with self._listening:
                self._child = int(line)
                self.starts += 1
                self._listening.notify_all()


@contextmanager
def restarting_server(bundle: Path, log: Path) -> Iterator[RestartingServer]:
    """A `RestartingServer`, ended with the block."""
    server = RestartingServer(bundle, log)
    try:
        yield server
    finally:
        server.close()


def main(bundle: str, port: str) -> None:
    """The parent: fork, serve, again."""
    import torch

    from host_bridge.server.logs import configure_logs
    from neucodex_lava.evaluation.serve import open_tail

    torch.set_num_threads(1)
    configure_logs("text")
    tail = open_tail(Path(bundle))
    state = {"child": 0}

    def end(*_: object) -> None:
        os.kill(state["child"], signal.SIGKILL)
        os._exit(0)

    while True:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        state["child"] = os.fork()
        if state["child"] == 0:
            # Imported here: gRPC's threads must not exist before a fork.
            from host_bridge import serve_forever

            def listening(*_: object) -> None:
                print(os.getpid(), flush=True)

            serve_forever(tail, port=int(port), on_listening=listening, grace_s=10)
            os._exit(0)
        signal.signal(signal.SIGTERM, end)
        os.waitpid(state["child"], 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
