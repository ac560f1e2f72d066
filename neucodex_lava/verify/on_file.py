"""All backends on a lone NetX file, ours or lava-dl's: the same spikes and counts from random input.

A bundle has a golden record; a file has none, so the torch executor is the yardstick for Lava `fused`
(gated and pipelined) and `reference`, and lava-dl's own reader in stock Lava is the outside witness
where it reads the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.bundle import Golden, digest_potentials
from neucodex_lava.edge.netx.layout import why_not_stock
from neucodex_lava.edge.netx.reader import is_own
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.evaluation.net_file import check_run, load_net_target, random_inputs
from neucodex_lava.integer_net import IntegerNet, Shape
from neucodex_lava.progress import Progress, silent
from neucodex_lava.verify.compare import Seen, compare
from neucodex_lava.verify.report import BackendCheck, VerifyReport
from neucodex_lava.verify.running import Watched, watch
from neucodex_lava.verify.states import Watch, add_states

RUNS = (
    ("fused", "gated"),
    ("fused", "pipelined"),
    ("reference", "pipelined"),
    ("netx", "pipelined"),
)
YARDSTICK = "twin"


def verify_net(
    path: Path,
    *,
    timesteps: int | None = None,
    input_shape: Shape | None = None,
    input_bits: int | None = None,
    skip_layers: int = 0,
    num_layers: int | None = None,
    samples: int = 10,
    rate: float = 0.2,
    seed: int = 0,
    backends: tuple[str, ...] | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Compare all backends on a lone NetX file with the executor, on seeded random input.

    Args:
        path: the file.
        timesteps, input_shape, input_bits, skip_layers, num_layers: as `load_net_target`.
        samples, rate, seed: as `random_inputs`.
        backends: which of fused, reference and netx to run; by default all that can.
        progress: called as backends finish.

    Raises:
        FormatError, NetError: the file is damaged, or holds what cannot be expressed.
        ConfigError: an argument outside what is possible, or a backend that cannot run the net.
        OverflowInRunError: a synaptic sum left the 24-bit range.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    known = tuple(dict.fromkeys(name for name, _ in RUNS))
    for backend in backends or ():
        if backend not in (*known, YARDSTICK):
            choices = ", ".join(known)
            raise ConfigError(
                f"backend '{backend}' cannot verify a lone file", f"choose from {choices}"
            )
    net = load_net_target(
        path,
        timesteps=timesteps,
        input_shape=input_shape,
        input_bits=input_bits,
        skip_layers=skip_layers,
        num_layers=num_layers,
    )
    check_run(net, samples, recorded=True)
    inputs = random_inputs(net, samples, rate, seed)
    golden = _yardstick(net, inputs)
    skipped = _cannot_run(path, net)
    for backend in backends or ():
        if backend in skipped:
            raise ConfigError(f"backend {backend} cannot run: {skipped[backend]}")
    wanted = [r for r in RUNS if r[0] not in skipped and r[0] in (backends or known)]
    checks: list[BackendCheck] = []
    for i, (backend, schedule) in enumerate(wanted):
        try:
            if backend == "netx":
                seen = _run_stock(path, net, inputs, skip_layers, num_layers)
            else:
                seen = _run(backend, schedule, net, inputs)
        except (ConfigError, FormatError) as problem:
            if backends:
                raise
            skipped[backend] = problem.message
        else:
            check = compare(backend, schedule, golden, seen)
            checks.append(_with_states(check, golden, net, inputs))
        progress("verify", i + 1, len(wanted))
    firsts = [c.first_difference for c in checks if c.first_difference is not None]
    return VerifyReport(
        target=str(path),
        backends=[YARDSTICK, *dict.fromkeys(c.backend for c in checks)],
        samples=samples,
        timesteps=net.timesteps,
        layers=len(net.nodes),
        spike_differences=sum(c.spike_differences for c in checks),
        counter_differences=sum(c.counter_differences for c in checks),
        first_difference=firsts[0] if firsts else None,
        potential_differences=sum(c.potential_differences for c in checks),
        changed_nodes=[],
        checks=checks,
        skipped=skipped,
        yardstick="executor (twin) on random input",
    )


def _yardstick(net: IntegerNet, inputs: NDArray[np.uint8]) -> Golden:
    """What the executor gives, in the form of a bundle's record."""
    from neucodex_lava.cloud.executor import Executor
    from neucodex_lava.cloud.twin import run_twin

    twin = run_twin(Executor(net), inputs, record=True)
    assert twin.spikes is not None
    assert twin.potentials is not None
    sums = np.zeros((len(inputs), 0, 0), np.int64) if twin.sums is None else twin.sums
    digests = {name: digest_potentials(v) for name, v in twin.potentials.items()}
    gains = dict.fromkeys(twin.exit_sums, 1.0)
    return Golden(inputs, twin.spikes, sums, twin.ledger, digests, {}, 1.0, twin.exit_sums, gains)


def _with_states(
    check: BackendCheck, golden: Golden, net: IntegerNet, inputs: NDArray[np.uint8]
) -> BackendCheck:
    """A check that found a difference, with that neuron's states there and in the executor."""
    if check.first_difference is None:
        return check

    def watcher(backend: str, schedule: str | None) -> Watch:
        def show(sample: int, node: str) -> Watched | None:
            return watch(backend, schedule, net, inputs[: sample + 1], node)

        return show

    witness = {YARDSTICK: watcher(YARDSTICK, None)}
    return add_states(check, golden, watcher(check.backend, check.schedule), witness)


def _cannot_run(path: Path, net: IntegerNet) -> dict[str, str]:
    """Backends that cannot run this net, and why."""
    from neucodex_lava.stock_netx import why_not_run

    refused = why_not_stock(net) if is_own(path) else ""
    if refused:
        return {"netx": f"lava-dl's own reader refuses this file: {refused}"}
    different = why_not_run(net)
    return {"netx": f"stock Lava would run it otherwise: {different}"} if different else {}


def _run_stock(
    path: Path,
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    skip_layers: int,
    num_layers: int | None,
) -> Seen:
    from neucodex_lava.stock_netx import run_stock_netx

    out, sums = run_stock_netx(path, net, inputs, skip_layers, num_layers)
    last = net.last.name
    return Seen([last], {last: out}, sums)


def _run(backend: str, schedule: str, net: IntegerNet, inputs: NDArray[np.uint8]) -> Seen:
    from neucodex_lava.edge.simulation import simulate

    lava = simulate(net, inputs, backend=backend, schedule=schedule, record=True)  # type: ignore[arg-type]
    assert lava.spikes is not None
    names = [node.name for node in net.nodes]
    shown = lava.potentials if lava.potentials.keys() >= set(names) else None
    return Seen(names, lava.spikes, lava.sums, lava.ledger, shown, lava.exit_sums)
