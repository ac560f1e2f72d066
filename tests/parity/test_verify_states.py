"""verify names the first neuron that differs, with its current and potential on both sides.

Each backend is really damaged, one at a time; the plain interpreter, damaged alike, says what must be
found.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bundles import reseal
from plain import run_plain

from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cloud import neurons as cloud_neurons
from neucodex_lava.edge.engine import engine
from neucodex_lava.edge.engine import neurons as edge_neurons
from neucodex_lava.edge.stock import processes as stock
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.verify import Difference, NeuronStates, VerifyReport, verify

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
Change = Callable[[IntegerNet], IntegerNet]


class Run:
    """What the plain interpreter says of a network: spikes, currents and potentials after reset."""

    def __init__(self, net: IntegerNet, inputs: np.ndarray) -> None:
        self.net = net
        self.currents: dict[str, np.ndarray] = {}
        self.spikes, before, _ = run_plain(net, inputs, self.currents)
        self.potentials = {n: np.where(self.spikes[n], 0, v) for n, v in before.items()}

    def state(self, node: str, at: tuple[int, ...]) -> tuple[int, int]:
        return int(self.currents[node][at]), int(self.potentials[node][at])


def first_difference(mine: Run, right: Run) -> tuple[str, str, tuple[int, ...]]:
    """Quantity, node and index (n, c, y, x, t) of the first neuron that differs; spikes come first."""
    shape = next(iter(right.spikes.values())).shape
    for n in range(shape[0]):
        for t in range(shape[-1]):
            for node in mine.net.nodes:
                pairs = [("potential", mine.potentials, right.potentials)]
                if not node.neuron.is_readout:
                    pairs.insert(0, ("spike", mine.spikes, right.spikes))
                for quantity, a, b in pairs:
                    wrong = np.argwhere(a[node.name][n, ..., t] != b[node.name][n, ..., t])
                    if len(wrong):
                        return quantity, node.name, (n, *(int(i) for i in wrong[0]), t)
    raise AssertionError("the damage changes nothing")


def states_of(difference: Difference | None) -> NeuronStates:
    assert difference is not None
    assert difference.states is not None, difference
    return difference.states


def check_first(
    report: VerifyReport, who: tuple[str, str | None], mine: Run, right: Run, witness: str
) -> Difference:
    """The backend's first difference is the plain interpreters', with the states of both."""
    check = next(c for c in report.checks if (c.backend, c.schedule) == who)
    first = check.first_difference
    states = states_of(first)
    assert first is not None
    quantity, node, (n, c, y, x, t) = first_difference(mine, right)
    assert (first.quantity, first.layer, first.sample, first.timestep, first.neuron) == (
        (quantity, node, n, t + 1, (c, y, x))
    )
    at = (n, c, y, x, t)
    assert states.expected is not None
    assert (states.found.current, states.found.potential) == mine.state(node, at)
    assert (states.expected.current, states.expected.potential) == right.state(node, at)
    assert states.expected_from == witness
    current, potential = mine.state(node, at)
    in_weights = int(np.trunc(current / 64)), int(np.trunc(potential / 64))
    assert (states.found.current_in_weights, states.found.potential_in_weights) == in_weights
    text = str(first)
    assert f"neuron {(c, y, x)}, sample {n}, timestep {t + 1}" in text
    assert f"current {current} ({in_weights[0]} in weights)" in text
    assert f"in {witness}: {states.expected}" in text
    assert check.first_neuron is None
    return first


@pytest.fixture(scope="module")
def sp1() -> Bundle:
    return load_bundle(RELEASED / "sp1")


def edge_runs(bundle: Bundle, change: Change) -> tuple[Run, Run]:
    """The changed and the right edge part on the golden input."""
    edge, inputs = bundle.net.edge_part(), bundle.golden.inputs
    return Run(change(edge), inputs), Run(edge, inputs)


def with_neurons(net: IntegerNet, names: list[str], **more: int) -> IntegerNet:
    """The net with these much added to fields of these nodes' neurons."""
    changed = [
        replace(
            n, neuron=replace(n.neuron, **{f: getattr(n.neuron, f) + d for f, d in more.items()})
        )
        for n in net.nodes
        if n.name in names
    ]
    return net.with_nodes(*changed)


