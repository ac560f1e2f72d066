"""The main job as people run it, small: whose answers stand in golden, verify, evaluate and demo.

Every stage may claim that SLAYER, Lava or the bridge ran. Here they are watched (wrappers that count
and delegate), and tampered with: a stage that did not really run them would not notice.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import neucodex_lava.demo as demo_module
from host_bridge import EdgeClient
from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import BottleneckConfig, DataConfig, ResNetConfig, TrainConfig
from neucodex_lava.edge.session import EdgeSession, StepResult
from neucodex_lava.evaluation import evaluate as evaluate_module
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.evaluation.policies import make_policy
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.models.slayer import cuba, synapse
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.runs import load_model

CONFIRM = 5
T_MAX = 2
INPUT, CODE, BASE_CODE = (1, 8, 8), (3, 8, 8), (4, 8, 8)
TRAINING = "--batch-size 32 --qat-epochs 1 --no-augment --threads 1".split()
OWN = (None, "edge-only"), (None, "edge-only dynamic"), (None, "cloud-only")


def configurations(*splits: str) -> list[tuple[str | None, str]]:
    """(split, configuration) of the rows of an evaluation of these split bundles."""
    return [*OWN, *((s, c) for s in splits for c in ("F-B", "D-B", "F+B", "D+B"))]


def command(*args: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([str(a) for a in args])
    # gRPC's asyncio objects die in cycles. A process that Lava forks later must not be the one that
    # collects them: it would wait for ever for a thread of gRPC's that it does not have.
    gc.collect()
    return status, out.getvalue(), err.getvalue()


def answer(*args: object, status: int = 0) -> dict[str, Any]:
    """The JSON of a command that ends with this status."""
    found, out, err = command(*args, "--json")
    assert found == status, out + err
    return json.loads(out)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def watch(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seen: Callable[..., None]
) -> None:
    """Delegate to the method, then call `seen(result, self, *args)`."""
    real = getattr(owner, name)

    def watched(self: Any, *args: Any, **options: Any) -> Any:
        result = real(self, *args, **options)
        seen(result, self, *args)
        return result

    monkeypatch.setattr(owner, name, watched)


@dataclass
class Slayer:
    """What was called of SLAYER while `SplitModel.run_slayer` ran.

    Attributes:
        inputs: of each call of `run_slayer`.
        dynamics: calls of SLAYER's neuron.
        forwards: calls of SLAYER's synapses, by kind.
    """

    inputs: list[np.ndarray] = field(default_factory=list)
    dynamics: int = 0
    forwards: dict[str, int] = field(default_factory=dict)
    inside: bool = False

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = SplitModel.run_slayer

        def run_slayer(model: SplitModel, inputs: np.ndarray, *args: Any, **options: Any) -> Any:
            self.inputs.append(inputs.copy())
            self.inside = True
            try:
                return real(model, inputs, *args, **options)
            finally:
                self.inside = False

        monkeypatch.setattr(SplitModel, "run_slayer", run_slayer)
        watch(monkeypatch, cuba.Neuron, "dynamics", self._neuron)
        for kind in ("Conv", "ConvTranspose", "Dense"):
            watch(monkeypatch, getattr(synapse, kind), "forward", self._synapse)

    def _neuron(self, *_: object) -> None:
        self.dynamics += self.inside

    def _synapse(self, _: object, layer: object, *__: object) -> None:
        kind = type(layer).__name__
        self.forwards[kind] = self.forwards.get(kind, 0) + self.inside


def silence_slayer(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLAYER's neurons as if nothing ever reached them: no potential, so no spike and no sum."""
    real = cuba.Neuron.dynamics

    def silent(self: Any, current: Any) -> Any:
        return tuple(torch.zeros_like(state) for state in real(self, current))

    monkeypatch.setattr(cuba.Neuron, "dynamics", silent)


@dataclass(frozen=True)
class Job:
    """A finished job: runs and bundles of a base and of SP1, and what was seen on the way."""

    folder: Path
    answers: dict[str, dict[str, Any]]
    slayer: dict[str, Slayer]

    def run_of(self, name: str) -> Path:
        return self.folder / "runs" / name

    def bundle(self, name: str) -> Path:
        return self.folder / "bundles" / name


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    made = Job(folder, {}, {"base": Slayer(), "sp1": Slayer()})
    base, sp1 = made.run_of("base"), made.run_of("sp1")
    network = ("--width", 0.25, "--timesteps", T_MAX, "--train-limit", 800)
    made.answers["train base"] = answer(
        "train", *network, "--epochs", 3, "--lr", 0.03, *TRAINING, "--out", base
    )
    bottleneck = ("--split", "SP1", "--channels", 3)
    made.answers["train sp1"] = answer(
        "finetune", base, *bottleneck, "--epochs", 2, "--lr", 0.02, *TRAINING, "--out", sp1
    )
    for name, slayer in made.slayer.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            slayer.watch(monkeypatch)
            made.answers[f"export {name}"] = answer(
                "export", made.run_of(name), "--out", made.bundle(name)
            )
    return made


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_the_executor_finds_the_accuracy_that_training_found(name: str, job: Job) -> None:
    found = job.answers[f"export {name}"]["accuracy"]["test"]
    assert found["samples"] == 360
    assert found["correct"] / 360 == job.answers[f"train {name}"]["test_accuracy"]
    assert found["correct"] > 90, "a network that learnt nothing would test nothing"


