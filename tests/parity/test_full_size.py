"""The benchmarks' networks fire as trained ones do, and their comparisons find what differs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import verified
from benchmarks.cost import fit, plot
from benchmarks.networks import TRAINED_RATES, Spec, build, images_for
from benchmarks.random_nets import PILOTNET_RATES, pilotnet, random_spikes
from benchmarks.sim import _same
from benchmarks.verified_cases import Expected, FullSize, Prepared, Small, cases
from benchmarks.verified_table import table
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.progress import silent

THIN = 1 / 8


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)


@pytest.mark.parametrize(
    "spec",
    [
        Spec("resnet18", split=7, width=THIN),
        Spec("vgg16", timesteps=4, width=THIN),
        Spec("resnet18", (2, 64, 64), 1, split=2, stride=2, stem_stride=2, width=THIN),
        Spec("vgg16", bits=4, width=THIN),
    ],
)
def test_every_layer_fires_at_the_rates_of_a_trained_network(spec: Spec) -> None:
    built = build(spec)
    inputs, images = images_for(spec, 16, first=1000)
    assert images.startswith("synthetic images")
    assert inputs.max() == (1 << spec.bits) - 1
    run = built.model.run_slayer(inputs)
    for node in built.net.nodes[:-1]:
        aimed = (
            TRAINED_RATES.get(node.name)
            or TRAINED_RATES["out" if node.name.endswith("_out") else "mid"]
        )
        assert run.spikes[node.name].mean() == pytest.approx(aimed, abs=0.06), node.name
    assert len({tuple(s) for s in run.sums[..., -1]}) > 8, "the answers depend on the image"


def test_networks_are_seeded_and_activity_is_a_factor() -> None:
    spec = Spec("resnet18", split=3, stride=2, width=THIN)
    assert build(spec).net.fingerprint() == build(spec).net.fingerprint()
    assert build(spec).net.fingerprint() != build(replace(spec, seed=1)).net.fingerprint()
    rates = []
    inputs, _ = images_for(spec, 8)
    for activity in (0.0, 0.5, 1.0):
        net = build(spec, activity=activity).net.edge_part()
        ledger = run_twin(Executor(net), inputs).ledger
        rates.append(ledger.total("axon_out") / sum(n.size for n in net.nodes) / 16)
    assert rates[0] == 0
    assert rates[2] == pytest.approx(2 * rates[1], rel=0.25)


def test_pilotnet_has_its_geometry_and_rates() -> None:
    net = pilotnet(0, timesteps=4)
    assert [n.shape for n in net.nodes] == [
        (24, 32, 99), (36, 15, 49), (48, 7, 24), (64, 4, 22), (64, 2, 20),
        (100, 1, 1), (50, 1, 1), (10, 1, 1), (1, 1, 1),
    ]  # fmt: skip
    run = run_twin(Executor(net), random_spikes(net, 0.89, 4, 4, 1), record=True)
    assert run.spikes is not None
    for node, rate in list(zip(net.nodes, PILOTNET_RATES))[:6]:
        assert run.spikes[node.name].mean() == pytest.approx(rate, abs=0.03), node.name


def test_every_split_point_and_input_size_is_a_case_named_once() -> None:
    every = list(cases())
    assert len({c.name for c in every}) == len(every)
    full = [c for c in every if isinstance(c, FullSize)]
    for arch, splits in (("resnet18", 8), ("vgg16", 13)):
        for side in (32, 128, 224):
            of = [c.spec for c in full if c.spec.arch == arch and c.spec.input_shape[1] == side]
            assert {s.split for s in of} == set(range(splits + 1))
        assert {c.spec.timesteps for c in full if not c.spec.split} == set(range(1, 9))


def thin_case() -> FullSize:
    spec = Spec("resnet18", split=2, stride=2, width=THIN, timesteps=3)
    return FullSize(spec, 2, ("twin", "fused gated", "fused pipelined", "reference pipelined"))


@pytest.mark.lava
def test_results_are_exact_resumable_and_become_a_table(tmp_path: Path) -> None:
    case, file = thin_case(), tmp_path / "case.json"
    verified.run_case(case, ["twin", "fused gated"], file, silent)
    first = json.loads(file.read_text())
    assert list(first["checks"]) == ["twin", "fused gated"]
    verified.run_case(case, case.backends, file, silent)
    result = json.loads(file.read_text())
    assert result["checks"]["twin"] == first["checks"]["twin"], "what is done is kept"
    assert list(result["checks"]) == list(case.backends)
    for name, check in result["checks"].items():
        assert check["spikes_differ"] == check["potentials_differ"] == check["counts_differ"] == 0
        assert check["nodes"] == (20 if name == "twin" else 6)
        assert check["spikes_compared"] > 80_000
        assert (check["potentials_compared"] > 0) == (name != "reference pipelined")
    text = table([result])
    assert "| resnet18 | 32x32x3 | 3 | SP2 | 6 |" in text
    assert "slayer, twin, fused gated, fused pipelined, reference pipelined | 0 |" in text
    assert "synthetic images" in text


@pytest.mark.lava
def test_small_nets_are_compared_with_plain_loops(tmp_path: Path) -> None:
    verified.run_case(Small("delayed_net"), Small.backends, tmp_path / "c.json", silent)
    checks = json.loads((tmp_path / "c.json").read_text())["checks"]
    assert len(checks) == 4
    for check in checks.values():
        assert check["potentials_compared"] == check["spikes_compared"] > 0
        assert check["spikes_differ"] + check["potentials_differ"] + check["counts_differ"] == 0


def tampered() -> tuple[Prepared, Expected]:
    prepared = thin_case().prepare()
    right = prepared[2]
    spikes = dict(right.spikes) | {"block1_mid": right.spikes["block1_mid"].copy()}
    spikes["block1_mid"][1, 0, 0, 0, 2] ^= 1
    potentials = dict(right.potentials) | {"stem": right.potentials["stem"].copy()}
    potentials["stem"][0, 0, 0, :2, 0] += 1
    ledger = replace(right.ledger, syn_ops=right.ledger.syn_ops.copy())
    ledger.syn_ops[0, 1, 0] += 1
    assert right.sums is not None
    return prepared, Expected(spikes, potentials, right.sums + 1, ledger)


def test_each_kind_of_difference_is_counted() -> None:
    (net, inputs, right, _), wrong = tampered()
    assert right.sums is not None
    found = verified.check("twin", net, inputs, wrong)
    assert found["spikes_differ"] == 1 + right.sums.size
    assert found["potentials_differ"] == 2
    assert found["counts_differ"] == 1


def test_the_benchmark_fails_where_the_two_sides_differ() -> None:
    (_, _, right, _), wrong = tampered()
    ours = dict(right.spikes)
    assert _same("case", ours, ours, right.ledger, right.ledger)["differences"] == 0
    with pytest.raises(AssertionError, match="spikes of node 'block1_mid' differ"):
        _same("case", ours, dict(wrong.spikes), right.ledger, right.ledger)
    with pytest.raises(AssertionError, match="the counts differ"):
        _same("case", ours, ours, right.ledger, wrong.ledger)


def test_the_fit_finds_floor_and_slope(tmp_path: Path) -> None:
    ops = np.array([0, 1e6, 2e6, 5e6])
    points = [{"size": "a", "syn_ops": x, "seconds": 4e-4 + 3e-10 * x} for x in ops]
    found = fit(points)
    assert found["intercept_s"] == pytest.approx(4e-4)
    assert found["ns_per_synop"] == pytest.approx(0.3)
    assert found["r2"] == pytest.approx(1)
    row = {"fits": {"a": found | {"silent_s": 4e-4}}, "points": points}
    plot(row, tmp_path / "cost.svg")
    first = (tmp_path / "cost.svg").read_bytes()
    plot(row, tmp_path / "cost.svg")
    assert (tmp_path / "cost.svg").read_bytes() == first, "drawn anew, it is the same file"