@pytest.mark.lava
def test_a_kernel_whose_potential_leaks_too_much(
    sp1: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = edge_neurons.update

    def leaking(*args: Any) -> int:
        before, keep, after = args[:6], args[6], args[7:]
        return kernel(*before, keep - 1, *after)

    monkeypatch.setattr(edge_neurons, "update", leaking)
    report = verify(sp1, backends=("fused", "twin"))
    names = [n.name for n in sp1.net.edge_nodes]
    mine, right = edge_runs(sp1, lambda net: with_neurons(net, names, voltage_decay=1))
    for schedule in ("gated", "pipelined"):
        first = check_first(report, ("fused", schedule), mine, right, "twin")
    assert first.quantity == "potential", "the spikes are still the same"
    assert [c.first_difference for c in report.checks if c.backend == "twin"] == [None]
    assert report.first_difference is not None
    assert report.potential_differences > 0
    shown = report.to_dict()["first_difference"]["states"]
    u, v = mine.state(first.layer, _index(first))
    assert shown["found"] == {
        "current": u,
        "potential": v,
        "current_in_weights": int(np.trunc(u / 64)),
        "potential_in_weights": int(np.trunc(v / 64)),
    }


def _index(difference: Difference) -> tuple[int, ...]:
    assert difference.neuron is not None
    return (difference.sample, *difference.neuron, difference.timestep - 1)


@pytest.mark.lava
def test_a_kernel_that_forgets_to_reset(sp1: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a sample shows in the next one only, so the samples before it run again, too."""
    made, reset = engine.FusedEngine.__init__, edge_neurons.Neurons.reset

    def forgetful(self: Any, *args: Any, **options: Any) -> None:
        edge_neurons.Neurons.reset = reset  # type: ignore[method-assign]
        made(self, *args, **options)
        monkeypatch.setattr(edge_neurons.Neurons, "reset", lambda self: None)

    monkeypatch.setattr(engine.FusedEngine, "__init__", forgetful)
    report = verify(sp1, backends=("fused", "twin"))
    edge, inputs = sp1.net.edge_part(), sp1.golden.inputs
    samples, timesteps = inputs.shape[0], inputs.shape[-1]
    one = np.concatenate(list(inputs), axis=-1)[None]
    endless = Run(replace(edge, timesteps=samples * timesteps), one)
    for arrays in (endless.spikes, endless.currents, endless.potentials):
        for name, a in arrays.items():
            arrays[name] = np.concatenate(np.split(a, samples, axis=-1))
    first = check_first(report, ("fused", "gated"), endless, Run(edge, inputs), "twin")
    assert first.sample > 0


@pytest.mark.lava
def test_an_executor_with_a_wrong_threshold(sp1: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    name = sp1.net.edge_nodes[1].name
    made = cloud_neurons.Neurons.__init__

    def wrong(self: Any, node: Any, device: Any) -> None:
        made(self, node, device)
        self._threshold += 64 * 40 * (node.name == name)

    monkeypatch.setattr(cloud_neurons.Neurons, "__init__", wrong)
    report = verify(sp1, backends=("twin", "fused"))
    mine, right = edge_runs(sp1, lambda net: with_neurons(net, [name], threshold=40))
    first = check_first(report, ("twin", None), mine, right, "fused (gated)")
    assert (first.layer, first.quantity, first.found, first.expected) == (name, "spike", 0, 1)
    alone = verify(sp1, backends=("twin",)).first_difference
    states = states_of(alone)
    assert alone == replace(first, states=states)
    assert states.found == states_of(first).found
    assert states.expected_from == "the golden record", "a neuron that spiked is at 0"
    assert states.expected is not None
    assert (states.expected.current, states.expected.potential) == (None, 0)


@pytest.mark.lava
def test_stock_neurons_with_a_wrong_threshold(sp1: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    name = sp1.net.edge_nodes[2].name
    made = stock.LIFReset

    def wrong(**options: Any) -> Any:
        options["vth"] += 40 * (options["name"] == name)
        return made(**options)

    monkeypatch.setattr(stock, "LIFReset", wrong)
    report = verify(sp1, backends=("reference", "twin"))
    mine, right = edge_runs(sp1, lambda net: with_neurons(net, [name], threshold=40))
    first = check_first(report, ("reference", "pipelined"), mine, right, "twin")
    assert (first.layer, first.quantity) == (name, "spike")


@pytest.mark.lava
def test_a_wrong_weight_in_edge_net_beside_an_intact_golden_record(tmp_path: Path) -> None:
    """All backends run the wrong network; only the record knows better, and it knows no currents."""
    folder = tmp_path / "sp1"
    shutil.copytree(RELEASED / "sp1", folder)
    right = load_bundle(folder)
    with h5py.File(folder / "edge.net", "r+") as file:
        weight = file["layer/3/weight"]
        values = np.array(weight[...]).astype(int)
        at = np.unravel_index(np.abs(values).argmax(), values.shape)
        values[at] = -values[at] if values[at] > -128 else 0
        weight[...] = values
    reseal(folder)
    damaged = load_bundle(folder)
    (name,) = [n.name for n in right.net.nodes if damaged.net.node(n.name) != n]
    report = verify(damaged, backends=("twin", "fused"))
    assert report.changed_nodes == [name]
    inputs = right.golden.inputs
    mine, good = Run(damaged.net.edge_part(), inputs), Run(right.net.edge_part(), inputs)
    _, node, (n, *_, t) = first_difference(mine, good)
    assert node == name
    for check in report.checks:
        first = check.first_difference
        assert first is not None
        assert (first.layer, first.sample, first.timestep) == (name, n, t + 1)
        neuron = first if first.neuron is not None else check.first_neuron
        assert neuron is not None
        index = _index(neuron)
        found, expected = (r.spikes[neuron.layer][index] for r in (mine, good))
        assert (neuron.quantity, neuron.found, neuron.expected) == ("spike", found, expected)
        states = states_of(neuron)
        u, v = mine.state(neuron.layer, index)
        assert (states.found.current, states.found.potential) == (u, v)
        if expected:
            assert states.expected is not None
            assert (states.expected.current, states.expected.potential) == (None, 0)
        else:
            assert (states.expected, states.expected_from) == (None, None)
