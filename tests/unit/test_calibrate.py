"""neucodex calibrate: on which samples, what a manifest keeps, and what stands in the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neucodex_lava.bundle import amend, load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.evaluation.calibration.bundles import CalibratedBundle, calibrate_bundles
from neucodex_lava.evaluation.calibration.results import Calibrated
from neucodex_lava.evaluation.policies import (
    Numbers,
    choose_policy,
    exit_name,
    named_policies,
    require_known,
)
from neucodex_lava.evaluation.samples import open_samples
from neucodex_lava.evaluation.sweep import evaluate_bundles, find_sweep
from neucodex_lava.exits import ComposedPolicy, ConfidencePolicy, EntropyPolicy, TopKPolicy, decide
from neucodex_lava.exits.calibration import KINDS, CalibrationOptions

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
PLAIN = {"confidence": {"alpha": 0.9}}


def copied(folder: Path, **changes: Any) -> Path:
    """A family of base and SP1, not calibrated, with these changes to both manifests."""
    for name in ("base", "sp1"):
        shutil.copytree(RELEASED / name, folder / name)
        amend(load_bundle(folder / name), **{"exits": PLAIN} | changes)
    return folder


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CalibratedBundle]]:
    """A calibrated family, and what was found."""
    folder = copied(tmp_path_factory.mktemp("family"))
    return folder, calibrate_bundles(folder, options=CalibrationOptions(level=0.05), command="c")


def test_every_kind_is_kept_and_nothing_else_changes(
    family: tuple[Path, list[CalibratedBundle]],
) -> None:
    folder, found = family
    assert [one.bundle.path.name for one in found] == ["base", "sp1"]
    for one in found:
        before, after = load_bundle(RELEASED / one.bundle.path.name), load_bundle(one.bundle.path)
        assert after.sha256 == before.sha256
        assert after.manifest == one.bundle.manifest
        assert set(after.manifest.exits) == {"confidence", *map(exit_name, KINDS)}
        assert after.manifest.exits["confidence"] == {"alpha": 0.9}
        for kind in KINDS:
            entry = after.manifest.exits[exit_name(kind)]
            how = entry["calibration"]
            assert (how["kind"], how["data"], how["dataset"]) == (kind, "test", "digits")
            assert (how["samples"], how["test_samples"], how["seed"]) == (180, 360, 0)
            assert how["command"] == "c"
            choice = choose_policy(after, exit_name(kind))
            assert choice.policy.t_max == 4
            assert choice.half is not None
    assert find_sweep(folder)[0].sha256 == found[0].bundle.sha256
    assert named_policies(["all"], [one.bundle for one in found])[-1] == "oracle"
    assert len(named_policies(["all", "topk"], [found[0].bundle])) == len(KINDS) + 5


def test_a_policy_is_never_scored_on_what_it_was_calibrated_on(
    family: tuple[Path, list[CalibratedBundle]],
) -> None:
    bundle, samples = family[1][1].bundle, family[1][1].samples
    used = set(samples.calibration.samples.index.tolist())
    choice = choose_policy(bundle, "topk")
    assert choice.half is not None
    seen = open_samples(bundle, leave_out=[choice.half])
    assert (len(used), len(seen), seen.left_out) == (180, 180, 180)
    assert not used & set(seen.samples.index.tolist())
    assert used | set(seen.samples.index.tolist()) == set(open_samples(bundle).samples.index)
    assert sorted(seen.samples.index) == sorted(samples.check.samples.index)
    per_class = np.bincount(seen.samples.labels)
    assert np.abs(per_class - np.bincount(samples.calibration.samples.labels)).max() <= 1
    plain = choose_policy(bundle, "confidence")
    assert plain.half is None
    assert plain.policy == ConfidencePolicy(4, bundle.readout_gain, 0.9)


def test_what_is_reported_is_what_the_policy_does(
    family: tuple[Path, list[CalibratedBundle]],
) -> None:
    one = family[1][1]
    base = family[1][0].bundle
    for part, counted in ((one.samples.calibration, False), (one.samples.check, True)):
        inputs, labels = part.take(), part.samples.labels
        sums, base_sums = (run_twin(Executor(b.net), inputs).sums for b in (one.bundle, base))
        assert sums is not None
        assert base_sums is not None
        kept = base_sums[..., -1].argmax(axis=1) == labels
        for policy in one.policies:
            exits = decide(choose_policy(one.bundle, policy.name).policy, sums)
            right = exits.predictions == labels
            drop = (sums[..., -1].argmax(axis=1) == labels).mean() - right.mean()
            if counted:
                assert policy.check is not None
                assert policy.check.drop == pytest.approx(drop)
                assert policy.check.mean_timesteps == exits.timesteps.mean()
                assert policy.check.lost == (kept & ~right).mean()
            else:
                told = policy.entry["calibration"]
                assert told["drop"] == pytest.approx(drop)
                assert told["mean_timesteps"] == exits.timesteps.mean()
                if policy.kind == "guaranteed":
                    assert told["lost"] == (kept & ~right).sum(), "the base's answers count"


def test_an_evaluation_leaves_calibration_samples_out_and_says_so(
    family: tuple[Path, list[CalibratedBundle]], tmp_path: Path
) -> None:
    base, sp1 = (one.bundle for one in family[1])
    names = ["confidence", "topk", "oracle"]
    found = evaluate_bundles(
        base, [sp1], policies=[*names, "topk"], confirm=0, out=tmp_path, samples=90
    )
    assert found.left_out == 180
    assert found.calibrations == {"topk": "180 samples of the test split, seed 0"}
    assert found.policy == "confidence, topk, oracle"
    rows = [r for r in found.rows if r.configuration == "D+B"]
    assert [r.policy for r in rows] == names
    assert {r.samples for r in found.rows} == {90}
    assert rows[2].mean_timesteps == rows[2].oct == rows[0].oct
    assert rows[2].accuracy == next(r.accuracy for r in found.rows if r.configuration == "F+B")
    assert [sum(c) for c in zip(*rows[1].exit_histogram_by_class)] == rows[1].exit_histogram
    assert {c.policy for c in found.curves} == {"fixed", "confidence", "topk"}
    page = (tmp_path / "report.html").read_text()
    assert "180 test samples on which an exit policy was calibrated are left out" in page
    assert "Accuracy against mean timesteps, SP1 with its bottleneck" in page
    assert "Exits by class, SP1 D+B confidence" in page
    # Each policy's energy is compared with the same policy on the whole network.
    alone = {r.policy: r for r in found.rows if r.configuration == "edge-only dynamic"}
    for row in rows:
        factor = alone[row.policy].energy_j / row.energy_j
        assert row.reductions["energy vs edge-only dynamic"] == pytest.approx(factor)


def test_held_out_training_samples_are_used_where_there_are_some(tmp_path: Path) -> None:
    held = dict(load_bundle(RELEASED / "base").manifest.data) | {"holdout": 200}
    folder = copied(tmp_path / "family", data=held)
    (found,) = calibrate_bundles(folder / "base", kinds=["confidence"], samples=100)
    how = found.bundle.manifest.exits["confidence-calibrated"]["calibration"]
    assert (how["data"], how["samples"]) == ("holdout", 100)
    assert found.samples.calibration.samples.split == "holdout"
    assert len(found.samples.check) == 100
    choice = choose_policy(found.bundle, "confidence-calibrated")
    assert choice.half is None
    assert choice.how == "100 samples held out of training, seed 0"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--kind", "guaranteed", "--samples", "100"], "needs at least 230 calibration samples"),
        (["--kind", "guess"], "unknown calibration 'guess': choose one of confidence, "),
        (["--drop", "2"], r"accuracy drop 2.0 is outside [0, 1)"),
        (["--level", "0"], "level 0.0 is outside (0, 1)"),
        (["--samples", "-1"], "-1 samples asked for"),
        (["--samples", "8"], "the calibration data has no sample of class"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_one_line(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path / "family")
    before = {p.name: (p / "manifest.json").read_bytes() for p in folder.iterdir()}
    assert run(["calibrate", str(folder / "base"), *args]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "done" not in line]
    assert len(error) == 1
    assert said in error[0]
    assert before == {p.name: (p / "manifest.json").read_bytes() for p in folder.iterdir()}


def test_kinds_that_are_not_possible_are_told_and_the_others_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path / "family")
    assert run(["calibrate", str(folder / "base"), "--samples", "100", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["bundles"]
    problems = {p["name"]: p["problem"] for p in one["policies"] if "problem" in p}
    assert list(problems) == ["guaranteed"]
    assert "needs at least 230 calibration samples, found 100" in problems["guaranteed"]
    assert one["check_samples"] == 100
    topk = next(p for p in one["policies"] if p["name"] == "topk")
    assert topk["policy"]["name"] == "topk"
    assert 0 <= topk["check"]["accuracy"] <= 1
    with pytest.raises(ConfigError, match="'guaranteed' is not calibrated in bundle.*calibrate"):
        choose_policy(load_bundle(folder / "base"), "guaranteed")


def test_names_joined_are_one_policy(
    family: tuple[Path, list[CalibratedBundle]], tmp_path: Path
) -> None:
    base, bundle = (one.bundle for one in family[1])
    single = {n: choose_policy(bundle, n).policy for n in ("confidence", "patience", "topk")}
    both = choose_policy(bundle, "confidence+patience")
    assert both.policy == ComposedPolicy((single["confidence"], single["patience"]), "all")
    assert (both.half, both.how) == (None, "")
    either = choose_policy(bundle, "confidence/topk", Numbers(alpha=0.5))
    given = ConfidencePolicy(4, bundle.readout_gain, 0.5)
    assert either.policy == ComposedPolicy((given, single["topk"]), "any")
    assert (either.half, either.how) == (choose_policy(bundle, "topk").half, either.parts[1].how)
    Numbers(patience=2).require_use(["confidence+patience"], 4)
    with pytest.raises(ConfigError, match="no effect on confidence\\+topk"):
        Numbers(patience=2).require_use(["confidence+topk"], 4)
    require_known(["confidence+patience", "all"])
    with pytest.raises(ConfigError, match="unknown exit policy 'best'"):
        require_known(["confidence/best"])
    names = ["confidence+patience", "confidence/topk"]
    found = evaluate_bundles(base, [bundle], policies=names, confirm=0, out=tmp_path, samples=30)
    rows = [r for r in found.rows if r.configuration == "D+B"]
    assert [r.policy for r in rows] == names
    assert rows[0].mean_timesteps > rows[1].mean_timesteps
    assert found.left_out == 180


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("composed", "needs the names of its parts: confidence+patience stops when all"),
        ("confidence+", "'confidence+' lacks a name beside its +: join names by +"),
        ("confidence+patience/topk", "is joined by both + and /"),
        ("confidence+best", "unknown exit policy 'best': choose one of confidence"),
        ("confidence/oracle", "'oracle' cannot be a part"),
        ("place", "'place' chooses where to answer, not when to stop: evaluate shows"),
    ],
)
def test_names_that_make_no_policy_are_one_line(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(RELEASED / "sp1")
    for args in (["evaluate", bundle, "--confirm", "0", "--out", str(tmp_path)], ["infer", bundle]):
        if (name, args[0]) == ("place", "infer"):
            continue  # takes it, where an exit head lies before the cut
        assert run([*args, "--policy", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_parts_on_different_halves_are_refused(tmp_path: Path) -> None:
    exits = {"mine": entry(thresholds=[1.0] * 4), "other": entry(thresholds=[1.0] * 4)}
    exits["other"]["calibration"]["seed"] = 3
    bundle = load_bundle(copied(tmp_path / "family", exits=exits) / "base")
    with pytest.raises(
        ConfigError, match=r"'mine\+other' .* different halves .*seeds 0, 3.*calibrate"
    ):
        choose_policy(bundle, "mine+other")


def test_policies_that_come_by_themselves_are_not_offered(tmp_path: Path) -> None:
    exits = {"structural-topk": entry(), "topk": entry()}
    bundle = load_bundle(copied(tmp_path / "family", exits=exits) / "base")
    with pytest.raises(ConfigError, match="choose one of .* fixed, topk, oracle, all .*by itself"):
        choose_policy(bundle, "best")


def test_all_kinds_replace_what_was_calibrated_and_say_what_they_remove(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {**PLAIN, "guaranteed": entry(), "topk": entry()}
    folder = copied(tmp_path / "family", exits=old)
    assert run(["calibrate", str(folder / "base"), "--seed", "7"]) == 0
    assert "No longer in the bundle, calibrated before: guaranteed." in capsys.readouterr().out
    bundle = load_bundle(folder / "base")
    assert set(bundle.manifest.exits) == {"confidence", *map(exit_name, KINDS)} - {"guaranteed"}
    halves = {
        choose_policy(bundle, n).half for n in named_policies(["topk", "confidence"], [bundle])
    }
    assert {half.seed for half in halves if half is not None} == {7}


def test_one_kind_from_another_half_is_refused(tmp_path: Path) -> None:
    old = {**PLAIN, "topk": entry(), "entropy-calibrated": entry()}
    folder = copied(tmp_path / "family", exits=old)
    seven = CalibrationOptions(seed=7)
    before = (folder / "base" / "manifest.json").read_bytes()
    with pytest.raises(
        ConfigError, match="keeps 'entropy-calibrated' and 1 more, .*seed 0.*--seed 0, or every"
    ):
        calibrate_bundles(folder / "base", kinds=["patience"], options=seven)
    assert (folder / "base" / "manifest.json").read_bytes() == before
    kinds = ["topk", "entropy"]
    (found,) = calibrate_bundles(folder / "base", kinds=kinds, options=seven)
    assert (set(found.bundle.manifest.exits) - {"confidence"}, found.removed) == (
        {"topk", "entropy-calibrated"},
        [],
    )
    (found,) = calibrate_bundles(folder / "base", kinds=["patience"], options=seven)
    assert len(found.bundle.manifest.exits) == 4


def test_place_without_an_exit_head_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path / "family")
    for target, cut in ((folder / "sp1", "its cut"), (folder, "any cut")):
        assert run(["calibrate", str(target), "--kind", "place"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"no exit head before {cut} to answer on the edge: train with --exit-heads" in line


def test_the_table_says_what_its_words_mean(
    family: tuple[Path, list[CalibratedBundle]],
) -> None:
    one = family[1][0]
    plain = one.table().caption
    assert "Points lost: accuracy that stopping early costs" in plain
    assert "structural" not in plain
    assert "place" not in plain
    rows = [Calibrated("topk", n, problem="-") for n in ("structural-topk", "place-sp1")]
    caption = dataclasses.replace(one, policies=[*one.policies, *rows]).table().caption
    assert "structural-...: along the exit heads; their timesteps count exits" in caption
    assert "place-...: after each timestep the exit head before this cut answers" in caption


def entry(**policy: Any) -> dict[str, Any]:
    how = {
        "date": "", "command": "", "dataset": "digits", "data": "test", "samples": 5, "seed": 0,
        "test_samples": 360,
    }  # fmt: skip
    return {"policy": {"name": "topk", "t_max": 4, "gain": 55.0} | policy, "calibration": how}


def test_thresholds_for_another_t_max_or_test_split_are_refused(tmp_path: Path) -> None:
    of_three = entry(t_max=3, thresholds=[1.0] * 3)
    short = entry(thresholds=[1.0] * 3)
    other = entry(thresholds=[1.0] * 4)
    other["calibration"]["test_samples"] = 100
    exits = {"topk": of_three, "short": short, "other": other}
    bundle = load_bundle(copied(tmp_path / "family", exits=exits) / "base")
    with pytest.raises(ConfigError, match="for T_max = 3, bundle .* has T_max = 4.*calibrate"):
        choose_policy(bundle, "topk")
    with pytest.raises(ConfigError, match="3 thresholds for T_max = 4"):
        choose_policy(bundle, "short")
    half = choose_policy(bundle, "other").half
    assert half is not None
    with pytest.raises(ConfigError, match="half of 100 test samples of 'digits', of which 360"):
        open_samples(bundle, leave_out=[half])
    assert len(open_samples(bundle, 9, leave_out=[])) == 9


def test_a_policy_that_never_stops_is_stopped_at_t_max(tmp_path: Path) -> None:
    never = entry(thresholds=[None] * 4)
    bundle = load_bundle(copied(tmp_path / "family", exits={"never": never}) / "sp1")
    policy = choose_policy(bundle, "never").policy
    inputs = open_samples(bundle, 5).take()
    sums = run_twin(Executor(bundle.net), inputs).sums
    assert sums is not None
    exits = decide(policy, sums)
    assert exits.timesteps.tolist() == [4] * 5
    assert (exits.predictions == sums[..., -1].argmax(axis=1)).all()


def test_given_numbers_go_before_calibrated_ones(
    family: tuple[Path, list[CalibratedBundle]],
) -> None:
    bundle = family[1][0].bundle
    gain = bundle.readout_gain
    given = choose_policy(bundle, "topk", Numbers(threshold=2.5))
    assert given.policy == TopKPolicy(4, gain, (2.5,) * 4)
    assert given.half is None
    assert choose_policy(bundle, "topk", Numbers(alpha=0.5)).half is not None
    entropy = choose_policy(bundle, "entropy", Numbers(threshold=0.1, patience=2)).policy
    assert entropy == EntropyPolicy(4, gain, 0.1)
    with pytest.raises(ConfigError, match="--patience has no effect on topk or entropy"):
        Numbers(patience=2).require_use(["topk", "entropy"], 4)
    with pytest.raises(
        ConfigError, match="unknown exit policy 'best'.*topk-snncutoff, oracle, all"
    ):
        choose_policy(bundle, "best")
    with pytest.raises(ConfigError, match="the oracle knows labels"):
        choose_policy(bundle, "oracle")
    with pytest.raises(ConfigError, match="one exit policy decides while a sample runs"):
        choose_policy(bundle, "all")


def test_without_any_sample_of_a_class_nothing_is_calibrated(tmp_path: Path) -> None:
    held = dict(load_bundle(RELEASED / "base").manifest.data) | {"holdout": 7}
    folder = copied(tmp_path / "family", data=held)
    with pytest.raises(DataError, match=r"no sample of class \d \('\d'\) and \d more"):
        calibrate_bundles(folder / "base")
    assert load_bundle(folder / "base").manifest.exits == PLAIN
