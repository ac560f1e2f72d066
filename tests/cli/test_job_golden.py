"""Golden records and verify ask SLAYER, and nobody else: watched, and tampered with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import reseal
from main_job import T_MAX, Job, Slayer, answer, command, silence_slayer
from plain import run_plain

from neucodex_lava.bundle import cuts_of, load_bundle, load_coding
from neucodex_lava.edge.netx import write_netx
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.runs import load_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_the_executor_finds_the_accuracy_that_training_found(name: str, job: Job) -> None:
    found = job.answers[f"export {name}"]["accuracy"]["test"]
    assert found["samples"] == 360
    assert found["correct"] / 360 == job.answers[f"train {name}"]["test_accuracy"]
    assert found["correct"] > 90, "a network that learnt nothing would test nothing"


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
def test_export_trains_coding_tables_for_every_cut(name: str, job: Job) -> None:
    bundle = load_bundle(job.bundle(name))
    assert job.answers[f"export {name}"]["coding"] == bundle.manifest.files["coding.safetensors"]
    for cut in cuts_of(bundle.manifest):
        tables = load_coding(bundle, cut)
        assert tables is not None
        tables.check_fit(bundle.net.with_cut(cut).code_shape, bundle.net.with_cut(cut).code_bits)


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


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_another_bundles_run_is_a_wrong_run(name: str, job: Job) -> None:
    other = "sp1" if name == "base" else "base"
    status, out, err = command("verify", job.bundle(name), "--run", job.run_of(other))
    assert (status, out) == (2, "")
    assert f"wrong run: '{job.run_of(other)}' is not the one that this bundle" in err
    split = {"base": "'None'", "sp1": "'SP1'"}
    assert f"its split is {split[other]}, the bundle's {split[name]}" in err
    assert err.count("\n") == 1


def test_a_rename_of_the_run_or_another_command_line_is_no_wrong_run(
    job: Job, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(job.run_of("sp1"), folder)
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"command": "', '"command": "env A=1 '))
    report = answer("verify", job.bundle("sp1"), "--run", folder, "--backends", "slayer")
    assert report["spike_differences"] == 0


def test_the_runs_own_network_says_what_a_damaged_file_should_have_given(
    job: Job, tmp_path: Path
) -> None:
    """Every backend runs the wrong weight alike; with the run there is a right one to compare with."""
    folder = tmp_path / "sp1"
    shutil.copytree(job.bundle("sp1"), folder)
    right = load_bundle(folder).net
    node = right.edge_nodes[1]
    link = node.connections[0]
    weight = link.weight.copy()
    strongest = np.unravel_index(np.abs(weight).argmax(), weight.shape)
    weight[strongest] = -weight[strongest] if weight[strongest] > -256 else 0
    links = (replace(link, weight=weight), *node.connections[1:])
    wrong = right.with_nodes(replace(node, connections=links))
    write_netx(wrong, folder / "edge.net")
    reseal(folder)
    report = answer(
        "verify", folder, "--run", job.run_of("sp1"), "--backends", "twin", "fused", status=1
    )
    assert report["changed_nodes"] == [node.name]
    inputs = load_bundle(folder).golden.inputs
    currents: list[dict[str, np.ndarray]] = [{}, {}]
    potentials: list[dict[str, np.ndarray]] = []
    for net, seen in zip((wrong, right), currents):
        spikes, before, _ = run_plain(net.edge_part(), inputs, seen)
        potentials.append({n: np.where(spikes[n], 0, v) for n, v in before.items()})
    assert len(report["checks"]) == 3
    for check in report["checks"]:
        first = check["first_difference"]
        assert (first["layer"], check["first_neuron"]) == (node.name, None)
        at = (first["sample"], *first["neuron"], first["timestep"] - 1)
        states = first["states"]
        assert states["expected_from"] == "the executor on the training run's network"
        for side, u, v in zip(("found", "expected"), currents, potentials):
            found = states[side]["current"], states[side]["potential"]
            assert found == (u[node.name][at], v[node.name][at])
        assert states["found"] != states["expected"]
