"""A Lava runtime that never hangs and never leaks.

Stock Lava waits for ever when one of its processes raises or dies, and when Ctrl-C reaches its
children; a parent that is killed leaves them and their shared memory behind. Here, children ignore
Ctrl-C and die with the thread that created them (``prctl(PR_SET_PDEATHSIG)``), every wait has a
timeout between looks at the children, and the end is always the same: kill, reap, release.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lava.magma.compiler.compiler_graphs import find_processes
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.process import AbstractProcess, LogConfig, ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.mgmt_token_enums import MGMT_RESPONSE, enum_equal
from lava.magma.runtime.runtime import Runtime

from neucodex_lava.edge.runtime.children import children_tied, interrupt_deferred
from neucodex_lava.errors import NeucodexError, SimulationError

POLL_S = 0.05
"""How often the children are looked at while waiting for data."""
START_TIMEOUT_S = 60.0
HELPER_TIMEOUT_S = 20.0
"""For the process that hands out shared memory; it answers in milliseconds."""
JOIN_TIMEOUT_S = 1.0

_open: weakref.WeakSet[SupervisedRun] = weakref.WeakSet()


class _Runtime(Runtime):
    """Lava's runtime, but waiting for its actors' builders ends when one of them dies."""

    interrupted: list[int]

    def __del__(self) -> None:
        """Nothing: the supervisor closes, a collected object must not wait for anything."""

    def initialize(self, node_cfg_idx: int = 0) -> None:
        del node_cfg_idx
        self._build_watchdog_manager()
        try:
            self._build_helped_infrastructure()
        except EOFError:
            # Seen once in thousands of starts: the process forked for it span and never answered.
            self._build_helped_infrastructure()
        self._build_channels()
        self._build_sync_channels()
        self._build_processes()
        self._build_runtime_services()
        self._start_ports()
        deadline = time.monotonic() + START_TIMEOUT_S
        for actor, channel in zip(self.actors, self.exception_q):
            self._await_built(actor, channel, deadline)
        del self.exception_q
        # Everyone has inherited the shared memory by now; without names it cannot outlive us. Its
        # manager has nothing more to do.
        infrastructure: Any = self._messaging_infrastructure
        infrastructure.smm._manager.shutdown()
        self._is_initialized = True

    def _build_helped_infrastructure(self) -> None:
        """Lava's message infrastructure, whose helping process is killed if it does not come up."""
        before = set(multiprocessing.active_children())

        def give_up() -> None:
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
                child.join(JOIN_TIMEOUT_S)

        timer = threading.Timer(HELPER_TIMEOUT_S, give_up)
        timer.daemon = True
        timer.start()
        try:
            self._build_message_infrastructure()
        finally:
            timer.cancel()
            timer.join()

    @property
    def actors(self) -> list[Any]:
        infrastructure: Any = self._messaging_infrastructure
        return [] if infrastructure is None else infrastructure.actors

    def _await_built(self, actor: Any, channel: Any, deadline: float) -> None:
        while not self.interrupted:
            try:
                error = channel.get(timeout=POLL_S)
            except queue.Empty:
                if actor.is_alive() and time.monotonic() < deadline:
                    continue
                state = f"exit code {actor.exitcode}" if not actor.is_alive() else "no answer"
                raise SimulationError(f"a Lava process did not start: {state}") from None
            if error is not None:
                raise _as_error("a process", error)
            return
        raise KeyboardInterrupt


def _as_error(name: str, error: BaseException) -> NeucodexError:
    if isinstance(error, NeucodexError):
        return error
    text = " ".join(str(error).split())
    return SimulationError(f"Lava process '{name}' failed: {type(error).__name__}: {text}")


