"""Exit policies: the step form equals the offline form, and both equal hand-worked decisions."""

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import exits as exits_benchmark
from neucodex_lava.errors import ConfigError
from neucodex_lava.exits import (
    POLICIES,
    Action,
    ComposedPolicy,
    ConfidencePolicy,
    EntropyPolicy,
    ExitPolicy,
    FixedPolicy,
    OraclePolicy,
    PatiencePolicy,
    QLearningPolicy,
    TopKPolicy,
    check_t_max,
    decide,
    decide_stepwise,
    max_softmax,
    normalised_entropy,
    policy_from_dict,
    policy_to_dict,
    predicted,
    top_gap,
)


def running_sums(samples: int, classes: int, t_max: int, seed: int, spread: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-spread, spread + 1, (samples, classes, t_max)).cumsum(axis=2)


@st.composite
def leaf_policies(draw: Any, t_max: int) -> ExitPolicy:
    kind = draw(st.sampled_from([*POLICIES][:-1]))
    if kind == "fixed":
        return FixedPolicy(t_max, draw(st.integers(1, t_max)))
    if kind == "patience":
        return PatiencePolicy(t_max, draw(st.integers(1, 5)))
    numbers: dict[str, Any] = {
        "t_max": t_max,
        "gain": draw(st.floats(0.5, 500)),
        "logits": draw(st.sampled_from(["mean", "sum"])),
        "temperature": draw(st.sampled_from([1.0, 0.3, 2.5])),
    }
    if kind == "confidence":
        return ConfidencePolicy(**numbers, alpha=draw(st.floats(0.01, 1)))
    if kind == "entropy":
        return EntropyPolicy(**numbers, threshold=draw(st.floats(0, 1)))
    if kind == "topk":
        row = st.lists(st.none() | st.floats(-1, 50), min_size=t_max, max_size=t_max)
        return TopKPolicy(**numbers, thresholds=tuple(draw(row)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = rng.normal(size=(t_max, draw(st.integers(1, 12))))
    return QLearningPolicy(**numbers, advantage=tuple(map(tuple, table.tolist())))


@st.composite
def any_policy(draw: Any, t_max: int) -> ExitPolicy:
    parts = draw(st.lists(leaf_policies(t_max), min_size=1, max_size=3))
    if len(parts) == 1:
        return parts[0]
    return ComposedPolicy(tuple(parts), draw(st.sampled_from(["any", "all"])))


@given(
    data=st.data(),
    classes=st.integers(1, 130),
    t_max=st.integers(1, 8),
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([1, 30, 2000, 100_000]),
    dtype=st.sampled_from([np.int64, np.int32, np.float32, np.float64]),
    nans=st.sampled_from([0.0, 0.02, 0.3]),
)
@settings(max_examples=150, deadline=None)
def test_every_policy_is_the_same_step_by_step_and_offline(
    data: Any, classes: int, t_max: int, seed: int, spread: int, dtype: Any, nans: float
) -> None:
    policy = data.draw(any_policy(t_max))
    sums = running_sums(20, classes, t_max, seed, spread).astype(dtype)
    if sums.dtype.kind == "f":
        sums[np.random.default_rng(seed).random(sums.shape) < nans] = np.nan
    step, offline = decide_stepwise(policy, sums), decide(policy, sums)
    assert (step.timesteps == offline.timesteps).all()
    assert (step.predictions == offline.predictions).all()
    assert (step.actions == offline.actions).all()
    assert step.not_numbers == offline.not_numbers
    early = offline.timesteps < t_max
    stopped = sums[np.arange(20), :, offline.timesteps - 1]
    assert not np.isnan(stopped[early]).any()


@given(classes=st.integers(1, 1100), seed=st.integers(0, 2**32), count=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_max_softmax_of_one_sample_is_that_of_many_to_the_last_bit(
    classes: int, seed: int, count: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(count, 3, classes)) * 5
    whole = max_softmax(logits)
    alone = [[float(max_softmax(logits[n, t].copy())) for t in range(3)] for n in range(count)]
    assert whole.tolist() == alone


def test_a_threshold_exactly_at_the_confidence_stops_in_both_forms() -> None:
    # The hardest case for equality: alpha is a confidence that was computed offline.
    sums = running_sums(40, 10, 4, 5, 200)
    probe = ConfidencePolicy(4, 64.0)
    for confidence in max_softmax(probe.read(sums))[:, :3].ravel():
        policy = ConfidencePolicy(4, 64.0, float(confidence))
        step, offline = decide_stepwise(policy, sums), decide(policy, sums)
        assert (step.timesteps == offline.timesteps).all()
        above = ConfidencePolicy(4, 64.0, min(1.0, float(np.nextafter(confidence, 2))))
        assert (decide(above, sums).timesteps == decide_stepwise(above, sums).timesteps).all()


def test_confidence_by_hand() -> None:
    # gain 2: S = (4, 0) after t = 1 gives y = (2, 0); S = (12, 0) after t = 2 gives mean (3, 0)
    sums = np.array([[[4, 12], [0, 0]]])
    first, second = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-3))
    policy = ConfidencePolicy(2, 2.0)
    found = max_softmax(policy.read(sums)).tolist()
    assert found == [[pytest.approx(first), pytest.approx(second)]]
    assert second > 0.9 > first  # 0.9526, 0.8808
    three = np.concatenate([sums, sums[..., -1:]], axis=2)
    assert decide(ConfidencePolicy(3, 2.0, 0.9), three).timesteps.tolist() == [2]
    assert decide(ConfidencePolicy(3, 2.0, 0.88), three).timesteps.tolist() == [1]
    assert decide(ConfidencePolicy(3, 2.0, 0.96), three).timesteps.tolist() == [3]
    total = max_softmax(ConfidencePolicy(2, 2.0, logits="sum").read(sums))[0, 1]
    assert total == pytest.approx(1 / (1 + math.exp(-6)))
    cooler = max_softmax(ConfidencePolicy(2, 2.0, temperature=0.5).read(sums))[0, 0]
    assert cooler == pytest.approx(1 / (1 + math.exp(-4)))


def test_entropy_by_hand() -> None:
    # p = 0.8, 0.2: H = 0.7219 bit, of 1 bit at most
    y = np.log(np.array([[0.8, 0.2], [0.5, 0.5], [1.0, 1e-300]]))
    assert normalised_entropy(y) == pytest.approx([0.721928, 1, 0], abs=1e-6)
    sums = np.log(np.array([[[0.8, 0.64], [0.2, 0.04]]]))  # mean logits: the same at both t
    assert decide(EntropyPolicy(2, 1.0, 0.722), sums).timesteps.tolist() == [1]
    assert decide(EntropyPolicy(2, 1.0, 0.721), sums).timesteps.tolist() == [2]


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 100, 1000])
def test_at_an_entropy_of_one_every_sample_stops_at_once(classes: int) -> None:
    unsure = np.zeros((2, classes, 3))
    unsure[1, 0] = 0.1
    assert decide(EntropyPolicy(3, 1.0, 1.0), unsure).timesteps.tolist() == [1, 1]
    almost = decide(EntropyPolicy(3, 1.0, 0.999), unsure).timesteps.tolist()
    assert almost[0] == (1 if classes == 1 else 3)


