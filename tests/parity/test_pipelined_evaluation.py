"""A pipelined evaluation: real Lava, a real socket, decisions while the pipeline runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import run_plain
from stopped import chain, expected

from energy import device
from energy.ledger import Ledger, Overhead
from host_bridge import EdgeClient
from neucodex_lava.bundle import load_bundle
from neucodex_lava.bundle.manifest import CODING_FILE
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import SimulationError
from neucodex_lava.evaluation import evaluate as module
from neucodex_lava.evaluation.configurations import EDGE_ONLY_DYNAMIC, Configuration
from neucodex_lava.evaluation.evaluate import evaluate
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.exits.policy import Action, Sums
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.report.results import Row

pytestmark = pytest.mark.lava

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits" / "base"
PJ = 1e-12
T = 8


@dataclass(frozen=True)
class Whim:
    """Stops once the sums, added up, leave 1 divided by 3: early for some samples, late for others."""

    t_max: int = T

    def start(self) -> None:
        return

    def step(self, state: None, t: int, sums: Sums) -> tuple[None, Action]:
        return state, Action.STOP if t == self.t_max or sums.sum() % 3 == 1 else Action.CONTINUE

    def actions(self, sums: Sums) -> np.ndarray:
        stops = sums.sum(axis=1) % 3 == 1
        stops[:, -1] = True
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)


def configurations(net: IntegerNet) -> list[Configuration]:
    released = load_bundle(RELEASED)
    # The net is another one than the bundle's, whose coding tables do not fit it.
    files = {name: sha for name, sha in released.manifest.files.items() if name != CODING_FILE}
    manifest = replace(released.manifest, files=files, split_points={"SP1": 2}, format_version=2)
    bundle = replace(released, manifest=manifest)
    return [
        Configuration(EDGE_ONLY_DYNAMIC, None, bundle, net.with_cut(3), dynamic=True),
        Configuration("F-B", "SP1", bundle, net.with_cut(2), dynamic=False),
        Configuration("D-B", "SP1", bundle, net.with_cut(2), dynamic=True),
    ]


def rows_of(inputs: np.ndarray, net: IntegerNet, schedule: Any) -> list[Row]:
    return evaluate(
        configurations(net),
        inputs,
        np.zeros(len(inputs), np.int64),
        policy_for=lambda _: Whim(),
        energy_model=device("paper-23pJ"),
        confirm=len(inputs),
        schedule=schedule,
    )


def decisions(net: IntegerNet, inputs: np.ndarray) -> list[int | None]:
    """Where the policy stops each sample, by plain loops; None for the last timestep."""
    sums = run_plain(net, inputs)[1]["readout"][:, :, 0, 0] >> 6
    last = Whim().actions(sums).argmax(axis=1) + 1
    return [None if t == T else int(t) for t in last]


def test_figures_are_those_of_the_plain_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs = chain(T)
    decided = decisions(net, inputs)
    assert len(set(decided)) > 2
    real: list[Measured] = []
    run_measured, send = module.run_measured, EdgeClient.step
    sent: list[np.ndarray] = []

    def measured(*args: Any, **options: Any) -> Measured:
        real.append(run_measured(*args, **options))
        return real[-1]

    def spied(client: EdgeClient, code: np.ndarray) -> Any:
        sent.append(code.copy())
        return send(client, code)

    monkeypatch.setattr(module, "run_measured", measured)
    monkeypatch.setattr(EdgeClient, "step", spied)
    rows = rows_of(inputs, net, "pipelined")
    ends = [decided, [None] * len(inputs), decided]
    for row, found, c, end in zip(rows, real, configurations(net), ends):
        own, outside, stops = expected(c.net, inputs, end)
        assert row.edge_depth == c.net.cut
        assert list(found.stops) == stops
        fed = [T if t is None else min(T, t + c.net.cut) for t in end]
        assert row.edge_timesteps == np.mean(fed)
        assert row.mean_timesteps == np.mean([t or T for t in end])
        assert row.syn_ops == own.total("syn_ops") / len(inputs)
        assert (outside.syn_ops > 0) == (row.configuration != "F-B")
        shared = outside.syn_ops / len(inputs) * 23 * PJ
        assert row.outside_energy_j == pytest.approx(shared, rel=1e-12)
        assert row.energy_j == pytest.approx(row.syn_ops * 23 * PJ + shared, rel=1e-12)
        assert row.measured_samples == len(inputs)
    assert [bool(m.stops) for m in real] == [True, False, True]
    # Nothing is sent after a decision.
    codes = run_plain(net.with_cut(2).edge_part(), inputs)[0]["body"]
    wanted = [
        codes[n, ..., t] for end in ends[1:] for n, e in enumerate(end) for t in range(e or T)
    ]
    assert len(sent) == len(wanted)
    assert all(np.array_equal(a, b) for a, b in zip(sent, wanted))


def test_gated_and_pipelined_give_the_same_answers_at_another_price() -> None:
    net, inputs = chain(T)
    for gated, pipelined in zip(rows_of(inputs, net, "gated"), rows_of(inputs, net, "pipelined")):
        for same in ("accuracy", "mean_timesteps", "payload_bits", "wire_bytes", "exit_histogram"):
            assert getattr(gated, same) == getattr(pipelined, same)
        assert (gated.outside_energy_j, gated.edge_depth, gated.edge_timesteps) == (0, 0, None)
        dearer = pipelined.energy_j > gated.energy_j
        assert dearer == (gated.configuration != "F-B")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda ledger: replace(
                ledger, outside_window=ledger.outside_window + Overhead(axon_out=1)
            ),
            "axon_out outside of the samples' windows",
        ),
        (
            lambda ledger: replace(ledger, syn_ops=ledger.syn_ops + (ledger.syn_ops > 9)),
            "syn_ops of node 'stem' at timestep 1 of sample 0 differs",
        ),
    ],
)
def test_other_work_in_lava_is_found(
    change: Callable[[Ledger], Ledger], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, inputs = chain(T)
    ledger = EdgeSession.ledger
    monkeypatch.setattr(EdgeSession, "ledger", lambda session: change(ledger(session)))
    with pytest.raises(SimulationError, match=f"edge-only dynamic: {said}"):
        rows_of(inputs, net, "pipelined")
