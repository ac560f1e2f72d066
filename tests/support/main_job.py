"""The main job, small, and what is seen of it: wrappers that count and delegate. Tests only."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from host_bridge import EdgeClient
from neucodex_lava.cli.main import run
from neucodex_lava.edge.session import EdgeSession, StepResult
from neucodex_lava.evaluation import evaluate as evaluate_module
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.models.slayer import cuba, synapse
from neucodex_lava.models.split import SplitModel

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


def make_job(folder: Path) -> Job:
    """Train, finetune and export a base and SP1, watching SLAYER."""
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


def ran(row: dict[str, Any]) -> list[int]:
    """Timesteps that the row's samples ran, in ascending order."""
    return [t + 1 for t, n in enumerate(row["exit_histogram"]) for _ in range(n)]


def rows_of(results: dict[str, Any]) -> dict[tuple[str | None, str], dict[str, Any]]:
    return {(r["split"], r["configuration"]): r for r in results["rows"]}
