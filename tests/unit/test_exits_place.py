"""Where to answer: tables against brute force, the step form against the offline form."""

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neucodex_lava.config import from_dict, to_dict
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.exits import (
    Action,
    PlacePolicy,
    decide_place,
    decide_place_stepwise,
    right,
)
from neucodex_lava.exits.calibration import (
    CalibrationData,
    Link,
    PlaceModel,
    Prices,
    calibrate_place,
    place_model,
    place_record,
)

LOCAL, WAIT, SEND = int(Action.LOCAL), int(Action.WAIT), int(Action.SEND)
STOP, CONTINUE = int(Action.STOP), int(Action.CONTINUE)


def two_heads(seed: int, samples: int = 400, classes: int = 3, t_max: int = 3) -> Any:
    """Local and cloud sums of the same samples; the cloud sees more."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    clean = np.eye(classes)[labels][:, :, None]
    local, cloud = (
        (strength * clean + rng.normal(size=(samples, classes, t_max))).cumsum(axis=2)
        for strength in (0.7, 1.5)
    )
    return local, cloud, labels


def model_of(seed: int, bins: int = 4, t_max: int = 3, **numbers: Any) -> PlaceModel:
    local, cloud, labels = two_heads(seed, t_max=t_max)
    given = {"step_j": 1.0, "code_bits": 16, "bins": bins, **numbers}
    return place_model(
        CalibrationData(local, labels, 1.0), CalibrationData(cloud, labels, 1.0), **given
    )


def utility(model: PlaceModel, policy: PlacePolicy, link: Link, prices: Prices) -> float:
    """What a policy's tables are worth under the model, by following all ways through them."""
    message = prices(link.message_j, link.message_s)
    code = model.code_bits * prices(link.bit_j, link.bit_s)

    def edge(t: int, sent: int, bin_: int) -> float:
        action = policy.edge_table[t - 1][sent][bin_]
        if action == LOCAL:
            return model.local_right[t - 1][bin_]
        if action == WAIT:
            return go_on(t, sent, model.wait[t - 1][bin_])
        shares = enumerate(model.ask[t - 1][bin_])
        return sum(p * cloud(t, c) for c, p in shares) - (message + code) * (t - sent)

    def cloud(t: int, bin_: int) -> float:
        if policy.cloud_table[t - 1][bin_] == STOP or t == model.t_max:
            return model.cloud_right[t - 1][bin_]
        return go_on(t, t, model.go_on[t - 1][bin_])

    def go_on(t: int, sent: int, shares: tuple[float, ...]) -> float:
        step = prices(model.step_j[t], 0.0)
        return sum(p * edge(t + 1, sent, b) for b, p in enumerate(shares)) - step

    first = prices(model.step_j[0], 0.0)
    return sum(p * edge(1, 0, b) for b, p in enumerate(model.first)) - first


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "link", [Link(message_s=0.02, bit_s=1e-3), Link(), Link(message_s=0.2), Link(up=False)]
)
def test_under_the_model_the_tables_are_the_best_of_all_tables(seed: int, link: Link) -> None:
    model = model_of(seed, bins=2, t_max=2)
    prices = Prices(per_j=0.03, per_s=1.0)
    policy, expected = model.tables(link, prices)
    assert utility(model, policy, link, prices) == pytest.approx(expected, abs=1e-12)
    choices = [LOCAL, SEND] if link.up else [LOCAL]
    best = -np.inf
    for a in itertools.product([*choices, WAIT], repeat=2):
        for b in itertools.product(choices, repeat=4):
            for c in itertools.product([STOP, CONTINUE], repeat=2):
                other = replace(
                    policy, edge_table=((a,), (b[:2], b[2:])), cloud_table=(c, (STOP, STOP))
                )
                best = max(best, utility(model, other, link, prices))
    assert expected == pytest.approx(best, abs=1e-12)


