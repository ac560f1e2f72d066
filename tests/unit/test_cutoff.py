"""SNNCutoff's table: what each exit gives on a released base, beside plain loops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import reseal

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.evaluation.calibration.samples import split_for_calibration
from neucodex_lava.evaluation.paper import cutoff
from neucodex_lava.evaluation.paper.cutoff import make_cutoff
from neucodex_lava.evaluation.paper.figures import PaperWords, words
from neucodex_lava.evaluation.paper.sheet import markdown

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"


def papers(**config: Any) -> dict[str, Any]:
    log = {"run": 0, "epoch": 0, "phase": "float"}
    numbers = dict.fromkeys(("loss", "train_accuracy", "test_accuracy", "seconds"), 0.5)
    return {"commands": ["neucodex train"], "config": config, "log": [log | numbers]}


@pytest.fixture
def family(tmp_path: Path) -> Path:
    folder = tmp_path / "exports" / "mine"
    shutil.copytree(RELEASED / "base", folder / "base")
    return folder


def train_as(family: Path, **training: Any) -> None:
    reseal(family / "base", training=papers(**training))


def test_each_exit_gives_what_plain_loops_give(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_as(family, loss={"loss": "tet", "rcs_weight": 0.01})
    known = {
        "architecture": "resnet-small", "dataset": "digits", "training": "TET + RCS",
        "exit": "Top-K(0)", "accuracy": 0.9, "mean_timesteps": 2.5, "source": "made up",
    }  # fmt: skip
    theirs = PaperWords("A paper", "made up", ("a claim",), (known,))
    monkeypatch.setattr(cutoff, "words", lambda name: theirs)
    made = make_cutoff(family.parent, samples=80)
    (group,) = made.groups
    assert (group.folder, group.t_max) == ("mine", 4)
    assert group.calibrated_on == "80 test samples, tested on the others"
    rows = {row.exit: row for row in group.rows}
    assert list(rows) == ["T = 4", "OCT", *cutoff.OURS]
    assert {row.training for row in group.rows} == {"TET + RCS"}

    bundle = load_bundle(family / "base")
    parts = split_for_calibration(bundle, 0, 80)
    labels = parts.check.samples.labels
    sums = run_twin(Executor(bundle.net), parts.check.take()).sums
    assert sums is not None
    answers = sums.argmax(axis=1)
    assert rows["T = 4"].correct == (answers[:, -1] == labels).sum()
    oct_ = []
    for right in (answers == labels[:, None]).tolist():
        t = 4
        while right[-1] and t > 1 and right[t - 2]:
            t -= 1
        oct_.append(t)
    assert rows["OCT"].mean_timesteps == np.mean(oct_)
    assert rows["OCT"].correct == rows["T = 4"].correct
    assert 1 <= rows["Top-K(0.05)"].mean_timesteps <= rows["Top-K(0)"].mean_timesteps < 4
    assert (rows["Top-K(0)"].paper_accuracy, rows["Top-K(0)"].paper_timesteps) == (0.9, 2.5)
    assert rows["OCT"].paper_accuracy is None

    text = markdown(made.sheet())
    mean = rows["Top-K(0)"].mean_timesteps
    assert f"| {mean:.2f} | {4 / mean:.2f} | 90.0 % | 2.50 |" in text
    assert "| – | – |" in text
    assert "training set with a dropout of 0.3 active, here it runs on the samples named" in text
    json.dumps(made.to_dict(), allow_nan=False)
    assert len(made.sheet().records) == len(group.rows)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"loss": {"loss": "tet", "rcs_weight": 0.0}}, "TET"),
        ({"loss": {"loss": "every-step"}}, "cross-entropy at every t"),
        ({}, "not recorded"),
    ],
)
def test_the_training_is_told(family: Path, training: dict[str, Any], said: str) -> None:
    train_as(family, **training)
    assert cutoff.training_of(load_bundle(family / "base")) == said
    made = make_cutoff(family, samples=30)
    missing = "No bundle here was trained by TET"
    assert any(missing in note for note in made.notes) == (said != "TET")


def test_a_dataset_that_is_not_there_is_a_note(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)
    reseal(family / "base", dataset="cifar10", data={"dataset": "cifar10", "timesteps": 4})
    made = make_cutoff(family)
    assert made.groups == ()
    assert made.notes[0].startswith("mine: not run: cifar10 needs a data root")


@pytest.mark.parametrize("name", ["cutoff", "sparq"])
def test_nothing_of_a_paper_is_told_without_its_source(name: str) -> None:
    paper = words(name)
    assert "arXiv" in paper.paper
    assert "not the tables" in paper.known
    assert all("(abstract" in claim for claim in paper.claims)
    assert all(cell["source"] for cell in paper.figures)
    assert paper.find(architecture="lenet5") == {}
