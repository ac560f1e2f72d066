"""Spike-for-spike, count-for-count agreement of all backends with a bundle's golden record.

The golden record was written by the trained, quantised SplitModel in SLAYER. Here the torch
executor, Lava `fused` (gated and pipelined), Lava `reference` (stock processes, pipelined), SLAYER
itself where the run's checkpoint is at hand, and lava-dl's own NetX where the edge part is a chain,
run the same input, and every spike, running sum and count is compared with ``==``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.bundle import Bundle, Golden, digest_potentials
from neucodex_lava.edge.netx.layout import why_not_stock
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT
from neucodex_lava.progress import Progress, silent

BACKENDS = ("slayer", "twin", "fused", "reference", "netx")
Spikes = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Difference:
    """Where a backend first leaves the golden record, earliest in sample, timestep and node.

    Attributes:
        backend, schedule: who differs.
        layer: name of the node.
        sample: from 0.
        timestep: from 1.
        neuron: (c, y, x), None when only a count differs.
        quantity: ``spike``, ``running sum``, or the name of a count.
        found, expected: the values there.
    """

    backend: str
    schedule: str | None
    layer: str
    sample: int
    timestep: int
    neuron: tuple[int, ...] | None
    quantity: str
    found: int
    expected: int

    def __str__(self) -> str:
        at = f" neuron {self.neuron}" if self.neuron is not None else ""
        run = f"{self.backend} ({self.schedule})" if self.schedule else self.backend
        return (
            f"{run}: node '{self.layer}'{at}, sample {self.sample}, timestep {self.timestep}:"
            f" {self.quantity} is {self.found}, expected {self.expected}"
        )


@dataclass(frozen=True)
class BackendCheck:
    """One backend's comparison: how much was compared and how much differs."""

    backend: str
    schedule: str | None
    layers: int
    spikes_compared: int
    counts_compared: int
    spike_differences: int
    counter_differences: int
    potential_differences: int
    first_difference: Difference | None


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        target: the bundle's folder.
        backends: names of the backends run.
        samples, timesteps, layers: size of the golden record.
        spike_differences, counter_differences: over all backends; 0 means exact.
        first_difference: of the first backend that differs, else of the first changed node.
        potential_differences: timesteps at which some potential of a node differs.
        changed_nodes: nodes whose integers are not those of the model that wrote the golden record,
            and the readout if its gain is not.
        checks: per backend and schedule.
        skipped: backends not run, and why.
        yardstick: what the backends were compared with.
    """

    target: str
    backends: list[str]
    samples: int
    timesteps: int
    layers: int
    spike_differences: int
    counter_differences: int
    first_difference: Difference | None
    potential_differences: int
    changed_nodes: list[str]
    checks: list[BackendCheck]
    skipped: dict[str, str]
    yardstick: str = "golden record"

    @property
    def exact(self) -> bool:
        """Whether something was compared and nothing differs."""
        return bool(self.checks) and self.first_difference is None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def table(self) -> Any:
        """A rich table, one row per backend and schedule, and the verdict."""
        from rich.console import Group
        from rich.table import Table

        size = f"{self.samples} samples, {self.timesteps} timesteps, {self.layers} nodes"
        table = Table(title=f"{self.target}: {size}, compared with the {self.yardstick}")
        columns = (
            "backend",
            "schedule",
            "nodes",
            "spikes",
            "differ",
            "potentials differ",
            "counts",
        )
        for name in (*columns, "differ"):
            table.add_column(name, justify="left" if name in ("backend", "schedule") else "right")
        for c in self.checks:
            spikes, counts = f"{c.spikes_compared:,}", f"{c.counts_compared:,}"
            table.add_row(
                c.backend,
                c.schedule or "",
                str(c.layers),
                spikes,
                str(c.spike_differences),
                str(c.potential_differences) if c.backend in ("slayer", "twin") else "not shown",
                counts if c.counts_compared else "not counted",
                str(c.counter_differences) if c.counts_compared else "",
            )
        lines = [f"{name}: not run, {why}" for name, why in self.skipped.items()]
        if self.exact:
            lines.append(
                "[green]exact[/]: every spike, potential, running sum and count is the same"
            )
        else:
            lines.append(f"[red]differs[/]: first at {self.first_difference}")
        return Group(table, *lines)


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
        ConfigError: an unknown backend, or one that cannot run on this bundle.
        SimulationError, FormatError: from Lava, or a damaged run.
    """
    unknown = [b for b in backends or () if b not in BACKENDS]
    if unknown:
        raise ConfigError(f"unknown backend '{unknown[0]}'", f"choose from {', '.join(BACKENDS)}")
    golden, net = bundle.golden, bundle.net
    checks: list[BackendCheck] = []
    skipped: dict[str, str] = {}
    if run is None:
        skipped["slayer"] = "needs the training run: pass --run FOLDER"
    reason = why_not_stock(net)
    if reason:
        skipped["netx"] = f"lava-dl's own reader refuses this edge.net: {reason}"
    for backend in backends or ():
        if backend in skipped:
            raise ConfigError(f"backend {backend} cannot run: {skipped[backend]}")
    backends = backends or tuple(b for b in BACKENDS if b not in skipped)
    jobs = [(backend, schedule) for backend in backends for schedule in _schedules(backend)]
    for i, (backend, schedule) in enumerate(jobs):
        seen = _run(backend, schedule, bundle, run)
        checks.append(compare(backend, schedule, golden, seen))
        progress("verify", i + 1, len(jobs))
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


