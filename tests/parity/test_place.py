"""Answering on the edge or in the cloud: Lava and a socket beside whole runs; a link that fails."""

from __future__ import annotations

import dataclasses
import itertools
import time
from contextlib import ExitStack

import numpy as np
import pytest
from cascades import exit_bundle, small_cascade
from torch import Tensor

from energy import device, price
from host_bridge import serving
from host_bridge.links import FaultProxy, Faults
from neucodex_lava.bundle import Bundle, amend
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.errors import BridgeError, ConfigError, SimulationError
from neucodex_lava.evaluation.calibration.place import calibrated_places, energy_of_steps
from neucodex_lava.evaluation.heads import Heads
from neucodex_lava.evaluation.measured import LinkUse, connect
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.place.infer import infer_place
from neucodex_lava.evaluation.place.placement import LinkPrices, Placement, placement, sites
from neucodex_lava.evaluation.place.run import read_off, require_same_places, run_placed
from neucodex_lava.exits.calibration.place import Link, Prices
from neucodex_lava.exits.policy import Action

SAMPLES = 24
HOW = {
    "date": "", "command": "", "dataset": "digits", "data": "holdout", "test_samples": 0, "seed": 0,
}  # fmt: skip
DEAR = LinkPrices(Link(message_s=0.2, bit_s=1e-4), Prices(per_s=1.0))
FREE = LinkPrices(Link(), Prices())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Exit heads before both split points, calibrated for labels that only the cloud always gets."""
    made = exit_bundle(tmp_path_factory.mktemp("place") / "base")
    inputs = small_cascade(0, 80)[1]
    run = run_twin(Executor(made.net), inputs)
    assert run.sums is not None
    labels = run.sums[..., -1].argmax(axis=1)
    labels[:5] = np.arange(5)
    entries = {}
    for one in calibrated_places(made, (run, labels), (run, labels)):
        entry = one.entry
        entries[one.name] = entry | {"calibration": {**entry["calibration"], **HOW}}
    return amend(made, exits={**made.manifest.exits, **entries})


def at_sp2(bundle: Bundle, costs: LinkPrices = DEAR) -> Placement:
    site = next(site for site in sites(bundle) if site.split == "SP2")
    found = placement(site, costs)
    assert found is not None
    return found


def tails(found: Placement) -> dict[str, TorchTail]:
    site = found.site
    model = site.configuration.model_id
    return {model: TorchTail(site.net, model, site.bundle.readout_gain)}


def test_lava_and_the_socket_do_what_the_whole_run_says(bundle: Bundle) -> None:
    found = at_sp2(bundle)
    inputs = small_cascade(0, SAMPLES)[1]
    whole = run_twin(Executor(found.site.net), inputs)
    offline = read_off(found, whole)
    with EdgeSession(found.site.net, keep_ledger=True) as session, serving(tails(found)) as address:
        client = connect(found.site.configuration, address)
        real = run_placed(found, inputs, session, client)
        assert real.link_lost is None
        again = at_sp2(bundle, FREE)
        free = run_placed(again, inputs, session, connect(again.site.configuration, address))
    everything = np.arange(SAMPLES)
    require_same_places(read_off(again, whole), free, everything, "P-B")
    assert set(free.placed.asked.tolist()) == {1, 2, 3, 4}
    require_same_places(offline, real, everything, "P-B")
    placed = real.placed
    assert set(placed.actions.tolist()) == {Action.LOCAL, Action.STOP}
    assert set(placed.timesteps.tolist()) == {1, 2, 3, 4}
    assert (placed.asked < placed.sent).any()  # codes that were kept went when it asked
    assert ((real.payload_bits > 0) == (placed.sent > 0)).all()
    changed = dataclasses.replace(real, payload_bits=real.payload_bits + 8)
    with pytest.raises(SimulationError, match="P-B: payload of sample 0 differ"):
        require_same_places(offline, changed, everything, "P-B")
    real.edge.syn_ops[2, 0, 0] += 1
    with pytest.raises(SimulationError, match="syn_ops of node 'stem' at timestep 1 of sample 2"):
        require_same_places(offline, real, everything, "P-B")


def test_once_the_link_fails_the_exit_head_answers_and_says_so(bundle: Bundle) -> None:
    found = at_sp2(bundle, FREE)
    inputs = small_cascade(0, SAMPLES)[1]
    whole = run_twin(Executor(found.site.net), inputs)
    held = read_off(found, whole)
    down = read_off(dataclasses.replace(found, policy=found.down), whole)
    with EdgeSession(found.site.net, keep_ledger=True) as session, ExitStack() as server:
        address = server.enter_context(serving(tails(found)))
        client = connect(found.site.configuration, address, LinkUse(timeout_s=0.5))

        def pull_the_plug(_: str, done: int, total: int) -> None:
            if done == 5:
                server.close()

        real = run_placed(found, inputs, session, client, progress=pull_the_plug)
    assert (real.link_lost, real.problem != "") == (5, True)
    for name in ("predictions", "actions", "timesteps", "sent"):
        mine = getattr(real.placed, name)
        assert (mine[:5] == getattr(held.placed, name)[:5]).all()
        assert (mine[6:] == getattr(down.placed, name)[6:]).all()
    assert (real.placed.actions[:5] == Action.STOP).any()
    assert (real.placed.actions[5:] == Action.LOCAL).all()
    assert real.payload_bits[6:].sum() == 0
    with pytest.raises(BridgeError, match="P-B: the link failed"):
        require_same_places(held, real, np.arange(SAMPLES), "P-B")


def test_an_evaluation_has_rows_for_exit_heads_confirmed_for_real(bundle: Bundle) -> None:
    inputs = small_cascade(0, 12)[1]
    labels = np.arange(12) % 5
    heads = Heads.of(bundle, [], ["SP2"], ["confidence", "topk"], costs=DEAR)
    with heads.opened(len(inputs), confirm=4) as sessions:
        assert sessions.chosen.tolist() == [0, 3, 7, 11]
        rows = heads.rows(sessions, TwinRuns(inputs), labels, energy_model=device())
    exits, placed = rows
    assert (exits.configuration, placed.configuration) == ("edge-only exits", "P-B")
    assert (exits.measured_samples, placed.measured_samples) == (4, 4)
    assert exits.edge_s is not None
    assert exits.edge_s > 0
    found = at_sp2(bundle)
    whole = run_twin(Executor(found.site.net), inputs)
    expected = read_off(found, whole)
    assert placed.accuracy == (expected.placed.predictions == labels).mean()
    assert placed.mean_timesteps == expected.placed.timesteps.mean()
    assert placed.local_share == (expected.placed.actions == Action.LOCAL).mean()
    assert 0 < placed.local_share < 1
    assert placed.payload_bits == expected.payload_bits.mean()
    assert placed.packed_bits == expected.placed.sent.mean() * 6 * 3 * 3
    assert placed.syn_ops == expected.edge.total("syn_ops") / 12
    assert placed.dynamic
    with heads.opened(len(inputs), confirm=0) as sessions:
        again = heads.rows(sessions, TwinRuns(inputs), labels, energy_model=device())
    assert [row.measured_samples for row in again] == [0, 0]
    assert again[1].roundtrip_s is None


def test_energy_of_steps_adds_up(bundle: Bundle) -> None:
    found = at_sp2(bundle)
    run = run_twin(Executor(found.site.net), small_cascade(0, 3)[1])
    edge = found.site.edge(run.ledger)
    steps = energy_of_steps(edge, device())
    assert steps.shape == (3, 4)
    np.testing.assert_allclose(steps.sum(axis=1), price(edge).per_sample_j)
    assert steps[0, 0] == pytest.approx((edge.syn_ops + edge.macs)[0, :, 0].sum() * 23e-12)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"local_right": [[0.5]]}, "local_right has 1 rows, expected 4"),
        ({"wait": []}, "wait has 0 rows, expected 3"),
        ({"record": 7}, "PlaceModel.record: expected str, found 7"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_a_damaged_model_is_one_line_that_names_bundle_and_policy(
    bundle: Bundle, change: dict[str, object], problem: str
) -> None:
    entry = bundle.manifest.exits["place-sp2"]
    policy = entry["policy"] | {"model": entry["policy"]["model"] | change}
    exits = {**bundle.manifest.exits, "place-sp2": entry | {"policy": policy}}
    edited = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, exits=exits))
    with pytest.raises(ConfigError, match=f"'place-sp2' of bundle .*{problem}.*calibrate it again"):
        at_sp2(edited)


def test_the_manifest_keeps_what_the_tables_promised_and_what_they_gave(bundle: Bundle) -> None:
    for split in ("SP1", "SP2"):
        told = bundle.manifest.exits[f"place-{split.lower()}"]["calibration"]
        assert told["utility"] >= told["tables_utility"]
        assert isinstance(told["strategy"], str)
        assert np.isfinite(told["tables_expected"])
        assert told["energy_model"] == "paper-23pJ"


def test_where_no_exit_head_can_answer_it_is_told(bundle: Bundle) -> None:
    costs = LinkPrices()
    with pytest.raises(ConfigError, match="no exit head before this cut"):
        infer_place(bundle, "127.0.0.1:1", costs, split="input")
    bare = amend(bundle, exits={"confidence": {"alpha": 0.9}})
    assert [site.name for site in sites(bare)] == ["place-sp1", "place-sp2"]
    with pytest.raises(ConfigError, match="'place-sp1' is not calibrated.*neucodex calibrate"):
        infer_place(bare, "127.0.0.1:1", costs, split="SP1")
    assert sites(dataclasses.replace(bundle, net=bundle.net.edge_part()))[-1].head == "exit_sp2"


def test_when_the_link_is_back_the_cloud_is_asked_again(bundle: Bundle) -> None:
    found = at_sp2(bundle, FREE)
    inputs = small_cascade(0, SAMPLES)[1]
    held = read_off(found, run_twin(Executor(found.site.net), inputs))
    with ExitStack() as stack:
        session = stack.enter_context(EdgeSession(found.site.net, keep_ledger=True))
        proxy = FaultProxy(stack.enter_context(serving(tails(found))))
        address = stack.enter_context(proxy)
        client = connect(found.site.configuration, address, LinkUse(timeout_s=0.3))

        def storm(_: str, done: int, total: int) -> None:
            if done == 5:
                proxy.faults = Faults(refuse=True)
                proxy.reset_all()
            if done == 10:
                proxy.faults = Faults()
                while not client.connected:
                    time.sleep(0.01)
                    client.start_sample()

        real = run_placed(found, inputs, session, client, progress=storm)
    assert real.link_lost == 5
    assert (real.placed.actions[5:10] == Action.LOCAL).all()
    for name in ("predictions", "actions", "timesteps", "sent"):
        mine, theirs = getattr(real.placed, name), getattr(held.placed, name)
        assert (mine[:5] == theirs[:5]).all()
        assert (mine[10:] == theirs[10:]).all()
    assert (real.placed.actions[10:] == Action.STOP).any()


def test_a_sample_that_the_cloud_fails_at_is_answered_here_and_the_next_one_there(
    bundle: Bundle,
) -> None:
    found = at_sp2(bundle, FREE)
    inputs = small_cascade(0, SAMPLES)[1]
    held = read_off(found, run_twin(Executor(found.site.net), inputs))
    ((model, tail),) = tails(found).items()
    begun = itertools.count()

    def fails_twice_at_the_sixth() -> Tensor:
        if next(begun) in (5, 6):
            raise RuntimeError("no memory left")
        return TorchTail.new_state(tail)

    tail.new_state = fails_twice_at_the_sixth
    with (
        EdgeSession(found.site.net, keep_ledger=True) as session,
        serving({model: tail}) as address,
    ):
        client = connect(found.site.configuration, address, LinkUse(timeout_s=2.0))
        reconnected: list[bool] = []

        def wait_for_the_session(_: str, done: int, total: int) -> None:
            while not client.connected:
                time.sleep(0.01)
                client.start_sample()
            reconnected.append(client.counts.reconnects > 0)

        real = run_placed(found, inputs, session, client, progress=wait_for_the_session)
    assert (real.link_lost, reconnected[-1]) == (5, True)
    assert real.placed.actions[5] == Action.LOCAL
    others = np.delete(np.arange(SAMPLES), 5)
    for name in ("predictions", "actions", "timesteps", "sent"):
        assert (getattr(real.placed, name)[others] == getattr(held.placed, name)[others]).all()
    assert (real.placed.actions[6:] == Action.STOP).any()
