"""Rows and calibrations over a bundle's exit heads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from cascades import exit_bundle, small_cascade

from energy import device, price
from neucodex_lava.bundle import Bundle, amend
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.evaluation.cascade.rows import (
    calibrate_structural,
    structural_choices,
    structural_rows,
)
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.policies import Numbers, choose_policy
from neucodex_lava.exits import ConfidencePolicy, QLearningPolicy
from neucodex_lava.exits.calibration import CalibrationOptions
from neucodex_lava.exits.table import policy_to_dict
from neucodex_lava.report.exit_heads import exits_by_class
from neucodex_lava.report.html import render_html
from neucodex_lava.report.results import Results
from neucodex_lava.report.summary import exit_notes

HOW = {
    "date": "2026-01-01", "command": "", "dataset": "digits", "data": "holdout",
    "samples": 9, "test_samples": 0, "seed": 0,
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return exit_bundle(tmp_path / "base")


def calibrated(bundle: Bundle, policy: ConfidencePolicy) -> Bundle:
    entry = {"policy": policy_to_dict(policy), "calibration": HOW}
    return amend(bundle, exits={**bundle.manifest.exits, "structural-confidence": entry})


def test_calibrated_policies_come_by_themselves_and_others_when_asked_for(bundle: Bundle) -> None:
    assert structural_choices(bundle) == []
    (asked,) = structural_choices(bundle, ["confidence", "topk", "oracle", "fixed"])
    assert asked.policy == ConfidencePolicy(3, 1.0, 0.9, logits="sum")
    names = ["confidence", "entropy", "topk", "patience"]
    found = structural_choices(bundle, names, Numbers(threshold=0.25, alpha=0.4))
    assert [choice.name for choice in found] == names
    assert found[0].policy.alpha == 0.4  # type: ignore[attr-defined]
    assert found[2].policy.thresholds == (0.25,) * 3  # type: ignore[attr-defined]
    kept = calibrated(bundle, ConfidencePolicy(3, 1.0, 0.625, logits="sum"))
    for asked_for in ([], ["confidence"]):
        (own,) = structural_choices(kept, asked_for, Numbers(alpha=0.4))
        assert (own.policy.alpha, own.calibration) == (0.625, HOW)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="chooses among exit heads"):
        choose_policy(kept, "structural-confidence")
    with pytest.raises(ConfigError, match="for 4 exits, the network has 3.*calibrate it again"):
        structural_choices(calibrated(bundle, ConfidencePolicy(4, 1.0)))


def test_a_row_counts_what_ran_and_which_exit_answered_each_class(bundle: Bundle) -> None:
    cascade, inputs = Cascade.of(bundle), small_cascade(0, 40)[1]
    labels = np.arange(40) % 5
    twins = TwinRuns(inputs)
    choices = structural_choices(bundle, ["confidence"], Numbers(alpha=0.6))
    model = device("horowitz-45nm")
    nothing = np.zeros(0, np.intp)
    rows = structural_rows(bundle, choices, None, nothing, twins, labels, energy_model=model)
    (row,) = rows
    whole = run_twin(Executor(cascade.net), inputs)
    expected = cascade.read_off(whole, choices[0].policy)
    assert (row.configuration, row.policy, row.split) == ("edge-only exits", "confidence", None)
    assert row.exits == ["exit_sp1", "exit_sp2", "readout"]
    assert row.accuracy == (expected.exits.predictions == labels).mean()
    assert row.exit_histogram == expected.exits.histogram(3)
    assert min(row.exit_histogram) > 0
    by_class = np.zeros((5, 3), int)
    np.add.at(by_class, (labels, expected.exits.timesteps - 1), 1)
    assert row.exit_histogram_by_class == by_class.tolist()
    assert row.syn_ops == expected.ledger.total("syn_ops") / 40
    assert row.energy_j == price(expected.ledger, model).mean_j
    assert row.mean_timesteps == 4
    assert row.payload_bits == row.measured_samples == 0

    results = Results(
        "digits", "x", "direct", 0, 2, "confidence", 0.6, "twin", "gated", model.name, rows
    )
    assert Results.from_json(results.to_json()).rows == rows
    plot = exits_by_class(row)
    assert plot is not None
    assert "class 4" in plot.svg
    assert "Exits by class" in render_html(results)
    (note,) = exit_notes(results)
    assert note.startswith("Edge-only exits: the whole network on the edge, which stops at one")
    placed = dataclasses.replace(row, configuration="P-B", split="SP1", exits=[])
    (note,) = exit_notes(dataclasses.replace(results, rows=[placed]))
    assert note.startswith("P-B, and P+B with the bottleneck: after each timestep the exit head")
    six = dataclasses.replace(row, exit_histogram=[1] * 6)
    with pytest.raises(Exception, match="6 entries, there are 3 exits"):
        Results.from_json(dataclasses.replace(results, rows=[six]).to_json())


def test_the_agent_learns_from_the_counted_work_of_each_exit(bundle: Bundle) -> None:
    cascade, inputs = Cascade.of(bundle), small_cascade(0, 60)[1]
    result = run_twin(Executor(cascade.net), inputs)
    # Labels that the second exit gets right, and no other one by more than chance.
    labels = cascade.sums(result)[..., 1].argmax(axis=1)
    labels[:5] = np.arange(5)
    options = CalibrationOptions(episodes=3000)
    made = calibrate_structural(bundle, "qlearning", result, labels, options)
    work = cascade.syn_ops(result.ledger).mean(axis=0)
    assert made.report["cost"] == "syn_ops"
    assert made.report["relative_cost"] == pytest.approx((work / work[-1]).tolist())
    assert isinstance(made.policy, QLearningPolicy)
    assert (made.policy.gain, made.policy.logits, made.policy.t_max) == (1.0, "sum", 3)
    exits = cascade.read_off(result, made.policy).exits
    assert np.bincount(exits.timesteps, minlength=4)[2] > 40