@given(
    seed=st.integers(0, 1000),
    t_max=st.integers(1, 5),
    bins=st.integers(1, 6),
    message_s=st.sampled_from([0.0, 0.01, 0.1]),
    per_j=st.sampled_from([0.0, 0.01, 0.1]),
    nans=st.sampled_from([0.0, 0.05]),
    up=st.booleans(),
    dtype=st.sampled_from([np.float64, np.int64]),
)
@settings(max_examples=60, deadline=None)
def test_place_is_the_same_step_by_step_and_offline(
    seed: int,
    t_max: int,
    bins: int,
    message_s: float,
    per_j: float,
    nans: float,
    up: bool,
    dtype: Any,
) -> None:
    model = model_of(seed, bins, t_max)
    link = Link(up, message_s=message_s, bit_s=1e-4)
    policy, _ = model.tables(link, Prices(per_j, 1.0))
    local, cloud, _ = two_heads(seed + 1, 60, t_max=t_max)
    local, cloud = local.astype(dtype), cloud.astype(dtype)
    if dtype is np.float64:
        rng = np.random.default_rng(seed)
        for sums in (local, cloud):
            sums[rng.random(sums.shape) < nans] = np.nan
    offline, step = (f(policy, local, cloud) for f in (decide_place, decide_place_stepwise))
    for name, values in vars(offline).items():
        assert values.tolist() == getattr(step, name).tolist(), name
    assert ((offline.asked == 0) == (offline.sent == 0)).all()
    assert (offline.timesteps >= offline.sent).all()
    assert (offline.sent >= offline.asked).all()
    if not up:
        assert (offline.actions == LOCAL).all()
        assert not offline.asked.any()


def test_a_free_link_is_used_and_a_dear_one_is_not() -> None:
    local, cloud, labels = two_heads(0)
    model = model_of(0)
    seen: list[float] = []
    for message_s in (0.0, 0.03, 0.1, 9.0):
        _, report = calibrate_place(
            model, local, cloud, labels, link=Link(message_s=message_s), prices=Prices(0.001, 1.0)
        )
        seen.append(report["mean_asked"])
    assert seen == sorted(seen, reverse=True)
    assert seen[0] >= 1
    assert seen[-1] == 0


def test_a_good_link_earns_accuracy_and_the_model_expects_about_that() -> None:
    local, cloud, labels = two_heads(0, samples=4000)
    data = (CalibrationData(s, labels, 1.0) for s in (local, cloud))
    model = place_model(*data, step_j=1.0, code_bits=16)
    prices = Prices(0.005, 1.0)
    _, down = calibrate_place(model, local, cloud, labels, link=Link(False), prices=prices)
    _, up = calibrate_place(model, local, cloud, labels, link=Link(message_s=0.01), prices=prices)
    assert up["accuracy"] > down["accuracy"] + 0.03
    assert up["tables_utility"] == pytest.approx(up["tables_expected"], abs=0.03)
    local_at_end = right(local, labels)[:, -1].mean()
    assert down["accuracy"] <= local_at_end + 0.02


def test_each_code_that_waited_is_a_message_of_its_own() -> None:
    # At t = 1 it waits, at t = 2 it sends both codes and goes on, at t = 3 it sends one and must stop.
    policy = PlacePolicy(
        3,
        1.0,
        1.0,
        local_edges=((), (), ()),
        cloud_edges=((), (), ()),
        edge_table=(((WAIT,),), ((SEND,), (LOCAL,)), ((LOCAL,), (LOCAL,), (SEND,))),
        cloud_table=((STOP,), (CONTINUE,), (STOP,)),
    )
    local, cloud = np.zeros((1, 2, 3)), np.array([[[0, 5, 0], [0, 0, 7]]])
    placed = decide_place(policy, local, cloud)
    assert [v.tolist() for v in vars(placed).values()] == [[1], [STOP], [3], [3], [2]]
    link = Link(message_s=1.0, bit_s=0.01, message_j=2.0, bit_j=0.1)
    joules, seconds = model_of(0).costs(placed.timesteps, placed.sent, link)
    assert joules.tolist() == [pytest.approx(3 + 3 * 2 + 48 * 0.1)]
    assert seconds.tolist() == [pytest.approx(3 * 1 + 48 * 0.01)]


def test_waiting_saves_no_message_so_tables_that_wait_earn_what_tables_that_do_not_do() -> None:
    model, prices = model_of(0), Prices(per_s=1.0)
    link = Link(message_s=0.01, bit_s=1e-4)
    policy, _ = model.tables(link, prices)
    every = replace(
        policy,
        edge_table=tuple(((SEND,) * 4,) * t for t in (1, 2, 3)),
        cloud_table=((CONTINUE,) * 4, (CONTINUE,) * 4, (STOP,) * 4),
    )
    waits = tuple(((action,) * 4,) * t for t, action in ((1, WAIT), (2, WAIT), (3, SEND)))
    at_once = replace(every, edge_table=waits)
    assert model.earned(every, link, prices) == model.earned(at_once, link, prices)


