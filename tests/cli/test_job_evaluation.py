"""What an evaluation claims of Lava and the bridge really ran: watched, and tampered with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from main_job import (
    BASE_CODE,
    CODE,
    CONFIRM,
    INPUT,
    T_MAX,
    Events,
    Job,
    answer,
    command,
    configurations,
    ran,
    rows_of,
)

from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.session import EdgeSession, StepResult
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.exits import max_softmax

pytestmark = pytest.mark.usefixtures("one_thread")


def sure_half(bundles: list[Bundle]) -> float:
    """An alpha that at least half of the confirmed samples of every bundle reach at t = 1."""
    medians: list[float] = []
    for bundle in bundles:
        inputs, _ = load_samples(bundle, CONFIRM)
        sums = run_twin(Executor(bundle.net), inputs).sums
        policy: Any = make_policy(bundle, "confidence", 0.5)
        medians.append(float(np.median(max_softmax(policy.read(sums))[:, 0])))
    return min(medians) - 1e-9


@pytest.fixture(scope="module")
def evaluated(job: Job) -> tuple[dict[str, Any], Events]:
    """SP1's evaluation in which every sample also runs for real, and what was seen of that."""
    events = Events()
    alpha = sure_half([load_bundle(job.bundle(name)) for name in ("base", "sp1")])
    with pytest.MonkeyPatch.context() as monkeypatch:
        events.watch(monkeypatch)
        results = answer(
            "evaluate", job.bundle("sp1"), "--samples", CONFIRM, "--confirm", CONFIRM,
            "--alpha", alpha, "--out", job.folder / "report",
        )  # fmt: skip
    return results, events


@pytest.mark.lava
def test_lava_steps_exactly_the_timesteps_that_the_table_says(
    evaluated: tuple[dict[str, Any], Events],
) -> None:
    results, events = evaluated
    rows = rows_of(results)
    assert list(rows) == configurations("SP1")
    on_edge = [row for (_, name), row in rows.items() if name != "cloud-only"]
    assert len(events.edge) == sum(sum(ran(row)) for row in on_edge)
    samples = events.edge_samples()
    assert len(samples) == CONFIRM * len(on_edge)
    for i, row in enumerate(on_edge):
        lengths = [len(s) for s in samples[CONFIRM * i : CONFIRM * (i + 1)]]
        assert sorted(lengths) == ran(row)
        assert row["mean_timesteps"] == sum(lengths) / CONFIRM
    for split, fixed, dynamic in (
        (None, "edge-only", "edge-only dynamic"),
        ("SP1", "F-B", "D-B"),
        ("SP1", "F+B", "D+B"),
    ):
        whole = sum(ran(rows[split, fixed]))
        assert whole == CONFIRM * T_MAX
        assert sum(ran(rows[split, dynamic])) < whole, "a sample that stops early runs no more"
    assert len({session for session, *_ in events.edge}) == 3, "whole base, base at SP1, SP1"
    assert events.children == [True] * 3


@pytest.mark.lava
def test_what_lava_gave_is_what_the_bridge_sent(
    evaluated: tuple[dict[str, Any], Events], job: Job
) -> None:
    results, events = evaluated
    rows = rows_of(results)
    linked = [row for (_, name), row in rows.items() if not name.startswith("edge-only")]
    assert len(events.cloud) == sum(sum(ran(row)) for row in linked)
    sent = [code for code, *_ in events.cloud]
    codes = [r.code for _, r, _ in events.edge if r.code.shape in (CODE, BASE_CODE)]
    received = [code for code in sent if code.shape in (CODE, BASE_CODE)]
    assert len(codes) == len(received) > 0
    assert all(np.array_equal(a, b) for a, b in zip(codes, received))
    assert any(code.any() for code in codes)
    inputs, _ = load_samples(load_bundle(job.bundle("base")), CONFIRM)
    frames = [inputs[n, ..., t] for n in range(CONFIRM) for t in range(T_MAX)]
    raw = [code for code in sent if code.shape == INPUT]
    assert len(raw) == len(frames)
    assert all(np.array_equal(a, b) for a, b in zip(frames, raw))


@pytest.mark.lava
def test_lava_answers_as_the_network_does(
    evaluated: tuple[dict[str, Any], Events], job: Job
) -> None:
    """The last node's spikes and the running sums, from the executor, against each real step."""
    _, events = evaluated
    assert events.edge
    base, sp1 = (load_bundle(job.bundle(name)) for name in ("base", "sp1"))
    inputs, _ = load_samples(base, CONFIRM)
    runs = [run_twin(Executor(b.net), inputs, record=True) for b in (base, base, sp1)]
    cuts = [len(base.net.nodes), base.manifest.split_points["SP1"], sp1.net.cut]
    names = [b.net.nodes[cut - 1].name for b, cut in zip((base, base, sp1), cuts)]
    sessions = list(dict.fromkeys(session for session, *_ in events.edge))
    for session, result, _ in events.edge:
        twin, name = runs[sessions.index(session)], names[sessions.index(session)]
        n, t = result.sample % CONFIRM, result.timestep - 1
        assert twin.spikes is not None
        assert np.array_equal(result.code, twin.spikes[name][n, ..., t])
        if result.sums is not None:
            assert twin.sums is not None
            assert np.array_equal(result.sums, twin.sums[n, :, t])