def test_topk_by_hand() -> None:
    assert top_gap(np.array([[3.0, 9.0, 5.0], [1.0, 1.0, 0.0]])).tolist() == [4, 0]
    sums = np.array([[[3, 9, 20], [1, 4, 5]]])  # gaps of the sums 2, 5, 15; of the means 2, 2.5, 5
    policy = TopKPolicy(3, 1.0, (2.0, 4.0, None), logits="sum")
    assert decide(policy, sums).timesteps.tolist() == [2]  # 2 > 2 is not
    assert decide(TopKPolicy(3, 1.0, (2.0, 4.0, None)), sums).timesteps.tolist() == [3]
    assert decide(TopKPolicy(3, 0.5, (None, 4.9, None)), sums).timesteps.tolist() == [2]


def test_patience_by_hand() -> None:
    predictions = [[0, 1, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [0, 1, 2, 0]]
    sums = np.eye(3)[np.array(predictions)].transpose(0, 2, 1)
    assert decide(PatiencePolicy(4, 1), sums).timesteps.tolist() == [3, 2, 2, 4]
    assert decide(PatiencePolicy(4, 2), sums).timesteps.tolist() == [4, 4, 3, 4]
    sums[2, 0, 1] = np.nan  # 2, NaN, 2, 2: it begins anew
    assert decide(PatiencePolicy(4, 1), sums).timesteps.tolist() == [3, 2, 4, 4]


def test_qlearning_by_hand() -> None:
    # Two bins: below and from a half. Exits at t = 2 in the upper one only.
    policy = QLearningPolicy(3, 1.0, ((-1.0, -1.0), (-1.0, 0.5), (0.0, 0.0)), logits="sum")
    sums = np.array([[[0.0, 3, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 9], [0, 0, 0], [0, 0, 0]]])
    assert decide(policy, sums).timesteps.tolist() == [2, 3]


def test_composed_by_hand() -> None:
    parts = (FixedPolicy(4, 2), FixedPolicy(4, 3))
    sums = np.zeros((1, 2, 4))
    assert decide(ComposedPolicy(parts, "any"), sums).timesteps.tolist() == [2]
    assert decide(ComposedPolicy(parts, "all"), sums).timesteps.tolist() == [3]


def test_the_oracle_stops_where_the_prediction_stays_right() -> None:
    predictions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    sums = np.eye(2)[predictions].transpose(0, 2, 1)
    exits = decide(OraclePolicy(3, np.zeros(4, int)), sums)
    assert exits.timesteps.tolist() == [1, 2, 3, 3]
    with pytest.raises(ConfigError, match="4 labels for 2 samples"):
        decide(OraclePolicy(3, np.zeros(4, int)), sums[:2])


def test_a_nan_is_not_confident_is_counted_and_never_the_answer() -> None:
    sums = np.zeros((2, 3, 3))
    sums[:, 1] = 50.0
    sums[0, 0, :2] = np.nan
    sums[1, 0, 2] = np.nan
    for policy in (ConfidencePolicy(3, 1.0, 0.5), FixedPolicy(3, 1)):
        for form in (decide, decide_stepwise):
            exits = form(policy, sums)
            assert exits.timesteps.tolist() == [3, 1]
            assert exits.predictions.tolist() == [1, 1]
            assert exits.not_numbers == 2  # the other sample's is never seen
    last = decide(FixedPolicy(3), sums)
    assert (last.predictions.tolist(), last.not_numbers) == ([1, 1], 3)
    assert predicted(np.array([[np.nan, -5, -7], [np.nan] * 3])).tolist() == [1, 0]


def test_steps_of_the_confidence_policy() -> None:
    policy = ConfidencePolicy(3, gain=1.0, alpha=0.9)
    assert policy.step(None, 1, np.array([1, 1, 1])) == (None, Action.CONTINUE)
    assert policy.step(None, 1, np.array([9, 1, 1])) == (None, Action.STOP)
    assert policy.step(None, 2, np.array([4, 1, 1])) == (None, Action.CONTINUE)
    assert policy.step(None, 3, np.array([1, 1, 1])) == (None, Action.STOP)


def test_the_prediction_is_that_of_the_timestep_it_stopped_at() -> None:
    sums = np.array([[[0, 9], [9, 0]], [[9, 9], [9, 0]]])
    exits = decide(ConfidencePolicy(2, 1.0, 0.9), sums)
    assert exits.timesteps.tolist() == [1, 2]
    assert exits.predictions.tolist() == [1, 0]
    assert exits.histogram(2) == [1, 1]
    tie = decide(FixedPolicy(2, 1), sums)
    assert tie.predictions.tolist() == [1, 0]  # the first of equal sums


@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 0.0])
def test_huge_sums_neither_overflow_nor_warn(value: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        sums = np.array([[value], [0.0]])[None]
        confidence = float(max_softmax(ConfidencePolicy(1, 1.0).read(sums))[0, 0])
    assert confidence == (0.5 if abs(value) < 1 else 1.0)


def test_alpha_of_one_stops_early_only_when_certain_to_the_last_bit() -> None:
    policy = ConfidencePolicy(2, 1.0, 1.0)
    assert policy.step(None, 1, np.array([30.0, 0.0]))[1] is Action.CONTINUE
    assert policy.step(None, 1, np.array([60.0, 0.0]))[1] is Action.STOP


@pytest.mark.parametrize(("timesteps", "expected"), [(None, 4), (1, 1), (3, 3), (4, 4)])
def test_the_fixed_policy_ignores_the_logits(timesteps: int | None, expected: int) -> None:
    sums = running_sums(7, 10, 4, 1, 100_000)
    policy = FixedPolicy(4, timesteps)
    for exits in (decide(policy, sums), decide_stepwise(policy, sums)):
        assert exits.timesteps.tolist() == [expected] * 7
        assert (exits.predictions == sums[..., expected - 1].argmax(axis=1)).all()
        assert (exits.actions == Action.STOP).all()


@pytest.mark.parametrize(
    "policy",
    [
        FixedPolicy(3),
        ConfidencePolicy(3, 64.0),
        TopKPolicy(3, 1.0, (0.0,) * 3),
        PatiencePolicy(3, 9),
    ],
)
def test_every_policy_stops_at_t_max(policy: ExitPolicy) -> None:
    unsure = np.zeros((5, 10, 3))
    assert decide(policy, unsure).timesteps.tolist() == [3] * 5
    for t in (3, 4, 99):
        assert policy.step(policy.start(), t, unsure[0, :, 0])[1] is Action.STOP


def test_nothing_runs_on_samples_that_are_not_there() -> None:
    for form in (decide, decide_stepwise):
        exits = form(ConfidencePolicy(4, 64.0), np.zeros((0, 10, 4)))
        assert exits.timesteps.shape == exits.predictions.shape == exits.actions.shape == (0,)
        assert exits.histogram(4) == [0, 0, 0, 0]


@pytest.mark.parametrize("form", [decide, decide_stepwise])
@pytest.mark.parametrize("shape", [(5, 10), (5, 10, 3), (5, 10, 5), (5, 0, 4)])
def test_sums_of_another_shape_are_refused(form: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected \(samples, classes, 4\)"):
        form(ConfidencePolicy(4, 64.0), np.zeros(shape))


POLICY_EXAMPLES = [
    FixedPolicy(4),
    FixedPolicy(4, 2),
    ConfidencePolicy(6, 63.5, 0.8, logits="sum", temperature=1.5),
    EntropyPolicy(4, 64.0, 0.1),
    TopKPolicy(3, 64.0, (1.5, 0.25, None)),
    PatiencePolicy(4, 2),
    QLearningPolicy(2, 1.0, ((0.5, -0.5), (0.0, 0.0)), logits="sum"),
    ComposedPolicy((PatiencePolicy(4), ComposedPolicy((FixedPolicy(4),))), "all"),
]


@pytest.mark.parametrize("policy", POLICY_EXAMPLES, ids=repr)
def test_policies_go_to_json_and_back(policy: ExitPolicy) -> None:
    text = json.dumps(policy_to_dict(policy))
    assert policy_from_dict(json.loads(text)) == policy


def test_every_policy_in_the_table_has_an_example() -> None:
    assert {type(p) for p in POLICY_EXAMPLES} == set(POLICIES.values())


def test_a_policy_as_data() -> None:
    assert policy_to_dict(ConfidencePolicy(4, 64.0)) == {
        "name": "confidence",
        "t_max": 4,
        "gain": 64.0,
        "alpha": 0.9,
        "logits": "mean",
        "temperature": 1.0,
    }
    assert policy_from_dict({"name": "confidence", "t_max": 4, "gain": 64}).start() is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"name": "oracle", "t_max": 4}, "unknown exit policy 'oracle'.*confidence, entropy"),
        ({"t_max": 4}, "unknown exit policy 'None'"),
        ({"name": ["fixed"], "t_max": 4}, "unknown exit policy"),
        ([], "expected an object"),
        ({"name": "fixed"}, "t_max"),
        ({"name": "fixed", "t_max": 4, "beta": 1}, "unknown field 'beta'"),
        ({"name": "fixed", "t_max": "4"}, "expected int"),
        ({"name": "fixed", "t_max": True}, "expected int"),
        ({"name": "fixed", "t_max": 0}, "T_max is 0"),
        ({"name": "fixed", "t_max": 4, "timesteps": 5}, r"5 timesteps is outside \[1, T_max = 4\]"),
        ({"name": "fixed", "t_max": 4, "timesteps": 0}, "0 timesteps is outside"),
        ({"name": "confidence", "t_max": 4}, "gain"),
        ({"name": "confidence", "t_max": 0, "gain": 1}, "T_max is 0"),
        ({"name": "confidence", "t_max": 4, "gain": 0}, "not a positive number"),
        ({"name": "confidence", "t_max": 4, "gain": math.inf}, "not a positive number"),
        ({"name": "confidence", "t_max": 4, "gain": 1, "logits": "last"}, "'last' is not one of"),
        ({"name": "confidence", "t_max": 4, "gain": 1, "temperature": 0}, "temperature 0"),
        ({"name": "entropy", "t_max": 4, "gain": 1, "threshold": 1.1}, r"outside \[0, 1\]"),
        (
            {"name": "topk", "t_max": 4, "gain": 1, "thresholds": [1, 2]},
            "2 thresholds for T_max = 4",
        ),
        ({"name": "topk", "t_max": 1, "gain": 1, "thresholds": [math.nan]}, "not all numbers"),
        ({"name": "topk", "t_max": 1, "gain": 1, "thresholds": 1}, "expected a list"),
        ({"name": "patience", "t_max": 4, "patience": 0}, "at least 1"),
        ({"name": "qlearning", "t_max": 2, "gain": 1, "advantage": [[1.0]]}, "1 rows for T_max"),
        ({"name": "qlearning", "t_max": 1, "gain": 1, "advantage": [[]]}, "empty"),
        ({"name": "qlearning", "t_max": 2, "gain": 1, "advantage": [[1], [1, 2]]}, "lengths"),
        ({"name": "qlearning", "t_max": 1, "gain": 1, "advantage": [[math.inf]]}, "numbers"),
        ({"name": "composed", "parts": []}, "no parts"),
        ({"name": "composed", "parts": 3}, "expected a list"),
        ({"name": "composed", "parts": [7]}, "expected an object, found 7"),
        ({"name": "composed", "parts": [], "t_max": 4}, "unknown field 't_max'"),
        (
            {"name": "composed", "parts": [{"name": "fixed", "t_max": t} for t in (2, 3)]},
            r"T_max = \[2, 3\]",
        ),
        (
            {"name": "composed", "mode": "some", "parts": [{"name": "fixed", "t_max": 1}]},
            "mode 'some'",
        ),
    ]
    + [
        ({"name": "confidence", "t_max": 4, "gain": 1, "alpha": a}, r"is outside \(0, 1\]")
        for a in (0, -0.1, 1.0000001, 90, math.nan, math.inf)
    ],
)
def test_bad_policies_are_refused_with_one_clear_line(raw: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        policy_from_dict(raw)
    assert "\n" not in str(caught.value)


def test_logits_must_be_mean_or_sum() -> None:
    with pytest.raises(ConfigError, match="not mean or sum"):
        ConfidencePolicy(4, 1.0, logits="last")  # type: ignore[arg-type]


def test_a_policy_for_another_t_max_is_refused() -> None:
    check_t_max(FixedPolicy(4), 4, "the bundle")
    with pytest.raises(ConfigError, match="for T_max = 4, the bundle has T_max = 6.*calibrate"):
        check_t_max(FixedPolicy(4), 6, "the bundle")


def test_a_step_of_any_policy_costs_under_20_microseconds() -> None:
    took = {case["case"]: case["ours_s"] for case in exits_benchmark.run()["cases"]}
    assert set(took) == {*POLICIES, "place, edge", "place, cloud"}
    assert {name: s for name, s in took.items() if s >= 20e-6} == {}


def test_importing_exits_brings_neither_torch_nor_lava() -> None:
    code = (
        "import sys, neucodex_lava.exits\n"
        "print(sorted({'torch', 'lava', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