class SupervisedRun:
    """A Lava network running under supervision, as a context manager.

    The thread that creates it must live as long as the run: the children die with it.

    Args:
        process: any process of the network.
        models: process models for our own processes; stock ones are chosen by the tag
            ``fixed_pt``.

    Raises:
        SimulationError: the network could not be compiled or started.
    """

    def __init__(
        self,
        process: AbstractProcess,
        models: Mapping[Any, type[Any]] | None = None,
    ) -> None:
        self._closed = False
        self._runtime: _Runtime | None = None
        self._pid = os.getpid()
        self._wake = threading.Event()
        self._external: list[Any] = []
        self._names: list[str] = []
        # Containers too, which the executable no longer knows.
        self._processes = {id(p) for p in find_processes(process)}
        before = {id(p) for p in ProcessServer().processes}
        compiler_log = logging.getLogger("lava.magma.compiler.compiler")
        handlers = list(compiler_log.handlers)
        try:
            # Compiling takes seconds and starts nothing yet: Ctrl-C ends it at once.
            config = Loihi2SimCfg(
                select_tag="fixed_pt", exception_proc_model_map=dict(models or {})
            )
            executable = process.compile(config)
            with interrupt_deferred() as pending:
                self._runtime = _Runtime(executable, ActorType.MultiProcessing)
                self._runtime.interrupted = pending
                executable.assign_runtime_to_all_processes(self._runtime)
                self._names = [p.name for p in executable.proc_builders]
                _open.add(self)
                with children_tied():
                    self._runtime.initialize()
        except BaseException as error:
            self.close()
            if isinstance(error, (NeucodexError, KeyboardInterrupt)):
                raise
            text = " ".join(str(error).split())
            raise SimulationError(f"Lava could not start the network: {text}") from error
        finally:
            self._processes |= {id(p) for p in ProcessServer().processes} - before
            # Lava adds a handler with every compilation; messages would be printed many times.
            compiler_log.handlers[:] = handlers
            _drop_handlers()

    def __enter__(self) -> SupervisedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        """Closes what was forgotten; it kills and reaps, and never waits for an answer."""
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the running Lava processes, runtime services last."""
        return [] if self._runtime is None else [a.pid for a in self._runtime.actors]

    def start(self, steps: int) -> None:
        """Let the network run so many Lava steps, without waiting."""
        assert self._runtime is not None
        self._runtime.start(RunSteps(num_steps=steps, blocking=False))

    def external(self, port: Any) -> Any:
        """The CSP port behind a process port flagged as an external pipe; `await_ready` takes it."""
        found = getattr(port, "external_pipe_csp_send_port", None)
        found = found or port.external_pipe_csp_recv_port
        found.observer = self._wake.set
        self._external.append(found)
        return found

    def await_ready(self, port: Any, on_wait: Callable[[], None] | None = None) -> None:
        """Wait until a port can send or receive at once.

        Args:
            port: a CSP port whose observer is this run's.
            on_wait: called about every 50 ms.

        Raises:
            SimulationError: a Lava process failed or died.
        """
        while not port.probe():
            self._wake.clear()
            if port.probe():
                return
            if not self._wake.wait(POLL_S):
                self.check()
                if on_wait is not None:
                    on_wait()

    def finish(self, on_wait: Callable[[], None] | None = None) -> None:
        """Wait until the steps that were started are done.

        Args:
            on_wait: called about every 50 ms.

        Raises:
            SimulationError: a Lava process failed or died.
        """
        assert self._runtime is not None
        for port in self._runtime.service_to_runtime:
            port.observer = self._wake.set
            self.await_ready(port, on_wait)
            port.observer = None
            if not enum_equal(port.recv(), MGMT_RESPONSE.DONE):
                self._await_failure()
        self._runtime._is_running = False  # pyright: ignore[reportPrivateUsage]

    def check(self) -> None:
        """Raise if a Lava process failed or died.

        Raises:
            NeucodexError: the one that a process model raised.
            SimulationError: anything else.
        """
        dead = self._look()
        if dead is None:
            return
        if dead[1] == 0:
            # Lava's services end in order on an error, before the failing process has said which.
            self._await_failure()
        name, code = dead
        by = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        raise SimulationError(f"Lava process '{name}' {by}")

    def _await_failure(self) -> None:
        deadline = time.monotonic() + JOIN_TIMEOUT_S
        while time.monotonic() < deadline:
            dead = self._look()
            if dead is not None and dead[1] != 0:
                self.check()
            time.sleep(0.01)
        raise SimulationError("a Lava process reported an error without saying which")

    def _look(self) -> tuple[str, int] | None:
        """Raise an actor's failure; else the name and exit code of a dead one, not 0 if any is."""
        assert self._runtime is not None
        dead: list[tuple[str, int]] = []
        for i, actor in enumerate(self._runtime.actors):
            name = self._names[i] if i < len(self._names) else "runtime service"
            failure = actor.exception
            if failure:
                raise _as_error(name, failure[0])
            if not actor.is_alive():
                dead.append((name, int(actor.exitcode)))
        return next((d for d in dead if d[1] != 0), dead[0] if dead else None)

    def close(self) -> None:
        """Kill and reap all processes, release shared memory. Closing twice does no harm."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        with interrupt_deferred():
            if self._runtime is not None:
                self._release(self._runtime)
            self._runtime = None
            _forget(self._processes)

    def _release(self, runtime: _Runtime) -> None:
        runtime._is_started = runtime._is_running = False  # pyright: ignore[reportPrivateUsage]
        actors = runtime.actors
        for actor in actors:
            with contextlib.suppress(ValueError, AttributeError):
                actor.kill()
        for actor in actors:
            with contextlib.suppress(ValueError, AssertionError):
                actor.join()
        for port in self._external:
            port.observer = None
            port.join()
        runtime.join()
        for port in (*runtime.runtime_to_service, *runtime.service_to_runtime):
            port.join()
        infrastructure: Any = runtime._messaging_infrastructure  # pyright: ignore[reportPrivateUsage]
        if infrastructure is not None and infrastructure.smm is not None:
            _release_memory(infrastructure.smm)


def _forget(processes: set[int]) -> None:
    """Take processes, by id, out of Lava's registers, which would hold all that were ever made."""
    server, variables = ProcessServer(), VarServer()
    server.processes[:] = [p for p in server.processes if id(p) not in processes]
    variables.vars[:] = [v for v in variables.vars if id(v.process) not in processes]


def _drop_handlers() -> None:
    """Take Lava's handlers off the root logger: one for every process, so all say everything again."""
    root, form = logging.getLogger(), LogConfig().format
    root.handlers[:] = [h for h in root.handlers if getattr(h.formatter, "_fmt", "") != form]


def _release_memory(memory: Any) -> None:
    handles = list(memory._shared_memory_handles)
    # A manager that never started has no `shutdown`.
    with contextlib.suppress(OSError, EOFError, AssertionError, AttributeError):
        memory.shutdown()
    for handle in handles:
        # Only there when the start failed half-way, and its manager, too.
        if Path("/dev/shm", handle.name).exists():
            with contextlib.suppress(OSError):
                handle.unlink()


@atexit.register
def _close_all() -> None:
    """Runs before multiprocessing's own exit handler, which would wait for live children."""
    for run in list(_open):
        run.close()
