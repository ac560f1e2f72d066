"""The neuron where a backend first differs, with its current and potential on both sides.

A golden record holds digests of potentials and no currents. So the backend that differs runs again and
shows the node, and so does a witness: a backend that agrees with the record, or the executor on the
training run's own network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from neucodex_lava.bundle import Golden, digest_potentials
from neucodex_lava.integer_net import STATE_SHIFT
from neucodex_lava.verify.compare import DIGEST
from neucodex_lava.verify.report import BackendCheck, Difference, NeuronState, NeuronStates
from neucodex_lava.verify.running import Watched

Watch = Callable[[int, str], Watched | None]
"""Shows a node's states in a sample (from 0); None where there is nothing to see."""
OF_NEURONS = ("spike", "running sum", DIGEST)


def add_states(
    check: BackendCheck, golden: Golden, watch: Watch, witnesses: Mapping[str, Watch]
) -> BackendCheck:
    """The check with the states of the first differing neurons.

    Args:
        check: one that found a difference.
        golden: the record.
        watch: shows what the differing backend does.
        witnesses: by name, the best first; one counts where its potentials have the record's digest.
    """

    def shown(difference: Difference | None) -> Difference | None:
        if difference is None or difference.quantity not in OF_NEURONS:
            return difference
        return _with_states(difference, golden, watch, witnesses)

    first, neuron = shown(check.first_difference), check.first_neuron
    if first is not None and first.neuron is not None:
        neuron = None
    return replace(check, first_difference=first, first_neuron=shown(neuron))


def _with_states(
    difference: Difference, golden: Golden, watch: Watch, witnesses: Mapping[str, Watch]
) -> Difference:
    found = watch(difference.sample, difference.layer)
    if found is None:
        return difference
    t = difference.timestep - 1
    who, expected = _witness(difference, golden, witnesses)
    if difference.neuron is None:
        if expected is None or found.potentials is None or expected.potentials is None:
            return difference
        both = found.potentials[..., t], expected.potentials[..., t]
        wrong = np.argwhere(both[0] != both[1])
        if not len(wrong):
            return difference
        c, y, x = (int(i) for i in wrong[0])
        values = {"found": int(both[0][c, y, x]), "expected": int(both[1][c, y, x])}
        difference = replace(difference, neuron=(c, y, x), quantity="potential", **values)
    assert difference.neuron is not None
    c, y, x = difference.neuron
    if expected is not None:
        state: NeuronState | None = _state(expected, (c, y, x, t))
    else:
        state = _recorded(difference)
        who = "the golden record" if state else None
    states = NeuronStates(_state(found, (c, y, x, t)), state, who)
    return replace(difference, states=states)


def _witness(
    difference: Difference, golden: Golden, witnesses: Mapping[str, Watch]
) -> tuple[str | None, Watched | None]:
    """The first witness that has the golden potentials at this node, sample and timestep."""
    recorded = golden.potentials[difference.layer][difference.sample, difference.timestep - 1]
    for who, watch in witnesses.items():
        seen = watch(difference.sample, difference.layer)
        if seen is None or seen.potentials is None:
            continue
        digests = digest_potentials(seen.potentials[None])
        if digests[0, difference.timestep - 1] == recorded:
            return who, seen
    return None, None


def _state(seen: Watched, at: tuple[int, int, int, int]) -> NeuronState:
    values = (None if a is None else int(a[at]) for a in (seen.currents, seen.potentials))
    return NeuronState(*values)


def _recorded(difference: Difference) -> NeuronState | None:
    """What the golden record itself says of a potential: a sum, or 0 after a spike."""
    if difference.quantity == "running sum":
        return NeuronState(None, difference.expected << STATE_SHIFT)
    if difference.quantity == "spike" and difference.expected:
        return NeuronState(None, 0)
    return None