def changed_integers(bundle: Bundle) -> tuple[list[str], Difference | None]:
    """Nodes whose integers differ from those the golden record was written with, and the first.

    Such a node may still give the same spikes and potentials, where its changed weights never met a
    spike. The timestep is the first at which it receives any.
    """
    golden, net = bundle.golden, bundle.net
    values = {INPUT: golden.inputs, **golden.spikes}
    changed: list[str] = []
    first: Difference | None = None
    for node in net.nodes:
        last = node is net.nodes[-1]
        gain_fits = not last or bundle.readout_gain == golden.readout_gain
        if golden.integers[node.name] == node.fingerprint() and gain_fits:
            continue
        changed.append(node.name)
        active = [values[c.source].any(axis=(0, 1, 2, 3)) for c in node.connections]
        timestep = int(np.argmax(np.any(active, axis=0))) + 1
        quantity = "number of weights, biases or thresholds" if gain_fits else "gain"
        if first is None:
            first = Difference("file", None, node.name, 0, timestep, None, quantity, 1, 0)
    return changed, first


@dataclass(frozen=True, eq=False)
class Seen:
    """What a backend gave for the golden input.

    Attributes:
        names: nodes it covers.
        spikes: of each of them, uint8 (N, C, H, W, T).
        sums: the readout's running sums, int64 (N, K, T), if it covers them.
        ledger: counts, if it counts.
        potentials: of each node, int32 (N, C, H, W, T), if it shows them.
    """

    names: list[str]
    spikes: Spikes
    sums: NDArray[np.int64] | None = None
    ledger: Ledger | None = None
    potentials: Mapping[str, NDArray[np.int32]] | None = None


def _run(backend: str, schedule: str | None, bundle: Bundle, run: Path | None) -> Seen:
    """Run one backend on the golden input."""
    net, golden = bundle.net, bundle.golden
    if backend == "slayer":
        from neucodex_lava.training.runs import load_model  # SLAYER is slow to import

        assert run is not None
        slayer = load_model(run)[1].run_slayer(golden.inputs)
        names = list(slayer.spikes)
        return Seen(names, slayer.spikes, slayer.sums, potentials=slayer.potentials)
    if backend == "twin":
        from neucodex_lava.cloud.executor import Executor, run_twin

        twin = run_twin(Executor(net), golden.inputs, record=True)
        assert twin.spikes is not None
        names = [n.name for n in net.nodes]
        return Seen(names, twin.spikes, twin.sums, twin.ledger, twin.potentials)
    if backend == "netx":
        from neucodex_lava.stock_netx import run_stock_netx

        last = net.edge_nodes[-1].name
        out, _ = run_stock_netx(bundle.path / "edge.net", net, golden.inputs)
        return Seen([last], {last: out})
    from neucodex_lava.edge.simulation import simulate

    lava = simulate(
        net,
        golden.inputs,
        backend=backend,  # type: ignore[arg-type]
        schedule=schedule,  # type: ignore[arg-type]
        record=True,
    )
    assert lava.spikes is not None
    return Seen([n.name for n in net.edge_nodes], lava.spikes, lava.sums, lava.ledger)


