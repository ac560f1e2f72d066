"""Run all backends on a bundle's golden input and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neucodex_lava.bundle import Bundle
from neucodex_lava.edge.netx.layout import why_not_stock
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.progress import Progress, silent
from neucodex_lava.verify.compare import changed_integers, compare
from neucodex_lava.verify.report import BackendCheck, VerifyReport, run_name
from neucodex_lava.verify.running import Watched, load_run, run_backend, watch
from neucodex_lava.verify.states import Watch, add_states

if TYPE_CHECKING:
    from neucodex_lava.models.split import SplitModel

BACKENDS = ("slayer", "plain", "twin", "fused", "reference", "netx")
"""``plain``: plain loops from the run's checkpoint, in SLAYER's place for neurons that it lacks."""
RUN_WITNESS = "the executor on the training run's network"


def verify(
    bundle: Bundle,
    *,
    run: Path | None = None,
    backends: tuple[str, ...] | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Compare every backend with the bundle's golden record.

    Args:
        bundle: base or split; a split bundle needs no base.
        run: folder of the training run, whose checkpoint SLAYER is run from.
        backends: which of `BACKENDS` to run; by default all that can.
        progress: called as backends finish.

    Raises:
        ConfigError: an unknown backend, one that cannot run on this bundle, or another bundle's run.
        SimulationError, FormatError: from Lava, or a damaged run.
    """
    unknown = [b for b in backends or () if b not in BACKENDS]
    if unknown:
        raise ConfigError(f"unknown backend '{unknown[0]}'", f"choose from {', '.join(BACKENDS)}")
    golden, net = bundle.golden, bundle.net
    skipped: dict[str, str] = {}
    soft = any(not node.neuron.is_stock for node in net.nodes)
    lacking = "SLAYER has no neuron that keeps what exceeds its threshold: see the backend plain"
    witness, other = ("plain", "slayer") if soft else ("slayer", "plain")
    skipped[other] = lacking if soft else "SLAYER has all neurons of this bundle"
    if run is None:
        skipped[witness] = "needs the training run: pass --run FOLDER"
    reason = why_not_stock(net)
    if reason:
        skipped["netx"] = f"lava-dl's own reader refuses this edge.net: {reason}"
    for backend in backends or ():
        if backend in skipped:
            raise ConfigError(f"backend {backend} cannot run: {skipped[backend]}")
    backends = backends or tuple(b for b in BACKENDS if b not in skipped)
    if not soft:
        del skipped["plain"]
    model, trained = load_run(run, bundle) if run is not None else (None, None)
    jobs = [(backend, schedule) for backend in backends for schedule in _schedules(backend)]
    checks: list[BackendCheck] = []
    for i, (backend, schedule) in enumerate(jobs):
        seen = run_backend(backend, schedule, bundle, model)
        checks.append(compare(backend, schedule, golden, seen))
        progress("verify", i + 1, len(jobs))
    checks = _with_states(checks, bundle, model, trained)
    firsts = [c.first_difference for c in checks if c.first_difference is not None]
    changed, first_change = changed_integers(bundle)
    if first_change is not None:
        firsts.append(first_change)
    return VerifyReport(
        target=str(bundle.path),
        backends=list(dict.fromkeys(c.backend for c in checks)),
        samples=golden.inputs.shape[0],
        timesteps=golden.inputs.shape[-1],
        layers=len(net.nodes),
        spike_differences=sum(c.spike_differences for c in checks),
        counter_differences=sum(c.counter_differences for c in checks),
        first_difference=firsts[0] if firsts else None,
        potential_differences=sum(c.potential_differences for c in checks),
        changed_nodes=changed,
        checks=checks,
        skipped=skipped,
    )


def _schedules(backend: str) -> tuple[str | None, ...]:
    return {
        "fused": ("gated", "pipelined"),
        "reference": ("pipelined",),
        "netx": ("pipelined",),
    }.get(backend, (None,))


def _with_states(
    checks: list[BackendCheck],
    bundle: Bundle,
    model: SplitModel | None,
    trained: IntegerNet | None,
) -> list[BackendCheck]:
    """The checks, those that differ with the states of their first differing neurons."""

    def watcher(backend: str, schedule: str | None, net: IntegerNet) -> Watch:
        def show(sample: int, node: str) -> Watched | None:
            inputs = bundle.golden.inputs[: sample + 1]
            return watch(backend, schedule, net, inputs, node, model)

        return show

    agreeing = [
        c for c in checks if c.first_difference is None and c.backend not in ("slayer", "plain")
    ]
    # The executor is the fastest, and shows all nodes.
    agreeing.sort(key=lambda c: c.backend != "twin")
    witnesses = {
        run_name(c.backend, c.schedule): watcher(c.backend, c.schedule, bundle.net)
        for c in agreeing
    }
    if trained is not None and "twin" not in witnesses:
        witnesses = {RUN_WITNESS: watcher("twin", None, trained), **witnesses}
    return [
        add_states(c, bundle.golden, watcher(c.backend, c.schedule, bundle.net), witnesses)
        if c.first_difference
        else c
        for c in checks
    ]
