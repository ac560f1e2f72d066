"""The executor's runs shared out: over processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

from neucodex_lava.cloud.twin import TwinResult
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.twin_job import (
    Run,
    Samples,
    TwinJob,
    pieces_of,
    run_here,
    run_piece,
)


@contextmanager
def fan_out(ray: str | None = None, processes: int = 0) -> Generator[Run, None, None]:
    """Who runs the executor while the block lasts.

    Args:
        ray: address of a Ray cluster: HOST:PORT from one of its nodes, ray://HOST:PORT from anywhere,
            or ``auto``, the one this machine is in. Tried now, joined with the first run.
        processes: else processes of this machine; 0 for this process's own threads.

    Raises:
        ConfigError: both, a number below 0, or a Ray address that does not answer.
        MissingDependencyError: Ray is not installed.
    """
    if ray is not None and processes:
        raise ConfigError("--ray and --processes exclude each other", "give one of them")
    if processes < 0:
        raise ConfigError(f"--processes {processes} is negative")
    if ray is not None:
        from neucodex_lava.evaluation.ray_cluster import RayCluster

        with RayCluster(ray) as cluster:
            yield cluster.run
    elif processes:
        # Forked children would have torch's threads in whatever state they are in.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context) as pool:

            def run(job: TwinJob, inputs: Samples) -> Iterator[TwinResult]:
                return pool.map(partial(run_piece, job), pieces_of(inputs, processes))

            yield run
    else:
        yield run_here