def compare(backend: str, schedule: str | None, golden: Golden, seen: Seen) -> BackendCheck:
    """One backend's spikes, sums, potentials and counts against the golden record's."""
    names, spikes, sums, ledger = seen.names, seen.spikes, seen.sums, seen.ledger
    potential_differences = 0
    found: list[tuple[tuple[int, int, int], Difference]] = []
    spike_differences = counter_differences = compared = counted = 0
    for place, name in enumerate(names):
        pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
            ("spike", spikes[name], golden.spikes[name])
        ]
        if sums is not None and name == names[-1]:
            shape = golden.spikes[name].shape
            pairs.append(("running sum", sums.reshape(shape), golden.sums.reshape(shape)))
        for quantity, mine, expected in pairs:
            compared += expected.size
            wrong = mine != expected
            spike_differences += int(wrong.sum())
            for n, *neuron, t in _earliest(wrong):
                at = (n, *neuron, t)
                found.append(
                    (
                        (n, t, place),
                        Difference(
                            backend,
                            schedule,
                            name,
                            n,
                            t + 1,
                            tuple(neuron),
                            quantity,
                            int(mine[at]),
                            int(expected[at]),
                        ),
                    )
                )
        if seen.potentials is not None:
            mine = digest_potentials(seen.potentials[name])
            wrong = mine != golden.potentials[name]
            potential_differences += int(wrong.sum())
            for n, t in np.argwhere(wrong)[:1].tolist():
                values = int(mine[n, t]), int(golden.potentials[name][n, t])
                what = "digest of potentials"
                difference = Difference(backend, schedule, name, n, t + 1, None, what, *values)
                found.append(((n, t, place), difference))
    if ledger is not None:
        expected_ledger = golden.ledger.select(names)
        counter_differences = ledger.differences(expected_ledger)
        counted = sum(getattr(expected_ledger, count).size for count in ALL_COUNTS)
        found += _count_difference(backend, schedule, ledger, expected_ledger)
    first = min(found, key=lambda item: item[0])[1] if found else None
    return BackendCheck(
        backend,
        schedule,
        len(names),
        compared,
        counted,
        spike_differences,
        counter_differences,
        potential_differences,
        first,
    )


def _earliest(wrong: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Index (n, c, y, x, t) of the difference that is earliest in sample and timestep, if any."""
    samples = np.flatnonzero(wrong.any(axis=(1, 2, 3, 4)))
    if samples.size:
        n = int(samples[0])
        t = int(np.flatnonzero(wrong[n].any(axis=(0, 1, 2)))[0])
        c, y, x = (int(i) for i in np.argwhere(wrong[n, ..., t])[0])
        yield n, c, y, x, t


def _count_difference(
    backend: str, schedule: str | None, mine: Ledger, expected: Ledger
) -> Iterator[tuple[tuple[int, int, int], Difference]]:
    first = mine.first_difference(expected)
    if first is None:
        return
    count, node, n, t = first
    place = expected.nodes.index(node) if node in expected.nodes else 0
    if t == 0:
        found_value = expected_value = 0
    else:
        found_value = int(mine.per_node(count)[n, place, t - 1])
        expected_value = int(expected.per_node(count)[n, place, t - 1])
    yield (
        (n, t - 1, place),
        Difference(backend, schedule, node, n, t, None, count, found_value, expected_value),
    )
