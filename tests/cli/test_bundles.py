"""verify, simulate and evaluate on the released bundles, and on damaged copies of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bundles import reseal

from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.integer_net import Node
from neucodex_lava.verify import verify

NAMES = ("base", "sp1", "sp2", "sp3")


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON of a command."""
    status = run([str(a) for a in args] + ["--json"])
    out = capsys.readouterr().out
    return status, json.loads(out)


@pytest.mark.parametrize("name", NAMES)
def test_released_bundles_are_exact_on_every_backend(
    name: str, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = answer(capsys, "verify", released / name)
    assert status == 0
    assert report["backends"] == ["twin", "fused", "reference"]
    assert report["spike_differences"] == report["counter_differences"] == 0
    assert report["first_difference"] is None
    runs = [(c["backend"], c["schedule"]) for c in report["checks"]]
    assert runs == [
        ("twin", None),
        ("fused", "gated"),
        ("fused", "pipelined"),
        ("reference", "pipelined"),
    ]
    bundle = load_bundle(released / name)
    for check in report["checks"]:
        nodes = bundle.net.nodes if check["backend"] == "twin" else bundle.net.edge_nodes
        assert check["layers"] == len(nodes)
        assert check["spikes_compared"] >= 3 * 4 * sum(n.size for n in nodes)
        assert check["counts_compared"] > 0
    # A silent network would agree with anything.
    for node in bundle.net.nodes[:-1]:
        assert bundle.golden.spikes[node.name].any(), node.name


def test_a_changed_weight_is_found_though_the_manifest_fits_it(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copied("sp1")
    path = bundle / "edge.net"
    with h5py.File(path, "r+") as file:
        found: list[h5py.Dataset] = []
        file.visititems(
            lambda name, item: (
                found.append(item)
                if isinstance(item, h5py.Dataset) and name.endswith("weight") and item.ndim == 4
                else None
            )
        )
        target = found[0]
        weight = np.array(target[...]).astype(int)
        strongest = np.unravel_index(np.abs(weight).argmax(), weight.shape)
        weight[strongest] = -weight[strongest] if weight[strongest] > -128 else 0
        target[...] = weight
    status = run(["verify", str(bundle), "--json"])
    assert status == 2, "the sha256 is checked first"
    assert "edge.net" in json.loads(capsys.readouterr().out)["error"]["message"]
    reseal(bundle)
    status, report = answer(capsys, "verify", bundle, "--backends", "twin", "fused")
    assert status == 1
    assert report["spike_differences"] > 0
    first = report["first_difference"]
    assert first["layer"] in [n.name for n in load_bundle(bundle).net.nodes]
    assert first["timestep"] >= 1
    assert len(first["neuron"]) == 3


@pytest.mark.parametrize("name", ["base", "sp1"])
def test_any_changed_integer_is_found_with_node_and_timestep(name: str, released: Path) -> None:
    """Single random weights, ±2, sign or zero, biases ±1 and thresholds ±1, in every node."""
    bundle = load_bundle(released / name)
    rng = np.random.default_rng(5)
    for node in bundle.net.nodes:
        for change in ("±2", "sign", "zero", "bias", "threshold"):
            changed = change_one(node, change, rng)
            net = bundle.net.with_nodes(replace(changed, sum_bound=1_000))
            altered = Bundle(bundle.path, bundle.manifest, net, bundle.sha256)
            report = verify(altered, backends=("twin",))
            assert not report.exact, (node.name, change)
            assert report.changed_nodes == [node.name]
            first = report.first_difference
            assert first is not None
            assert first.layer == node.name, (node.name, change)
            assert first.timestep >= 1


def change_one(node: Node, change: str, rng: np.random.Generator) -> Node:
    """The node with one integer changed."""
    if change == "bias":
        bias = node.bias.copy()
        bias[rng.integers(len(bias))] += 1
        return replace(node, bias=bias)
    if change == "threshold":
        # A readout's threshold is its mark; its decay may change instead.
        neuron = node.neuron
        field = "voltage_decay" if neuron.is_readout else "threshold"
        return replace(node, neuron=replace(neuron, **{field: getattr(neuron, field) + 1}))
    links = list(node.connections)
    weight = links[0].weight.copy()
    candidates = np.argwhere(weight != 0)
    at = tuple(candidates[rng.integers(len(candidates))])
    old = int(weight[at])
    weight[at] = {"±2": old - 2 if old > 0 else old + 2, "sign": max(-old, -256), "zero": 0}[change]
    links[0] = replace(links[0], weight=weight)
    return replace(node, connections=tuple(links))


def test_a_backend_that_cannot_run_is_no_success(
    released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for backend, why in (("slayer", "pass --run"), ("netx", "no chain")):
        assert run(["verify", str(released / "sp1"), "--backends", backend]) == 2
        assert why in capsys.readouterr().err


def damage_missing(bundle: Path) -> None:
    (bundle / "edge.net").unlink()


def damage_tail(bundle: Path) -> None:
    raw = bytearray((bundle / "tail.safetensors").read_bytes())
    raw[-5] ^= 1
    (bundle / "tail.safetensors").write_bytes(raw)


def damage_newer(bundle: Path) -> None:
    reseal(bundle, format_version=99)


def damage_cut(bundle: Path) -> None:
    reseal(bundle, cut=2)


def damage_hdf5(bundle: Path) -> None:
    with h5py.File(bundle / "edge.net", "w") as file:
        file["nothing"] = np.arange(3)
    reseal(bundle)


def damage_text(bundle: Path) -> None:
    (bundle / "edge.net").write_text("not HDF5 at all")
    reseal(bundle)


def damage_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing file": (damage_missing, "edge.net"),
    "changed file": (damage_tail, "tail.safetensors"),
    "newer format": (damage_newer, "99"),
    "impossible cut": (damage_cut, "cut"),
    "HDF5 but not NetX": (damage_hdf5, "edge.net"),
    "not HDF5": (damage_text, "edge.net"),
    "not JSON": (damage_json, "manifest"),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.parametrize("verb", ["verify", "simulate", "evaluate"])
def test_a_damaged_bundle_is_one_clear_line(
    case: str, verb: str, copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damage, expected = DAMAGE[case]
    bundle = copied("sp1")
    damage(bundle)
    assert run([verb, str(bundle)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("neucodex: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err


def test_a_split_bundle_without_its_base_says_which(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    bundle = copied("sp1")
    sha = load_bundle(bundle).manifest.base
    assert sha is not None
    shutil.rmtree(bundle.parent / "base")
    assert run(["evaluate", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert sha[:8] in error
    assert "--base" in error
    assert run(["verify", str(bundle), "--backends", "twin"]) == 0, "verify needs no base"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["simulate", "{base}", "--split", "SP9"], "no split point SP9"),
        (["simulate", "{sp1}", "--split", "SP2"], "is cut at SP1, not at SP2"),
        (["simulate", "{sp1}", "--samples", "-1"], "-1 samples"),
        (["simulate", "{sp1}", "--backend", "reference", "--schedule", "gated"], "gated"),
        (["simulate", "{sp1}", "--backend", "twin", "--schedule", "pipelined"], "no pipeline"),
        (["evaluate", "{sp1}", "--alpha", "0"], "alpha 0.0 is outside (0, 1]"),
        (["evaluate", "{sp1}", "--policy", "hope"], "unknown exit policy 'hope'"),
        (["evaluate", "{sp1}", "--energy-model", "magic"], "unknown energy model 'magic'"),
        (["evaluate", "{sp1}", "--dataset", "mnist"], "mnist"),
        (["serve", "{base}"], "may be cut anywhere"),
        (["infer", "{sp1}", "--cloud", "nowhere"], "nowhere"),
        (["verify", "{sp1}", "--backends", "abacus"], "unknown backend 'abacus'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    args: list[str],
    expected: str,
    released: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)
    filled = [a.format(base=released / "base", sp1=released / "sp1") for a in args]
    assert run(filled) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("schedule", ["gated", "pipelined"])
def test_backends_count_the_same(
    schedule: str, released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {}
    for backend in ("twin", "fused", "reference"):
        if (backend == "twin") != (schedule == "gated") and backend != "fused":
            continue
        args = ["--backend", backend, "--schedule", schedule, "--samples", 3]
        status, found = answer(
            capsys, "simulate", released / "sp1", *args, "--ledger", tmp_path / f"{backend}.json"
        )
        assert status == 0
        assert found["samples"] == 3
        layers[backend] = found["layers"]
    first, *others = layers.values()
    assert others
    assert all(other == first for other in others)
    keys = {
        "name", "syn_ops", "syn_ops_nonzero", "macs", "dendrite_updates", "spikes_in",
        "axon_out", "firing_rate",
    }  # fmt: skip
    assert keys <= set(first[0])
    status, priced = answer(capsys, "energy", tmp_path / "fused.json")
    assert status == 0
    per_sample = sum(layer["syn_ops"] + layer["macs"] for layer in first)
    assert priced["energy_j"] == pytest.approx(23e-12 * per_sample)


def test_evaluate_gives_every_configuration(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, results = answer(
        capsys, "evaluate", released / "sp1", "--confirm", 6, "--out", tmp_path / "report"
    )
    assert status == 0
    rows = {(r["split"], r["configuration"]): r for r in results["rows"]}
    assert list(rows) == [
        (None, "edge-only"),
        (None, "edge-only dynamic"),
        (None, "cloud-only"),
        ("SP1", "F-B"),
        ("SP1", "D-B"),
        ("SP1", "F+B"),
        ("SP1", "D+B"),
    ]
    assert Path(results["report"]).is_file()
    assert (tmp_path / "report" / "results.json").is_file()
    for row in rows.values():
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high
        assert row["samples"] == 360
        assert row["measured_samples"] == 6
        assert sum(row["exit_histogram"]) == 360
        steps = sum((t + 1) * n for t, n in enumerate(row["exit_histogram"])) / 360
        assert row["mean_timesteps"] == pytest.approx(steps)
        energy = 23e-12 * (row["syn_ops"] + row["macs"])
        assert row["energy_j"] == pytest.approx(energy)
    fixed, dynamic = rows["SP1", "F+B"], rows["SP1", "D+B"]
    assert fixed["mean_timesteps"] == results["t_max"]
    assert dynamic["mean_timesteps"] < fixed["mean_timesteps"]
    assert dynamic["packed_bits"] == pytest.approx(
        fixed["packed_bits"] * dynamic["mean_timesteps"] / results["t_max"]
    )
    assert rows[None, "edge-only"]["wire_bytes"] == 0
    assert rows[None, "cloud-only"]["syn_ops"] == 0
    # The base cut anywhere is the same network.
    base = rows[None, "edge-only"]["accuracy"]
    assert rows["SP1", "F-B"]["accuracy"] == rows[None, "cloud-only"]["accuracy"] == base
    page = (tmp_path / "report" / "report.html").read_text()
    status, again = answer(
        capsys, "report", tmp_path / "report" / "results.json", "--out", tmp_path / "again"
    )
    assert status == 0
    assert Path(again["report"]).read_text() == page


def test_released_accuracies_are_what_the_manifests_say(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, results = answer(
        capsys, "sweep", released, "--confirm", 0, "--out", tmp_path / "report"
    )
    assert status == 0
    rows = {(r["split"], r["configuration"]): r for r in results["rows"]}
    base = load_bundle(released / "base").manifest.accuracy_of("test")
    assert rows[None, "edge-only"]["accuracy"] == base.value
    for name in ("sp1", "sp2", "sp3"):
        told = load_bundle(released / name).manifest
        assert rows[told.split, "F+B"]["accuracy"] == told.accuracy_of("test").value
