"""What `verify` found: differences, checks per backend, and the table that people read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from neucodex_lava.integer_net import STATE_SHIFT


@dataclass(frozen=True)
class NeuronState:
    """A neuron's state after a timestep; what a backend does not show is None.

    Attributes:
        current: u, in state units (2**-6 of a weight's).
        potential: v after reset, 0 where the neuron spiked, in state units.
        current_in_weights, potential_in_weights: the same >> 6, towards zero.
    """

    current: int | None
    potential: int | None
    current_in_weights: int | None = field(init=False)
    potential_in_weights: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "current_in_weights", _in_weights(self.current))
        object.__setattr__(self, "potential_in_weights", _in_weights(self.potential))

    def __str__(self) -> str:
        current = _shown(self.current, self.current_in_weights)
        return f"current {current}, potential {_shown(self.potential, self.potential_in_weights)}"


def _in_weights(state: int | None) -> int | None:
    if state is None:
        return None
    return state >> STATE_SHIFT if state >= 0 else -(-state >> STATE_SHIFT)


def _shown(state: int | None, in_weights: int | None) -> str:
    return "not shown" if state is None else f"{state} ({in_weights} in weights)"


@dataclass(frozen=True)
class NeuronStates:
    """A differing neuron on both sides.

    Attributes:
        found: in the backend that differs.
        expected: in `expected_from`; None where nobody knows.
        expected_from: the backend that agrees with the golden record, the run's own network, or the
            golden record itself, which knows a potential where a neuron spiked or is a readout's.
    """

    found: NeuronState
    expected: NeuronState | None
    expected_from: str | None


@dataclass(frozen=True)
class Difference:
    """Where a backend first leaves the golden record, earliest in sample, timestep and node.

    Attributes:
        backend, schedule: who differs.
        layer: name of the node.
        sample: from 0.
        timestep: from 1.
        neuron: (c, y, x), None when only a count, or a digest of unknown potentials, differs.
        quantity: ``spike``, ``running sum``, ``potential``, ``digest of potentials``, or the name of
            a count.
        found, expected: the values there.
        states: the neuron's current and potential on both sides, where they could be had.
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
    states: NeuronStates | None = None

    def __str__(self) -> str:
        at = f" neuron {self.neuron}" if self.neuron is not None else ""
        text = (
            f"{run_name(self.backend, self.schedule)}: node '{self.layer}'{at}, sample"
            f" {self.sample}, timestep {self.timestep}: {self.quantity} is {self.found}, expected"
            f" {self.expected}"
        )
        if self.states is None:
            return text
        text += f"; {self.states.found}"
        if self.states.expected is None:
            return f"{text}; nobody who agrees with the golden record can show what it should be"
        return f"{text}; in {self.states.expected_from}: {self.states.expected}"


def run_name(backend: str, schedule: str | None) -> str:
    """A backend with its schedule, as people read it."""
    return f"{backend} ({schedule})" if schedule else backend


@dataclass(frozen=True)
class BackendCheck:
    """One backend's comparison: how much was compared and how much differs.

    Attributes:
        backend, schedule: who.
        layers: nodes covered.
        spikes_compared, potentials_compared, counts_compared: values; of potentials one per node,
            sample and timestep.
        spike_differences, potential_differences, counter_differences: how many of them differ.
        first_difference: earliest in sample, timestep and node.
        first_neuron: the first spike or sum that differs, where `first_difference` names no neuron.
    """

    backend: str
    schedule: str | None
    layers: int
    spikes_compared: int
    potentials_compared: int
    counts_compared: int
    spike_differences: int
    potential_differences: int
    counter_differences: int
    first_difference: Difference | None
    first_neuron: Difference | None = None


@dataclass(frozen=True)
class DatasetCheck:
    """SLAYER beside the executor on test samples.

    Attributes:
        samples: how many.
        slayer_correct, executor_correct: right answers at T_max.
        sum_differences: running sums that differ, of samples x classes x timesteps.
        spike_differences: of samples x nodes x timesteps, those in which a node fired another number
            of times.
        first_difference: earliest in sample; `found` is SLAYER's, `expected` the executor's.
    """

    samples: int
    slayer_correct: int
    executor_correct: int
    sum_differences: int
    spike_differences: int
    first_difference: Difference | None

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.first_difference is None

    def __str__(self) -> str:
        shares = (self.slayer_correct / self.samples, self.executor_correct / self.samples)
        text = (
            f"{self.samples:,} test samples: SLAYER {100 * shares[0]:.2f} % right, executor"
            f" {100 * shares[1]:.2f} %"
        )
        if self.exact:
            return f"{text}; every running sum and every node's number of spikes is the same"
        return f"{text}; first difference at {self.first_difference}"


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
        dataset: SLAYER beside the executor on test samples, where that was asked for.
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
    dataset: DatasetCheck | None = None

    @property
    def exact(self) -> bool:
        """Whether something was compared and nothing differs."""
        agreed = self.dataset is None or self.dataset.exact
        return bool(self.checks) and self.first_difference is None and agreed

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def table(self) -> Any:
        """A rich table, one row per backend and schedule, and the verdict."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        size = f"{self.samples} samples, {self.timesteps} timesteps, {self.layers} nodes"
        table = Table(title=f"{self.target}: {size}, compared with the {self.yardstick}")
        for name in ("backend", "schedule"):
            table.add_column(name)
        for name in ("nodes", "spikes", "differ", "potentials", "differ", "counts", "differ"):
            table.add_column(name, justify="right")
        for c in self.checks:
            compared = (
                (c.spikes_compared, c.spike_differences, "not shown"),
                (c.potentials_compared, c.potential_differences, "not shown"),
                (c.counts_compared, c.counter_differences, "not counted"),
            )
            cells: list[str] = []
            for size, differ, none in compared:
                cells += (f"{size:,}", str(differ)) if size else (none, "")
            table.add_row(c.backend, c.schedule or "", str(c.layers), *cells)
        lines = [f"{name}: not run, {why}" for name, why in self.skipped.items()]
        if self.first_difference is None and self.checks:
            lines.append(
                "[green]exact[/]: every spike, potential, running sum and count is the same"
            )
        else:
            lines.append(f"[red]differs[/]: first at {escape(str(self.first_difference))}")
            neurons = [c.first_neuron for c in self.checks if c.first_neuron is not None]
            lines += [f"first neuron known: {escape(str(neuron))}" for neuron in neurons[:1]]
        if self.dataset is not None:
            mark = "[green]exact[/]" if self.dataset.exact else "[red]differs[/]"
            lines.append(f"{mark}: {escape(str(self.dataset))}")
        return Group(table, *lines)
