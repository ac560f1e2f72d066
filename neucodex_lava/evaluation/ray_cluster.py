"""A Ray cluster as a place where the executor runs. Needs the extra ``ray``, here and on the nodes.

Ray moves Python objects by pickle between processes that trust each other: a cluster is for one's own
machines, and no port of it belongs on an open network.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from neucodex_lava.cloud.twin import TwinResult
from neucodex_lava.errors import ConfigError, MissingDependencyError, NeucodexError, SimulationError
from neucodex_lava.evaluation.twin_job import Samples, TwinJob, pieces_of, run_piece

CONNECTS_WITHIN_S: Final = 5.0
JOINS_WITHIN_S: Final = 60.0
_TARGET: Final = re.compile(r"(?:ray://)?(?P<host>[^/\s:]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})")
_JOIN: Final = (
    "import sys, ray\n"
    "ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')\n"
    "ray.shutdown()\n"
)


class RayCluster:
    """Runs pieces on a cluster's nodes, one a CPU; a context manager, joined with the first run.

    Args:
        address: HOST:PORT from one of its nodes, ray://HOST:PORT from anywhere, or ``auto``.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: on entering: the address does not answer, or not as a cluster of this Ray.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._ray: Any = None

    def __enter__(self) -> RayCluster:
        # Ray would send statistics of its use over the network.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if importlib.util.find_spec("ray") is None:
            raise MissingDependencyError(
                "--ray needs Ray, which is not installed", "pip install 'neucodex-lava[ray]'"
            )
        _check_port(self._address)
        _check_join(self._address)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()

    def run(self, job: TwinJob, inputs: Samples) -> Iterator[TwinResult]:
        """Run samples on the nodes; see `twin_job.Run`.

        Raises:
            SimulationError: the cluster was lost, or a node has not got this package.
            NeucodexError: what running a piece raised.
        """
        ray = self._joined()
        workers = int(ray.cluster_resources().get("CPU", 1))
        run, shared = ray.remote(run_piece), ray.put(job)
        waiting = [run.remote(shared, piece) for piece in pieces_of(inputs, workers)]
        try:
            yield from map(ray.get, waiting)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, NeucodexError):
                raise error.cause from None
            reason = f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
            raise SimulationError(
                f"a piece of the run failed on the Ray cluster at {self._address}: {reason}",
                "install the same neucodex-lava[cloud,ray] on every node",
            ) from error
        except ray.exceptions.RayError as error:
            raise SimulationError(
                f"the Ray cluster at {self._address} was lost: {str(error).splitlines()[0]}",
                "run it again, or without --ray",
            ) from error
        finally:
            for ref in waiting:
                ray.cancel(ref, force=False)

    def _joined(self) -> Any:
        """Ray, joined now: Lava must have forked before, threads do not survive that."""
        if self._ray is None:
            ray: Any = importlib.import_module("ray")
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
            except Exception as error:
                raise _no_cluster(self._address, str(error)) from error
            self._ray = ray
        return self._ray


def _check_port(address: str) -> None:
    if address == "auto":
        return
    match = _TARGET.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 0xFFFF:
        raise ConfigError(
            f"--ray {ascii(address)[:80]} is no address of a Ray cluster",
            "write HOST:PORT, ray://HOST:PORT, or auto",
        )
    try:
        host = match["host"].strip("[]")
        socket.create_connection((host, int(match["port"])), CONNECTS_WITHIN_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _check_join(address: str) -> None:
    """Join the cluster from a process of its own: Ray waits long, and ends the process that waits."""
    try:
        joined = subprocess.run(
            [sys.executable, "-c", _JOIN, address],
            capture_output=True,
            text=True,
            timeout=JOINS_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise _no_cluster(address, f"no answer within {JOINS_WITHIN_S:.0f} s") from None
    if joined.returncode:
        lines = [line for line in joined.stderr.splitlines() if line.strip()]
        raise _no_cluster(address, lines[-1] if lines else f"status {joined.returncode}")


def _no_cluster(address: str, reason: str) -> ConfigError:
    reason = " ".join(reason.split())[:200]
    return ConfigError(
        f"no Ray cluster answers at {address}: {reason}",
        "start one (ray start --head), give its address, or leave out --ray",
    )