@pytest.mark.lava
def test_times_are_those_that_the_real_steps_took(
    evaluated: tuple[dict[str, Any], Events],
) -> None:
    results, events = evaluated
    assert all(0 < r.seconds <= around for _, r, around in events.edge)
    assert all(0 < r.cloud_s < r.roundtrip_s <= around for _, r, around in events.cloud)
    assert len(events.measured) == len(results["rows"])
    edge = iter([r.seconds for _, r, _ in events.edge])
    cloud = iter([(r.roundtrip_s, r.cloud_s) for _, r, _ in events.cloud])
    for row, measured in zip(results["rows"], events.measured):
        assert row["measured_samples"] == CONFIRM
        timesteps = measured.exits.timesteps
        assert sorted(timesteps) == ran(row)
        if row["configuration"] == "cloud-only":
            assert row["edge_s"] is None
        else:
            expected = [sum(next(edge) for _ in range(t)) for t in timesteps]
            assert measured.edge_s == pytest.approx(expected)
            assert row["edge_s"] == pytest.approx(sum(expected) / CONFIRM)
            assert len(set(expected)) > 1, "no two samples take the same time"
        if row["configuration"].startswith("edge-only"):
            assert (row["roundtrip_s"], row["cloud_s"]) == (None, None)
        else:
            times = np.array([np.sum([next(cloud) for _ in range(t)], axis=0) for t in timesteps])
            assert measured.roundtrip_s == pytest.approx(times[:, 0])
            assert measured.cloud_s == pytest.approx(times[:, 1])
            assert row["roundtrip_s"] == pytest.approx(times[:, 0].mean())
            assert row["cloud_s"] == pytest.approx(times[:, 1].mean())
            assert len(set(times[:, 0])) > 1
    assert next(edge, None) is next(cloud, None) is None


@dataclass(frozen=True)
class Flip:
    """One bit of SP1's code of a sample at T_max, and whether the answer changes with it."""

    sample: int
    bit: int
    changes_answer: bool


@pytest.fixture(scope="module")
def flips(job: Job) -> list[Flip]:
    """All single bits whose flip changes the running sums."""
    bundle = load_bundle(job.bundle("sp1"))
    inputs, _ = load_samples(bundle, CONFIRM)
    spikes = run_twin(Executor(bundle.net), inputs, record=True).spikes
    assert spikes is not None
    codes = spikes[bundle.net.edge_nodes[-1].name]
    tail = TorchTail(bundle.net, bundle.sha256, bundle.readout_gain)
    found: list[Flip] = []
    for n in range(CONFIRM):
        state: Any = tail.new_state()
        for t in range(T_MAX - 1):
            state, _ = tail.step(state, codes[n, ..., t])
        _, right = tail.step(state, codes[n, ..., T_MAX - 1])
        for bit in range(codes[n, ..., 0].size):
            code = codes[n, ..., T_MAX - 1].copy()
            code.flat[bit] ^= 1
            _, sums = tail.step(state, code)
            if not np.array_equal(sums, right):
                found.append(Flip(n, bit, sums.argmax() != right.argmax()))
    return found


def evaluate_flipped(
    flip: Flip, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit status and last line of an evaluation in which one bit that left Lava was flipped."""
    real = EdgeSession.step
    done: list[int] = []

    def tampered(session: EdgeSession, frame: np.ndarray) -> StepResult:
        result = real(session, frame)
        if result.code.shape != CODE or (result.sample, result.timestep) != (flip.sample, T_MAX):
            return result
        code = result.code.copy()
        code.flat[flip.bit] ^= 1
        done.append(flip.bit)
        return replace(result, code=code)

    monkeypatch.setattr(EdgeSession, "step", tampered)
    status, _, err = command(
        "evaluate", job.bundle("sp1"), "--samples", CONFIRM, "--confirm", CONFIRM, "--out", out
    )
    assert done == [flip.bit]
    return status, err.strip().splitlines()[-1]


@pytest.mark.lava
def test_one_flipped_bit_that_changes_an_answer_ends_the_evaluation(
    flips: list[Flip], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = next(f for f in flips if f.changes_answer)
    status, line = evaluate_flipped(flip, job, tmp_path / "report", monkeypatch)
    assert status == 2
    assert line.startswith("neucodex: SP1 F+B: ")
    assert f"sample {flip.sample} differ" in line
    assert "between Lava and the executor" in line
    assert not (tmp_path / "report").exists(), "no report of answers that do not agree"


@pytest.mark.lava
def test_one_flipped_bit_that_changes_only_the_sums_ends_the_evaluation(
    flips: list[Flip], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = next(f for f in flips if not f.changes_answer)
    status, line = evaluate_flipped(flip, job, tmp_path / "report", monkeypatch)
    assert status == 2
    assert line.startswith("neucodex: SP1 F+B: ")
    assert f"sample {flip.sample} differ" in line