# --- golden and verify: SLAYER ---


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_export_runs_slayers_own_neurons_and_synapses_for_golden(name: str, job: Job) -> None:
    slayer, bundle = job.slayer[name], load_bundle(job.bundle(name))
    assert any(np.array_equal(x, bundle.golden.inputs) for x in slayer.inputs)
    assert slayer.dynamics >= len(bundle.net.nodes)
    kinds = [c.kind for _, c in bundle.net.connections()]
    assert slayer.forwards["Conv"] >= kinds.count("conv") > 0
    assert slayer.forwards["Dense"] >= kinds.count("dense") > 0
    assert slayer.forwards.get("ConvTranspose", 0) >= kinds.count("conv_transpose")
    for node in bundle.net.nodes[:-1]:
        assert bundle.golden.spikes[node.name].any(), "a silent network would agree with anything"


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_golden_is_what_slayer_says_even_when_slayer_is_wrong(
    name: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence_slayer(monkeypatch)
    out = tmp_path / name
    base = ("--base", job.bundle("base")) if name == "sp1" else ()
    status, _, err = command("export", job.run_of(name), "--out", out, *base)
    if status == 2:  # an export that looks for itself may refuse such a record
        assert "golden" in err
        return
    report = answer("verify", out, "--backends", "twin", status=1)
    assert report["spike_differences"] > 0
    assert report["first_difference"]["backend"] == "twin"


@pytest.mark.lava
def test_verify_with_a_run_is_exact_in_slayer_executor_and_lava(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    slayer = Slayer()
    slayer.watch(monkeypatch)
    report = answer("verify", job.bundle("sp1"), "--run", job.run_of("sp1"))
    assert report["backends"] == ["slayer", "twin", "fused", "reference"]
    assert "slayer" not in report["skipped"]
    net = load_bundle(job.bundle("sp1")).net
    assert slayer.dynamics >= len(net.nodes)
    for check in report["checks"]:
        assert check["spike_differences"] == check["counter_differences"] == 0, check
        nodes = net.nodes if check["backend"] in ("slayer", "twin") else net.edge_nodes
        assert check["layers"] == len(nodes)
        assert check["spikes_compared"] >= 3 * T_MAX * sum(n.size for n in nodes)


def differing(report: dict[str, Any]) -> dict[str, bool]:
    """Which backends differ in spikes or running sums."""
    return {c["backend"]: c["spike_differences"] > 0 for c in report["checks"]}


def test_verify_asks_slayer_not_the_golden_record(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence_slayer(monkeypatch)
    of_sp1 = (job.bundle("sp1"), "--run", job.run_of("sp1"))
    report = answer("verify", *of_sp1, "--backends", "slayer", "twin", status=1)
    assert differing(report) == {"slayer": True, "twin": False}
    assert report["first_difference"]["backend"] == "slayer"


def test_one_other_weight_in_the_checkpoint_is_found(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(job.run_of("sp1"), folder)
    _, model = load_model(folder)
    weight = model.block_list()[0].links()[0].synapse.weight
    key = next(name for name, p in model.named_parameters() if p is weight)
    path = folder / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    strongest = int(content["model"][key].abs().argmax())
    content["model"][key].view(-1)[strongest] *= -1
    torch.save(content, path)
    net, changed = load_bundle(job.bundle("sp1")).net, to_integer_net(load_model(folder)[1])
    pairs = list(zip(net.connections(), changed.connections()))
    assert sum(int((a.weight != b.weight).sum()) for (_, a), (_, b) in pairs) == 1
    report = answer(
        "verify", job.bundle("sp1"), "--run", folder, "--backends", "slayer", "twin", status=1
    )
    assert differing(report) == {"slayer": True, "twin": False}
    first = report["first_difference"]
    assert (first["backend"], first["layer"]) == ("slayer", net.nodes[0].name)


# --- evaluate: Lava and the bridge ---


@dataclass
class Events:
    """Each step of a Lava session and of a bridge client, in the order in which they happened.

    Attributes:
        edge: (session, result, seconds by a clock around the call).
        cloud: (code sent, reply, seconds by a clock around the call).
        measured: what `run_measured` made of them, by configuration.
        children: whether the sessions' Lava ran in living processes of its own.
    """

    edge: list[tuple[int, StepResult, float]] = field(default_factory=list)
    cloud: list[tuple[np.ndarray, Any, float]] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    children: list[bool] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        edge_step, cloud_step = EdgeSession.step, EdgeClient.step
        run_measured = evaluate_module.run_measured

        def on_edge(session: EdgeSession, frame: np.ndarray) -> StepResult:
            began = time.perf_counter()
            result = edge_step(session, frame)
            self.edge.append((id(session), result, time.perf_counter() - began))
            if len(self.children) < len({s for s, *_ in self.edge}):
                pids = session.pids
                alive = all(psutil.pid_exists(pid) and pid != os.getpid() for pid in pids)
                self.children.append(bool(pids) and alive)
            return result

        def on_cloud(client: EdgeClient, code: np.ndarray) -> Any:
            began = time.perf_counter()
            reply = cloud_step(client, code)
            self.cloud.append((code.copy(), reply, time.perf_counter() - began))
            return reply

        def measured(*args: Any, **options: Any) -> Measured:
            self.measured.append(run_measured(*args, **options))
            return self.measured[-1]

        monkeypatch.setattr(EdgeSession, "step", on_edge)
        monkeypatch.setattr(EdgeClient, "step", on_cloud)
        monkeypatch.setattr(evaluate_module, "run_measured", measured)

    def edge_samples(self) -> list[list[StepResult]]:
        """Steps of each sample that ran on the edge, in order."""
        found: dict[tuple[int, int], list[StepResult]] = {}
        for session, result, _ in self.edge:
            found.setdefault((session, result.sample), []).append(result)
        return list(found.values())


def sure_half(bundles: list[Bundle]) -> float:
    """An alpha that at least half of the confirmed samples of every bundle reach at t = 1."""
    medians: list[float] = []
    for bundle in bundles:
        inputs, _ = load_samples(bundle, CONFIRM)
        sums = run_twin(Executor(bundle.net), inputs).sums
        policy: Any = make_policy(bundle, "confidence", 0.5)
        medians.append(float(np.median(policy.confidences(sums)[:, 0])))
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


def ran(row: dict[str, Any]) -> list[int]:
    """Timesteps that the row's samples ran, in ascending order."""
    return [t + 1 for t, n in enumerate(row["exit_histogram"]) for _ in range(n)]


def rows_of(results: dict[str, Any]) -> dict[tuple[str | None, str], dict[str, Any]]:
    return {(r["split"], r["configuration"]): r for r in results["rows"]}


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


# --- demo ---


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's settings, shrunk: its stages stay as they are."""

    def base_training(seed: int) -> TrainConfig:
        return TrainConfig(epochs=2, qat_epochs=1, batch_size=32, lr=0.03, seed=seed, threads=1)

    def split_training(seed: int) -> TrainConfig:
        return replace(base_training(seed), epochs=1, lr=0.02)

    small = ResNetConfig("resnet-small", widths=(4, 8, 16), blocks=(1, 1, 1))
    monkeypatch.setattr(demo_module, "RESNETS", {"resnet-small": small})
    monkeypatch.setattr(demo_module, "DATA", DataConfig(timesteps=T_MAX, train_limit=600))
    bottlenecks = (BottleneckConfig(1, 4, 2), BottleneckConfig(3, 8, 1))
    monkeypatch.setattr(demo_module, "BOTTLENECKS", bottlenecks)
    monkeypatch.setattr(demo_module, "base_training", base_training)
    monkeypatch.setattr(demo_module, "split_training", split_training)


@pytest.mark.lava
@pytest.mark.usefixtures("small_demo")
def test_the_demo_runs_to_its_end_and_refuses_bundles_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = Events()
    with monkeypatch.context() as watched:
        events.watch(watched)
        status, out, err = command(
            "demo", "--out", tmp_path, "--confirm", 3, "--alpha", 0.2, "--json"
        )
    assert status == 0, err
    results = json.loads(out)
    for stage in range(1, 6):
        assert f"{stage}/5 " in err
    rows = rows_of(results)
    assert list(rows) == configurations("SP1", "SP3")
    assert {r["samples"] for r in rows.values()} == {360}
    assert {r["measured_samples"] for r in rows.values()} == {3}
    assert len(events.measured) == len(rows)
    assert sum(int(m.exits.timesteps.sum()) for m in events.measured if m.ledger is not None) == (
        len(events.edge)
    )
    page = Path(results["report"])
    assert page.is_file()
    assert page.is_relative_to(tmp_path)
    assert json.loads((page.parent / "results.json").read_text())["rows"] == results["rows"]

    exports = tmp_path / "netx_exports" / "resnet-small-digits"
    bundles = {p.name: load_bundle(p) for p in sorted(exports.iterdir())}
    assert list(bundles) == ["base", "sp1", "sp3"]
    for name, bundle in bundles.items():
        assert f"{name}: exact on slayer, twin, fused, reference" in err
        report = answer(
            "verify", bundle.path, "--run", tmp_path / "runs" / name, "--backends", "slayer", "twin"
        )
        assert report["backends"] == ["slayer", "twin"]
        accuracy = bundle.manifest.accuracy["test"]["value"]
        row = (None, "edge-only") if name == "base" else (name.upper(), "F+B")
        assert rows[row]["accuracy"] == accuracy
        assert rows["SP1", "F-B"]["accuracy"] == rows[None, "edge-only"]["accuracy"]

    # The same folder again: nothing is left to train, and SLAYER's record is now another.
    silence_slayer(monkeypatch)
    status, _, err = command("demo", "--out", tmp_path, "--confirm", 3)
    assert status == 2
    assert "differs" in err.splitlines()[-1]
    assert "4/5" not in err