def stubborn_heads(seed: int, samples: int = 1200, t_max: int = 4) -> Any:
    """A cloud that is right or wrong for good, whatever its confidence, which is drawn every time."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 3
    said = np.where(rng.random(samples) < 0.7, labels, (labels + 1) % 3)
    sure = rng.uniform(0.1, 3, (samples, t_max)) * np.where(said == labels, 1.3, 1.0)[:, None]
    cloud = np.eye(3)[said][:, :, None] * (sure * np.arange(1, t_max + 1))[:, None]
    return rng.normal(size=(samples, 3, t_max)).cumsum(axis=2), cloud, labels


@pytest.mark.parametrize("message_s", [0.0, 0.002, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("heads", [two_heads, stubborn_heads])
def test_on_calibration_data_no_simple_strategy_beats_what_is_solved(
    heads: Any, message_s: float
) -> None:
    local, cloud, labels = heads(1)
    data = (CalibrationData(s, labels, 1.0) for s in (local, cloud))
    model = place_model(*data, step_j=1e-3, code_bits=16)
    link, prices = Link(message_s=message_s, bit_s=1e-5), Prices(1.0, 1.0)
    policy, report = calibrate_place(model, local, cloud, labels, link=link, prices=prices)
    code = message_s + 16e-5
    for t in range(1, model.t_max + 1):
        alone, asked = (right(sums, labels)[:, t - 1].mean() for sums in (local, cloud))
        assert report["utility"] >= alone - 1e-3 * t - 1e-12
        assert report["utility"] >= asked - (1e-3 + code) * t - 1e-12
    found = model.solve(link, prices)
    assert found.policy == policy
    assert found.utility == pytest.approx(report["utility"], abs=1e-12)
    assert found.strategy == report["strategy"]
    assert report["utility"] >= report["tables_utility"]
    assert (report["utility"] == report["tables_utility"]) or found.strategy != "tables"


def test_where_confidences_are_no_chain_the_tables_promise_too_much_and_are_not_taken() -> None:
    local, cloud, labels = stubborn_heads(1)
    data = (CalibrationData(s, labels, 1.0) for s in (local, cloud))
    model = place_model(*data, step_j=1e-3, code_bits=16)
    link, prices = Link(message_s=0.002), Prices(1.0, 1.0)
    _, report = calibrate_place(model, local, cloud, labels, link=link, prices=prices)
    assert report["tables_expected"] > max(report["tables_utility"], report["utility"]) + 0.02
    assert report["utility"] > report["tables_utility"] + 0.002
    assert report["strategy"].startswith("cloud at")


def test_without_a_link_every_strategy_answers_on_the_edge() -> None:
    model = model_of(1)
    for per_j in (0.0, 0.01, 1.0):
        found = model.solve(Link(up=False), Prices(per_j))
        assert not found.policy.sends
        assert found.strategy == "tables" or found.strategy.startswith("local at")


def test_a_long_record_is_thinned_and_stays_within_its_limit(monkeypatch: Any) -> None:
    whole = model_of(2)
    monkeypatch.setattr(place_record, "CELLS_LIMIT", 600)
    thin = model_of(2)
    assert [len(m.recorded.local_bins) for m in (whole, thin)] == [400, 200]
    for name, values in vars(thin.recorded).items():
        assert (values == getattr(whole.recorded, name)[::2]).all(), name


DAMAGED: list[tuple[dict[str, Any], str]] = [
    ({"t_max": 4}, "local_edges has 3 rows, expected 4"),
    ({"t_max": 0}, "T_max is 0"),
    ({"local_right": ((0.5,) * 4,) * 2}, "local_right has 2 rows, expected 3"),
    ({"local_right": ((0.5,) * 3,) * 3}, "a row of local_right has 3 numbers, expected 4"),
    ({"cloud_right": ((0.5,) * 4, (0.5,) * 4, (2.0,) * 4)}, r"cloud_right holds \[2.0\]"),
    ({"wait": (((0.25,) * 4,) * 3,) * 2}, "wait at t = 1 has 3 rows, expected 4"),
    ({"ask": (((0.25,) * 5,) * 4,) * 3}, "a row of ask at t = 1 has 5 numbers, expected 4"),
    ({"go_on": ()}, "go_on has 0 rows, expected 2"),
    ({"first": (1.0,)}, "a row of first has 1 numbers, expected 4"),
    ({"step_j": (1.0,)}, "a row of step_j has 1 numbers, expected 3"),
    ({"code_bits": -1}, "-1 bits"),
    ({"record": "!"}, "its record is not one of samples with 3 timesteps"),
    ({"record": "AAAA" * 2 + "AA=="}, "its record is not one"),
    ({"record": "////"}, "bins that its tables do not have"),
    ({"local_edges": ((0.1,) * 8,) * 3}, "9 bins, at most 8"),
]


@pytest.mark.parametrize(("change", "problem"), DAMAGED, ids=[p for _, p in DAMAGED])
def test_a_damaged_model_is_one_clear_line(change: dict[str, Any], problem: str) -> None:
    raw = json.loads(json.dumps(to_dict(model_of(0)) | change))
    with pytest.raises(ConfigError, match=problem):
        from_dict(PlaceModel, raw)


def test_model_and_policy_go_to_json_and_back_and_give_other_tables_without_data() -> None:
    model = model_of(3)
    kept = from_dict(PlaceModel, json.loads(json.dumps(to_dict(model))))
    assert kept == model
    prices = Prices(0.01, 1.0)
    up = kept.solve(Link(message_s=0.01), prices).policy
    down, *_ = kept.solve(Link(up=False), prices)
    assert up.sends
    assert not down.sends
    assert from_dict(PlacePolicy, json.loads(json.dumps(to_dict(up)))) == up


def test_a_link_that_fails_within_a_sample_is_survived_by_the_other_policy() -> None:
    model = model_of(3)
    down, *_ = model.solve(Link(up=False), Prices(0.0, 1.0))
    for sent in (0, 1, 2):
        _, action = down.edge_step(sent, 3, np.array([1.0, 2.0, 3.0]))
        assert action is Action.LOCAL


def test_a_nan_asks_the_cloud_if_there_is_one() -> None:
    model = model_of(3)
    nan, good = np.array([np.nan, 1, 2]), np.array([0.0, 50, 0])
    up, *_ = model.tables(Link(message_s=0.01), Prices(0.01, 1.0))
    down, *_ = model.solve(Link(up=False), Prices(0.01, 1.0))
    assert up.edge_step(0, 1, nan) == (1, Action.SEND)
    assert up.cloud_step(1, 1, nan) == (1, Action.CONTINUE)
    assert up.cloud_step(1, 1, good) == (1, Action.STOP)
    assert up.cloud_step(3, 3, nan) == (3, Action.STOP)
    assert down.edge_step(0, 1, nan) == (0, Action.WAIT)
    assert down.edge_step(0, 3, nan) == (0, Action.LOCAL)


def test_bad_input_is_refused() -> None:
    policy, _ = model_of(0, bins=2).tables(Link(), Prices())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"t_max": 4}, "for T_max = 3, not 4"),
        ({"cloud_table": ((STOP,),) * 3}, "t = 1 does not fit its bins"),
        ({"edge_table": policy.edge_table[::-1]}, "does not fit"),
        ({"cloud_table": ((LOCAL, STOP),) * 3}, "not possible there"),
        (
            {"edge_table": (*policy.edge_table[:2], ((WAIT, WAIT),) * 3)},
            "t = 3 holds an action that is not possible",
        ),
        ({"local_gain": 0.0}, "gain 0.0"),
    ]
    for change, message in changes:
        with pytest.raises(ConfigError, match=message):
            replace(policy, **change)
    with pytest.raises(ConfigError, match=r"expected \(samples, classes, 3\)"):
        decide_place(policy, np.zeros((2, 3, 3)), np.zeros((2, 3, 4)))
    with pytest.raises(ConfigError, match="message_s -1 is not a cost"):
        Link(message_s=-1)
    with pytest.raises(ConfigError, match="per_s inf"):
        Prices(per_s=np.inf)
    local, cloud, labels = two_heads(0)
    few = [CalibrationData(s[labels < 2], labels[labels < 2], 1.0) for s in (local, cloud)]
    with pytest.raises(DataError, match="no sample of class 2"):
        place_model(*few, step_j=1.0, code_bits=4)
    for bins in (0, 9):
        with pytest.raises(ConfigError, match=f"{bins} bins, outside 1 to 8"):
            model_of(0, bins=bins)
