"""SPARQ's table: float networks from runs, 8-bit ones from bundles, and the file that keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import (
    ChainConfig,
    ConversionConfig,
    ConvLayer,
    DataConfig,
    EncodingConfig,
    TrainConfig,
)
from neucodex_lava.conversion import convert
from neucodex_lava.data import load
from neucodex_lava.errors import FormatError
from neucodex_lava.evaluation.calibration.bundles import calibrate_bundles
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.evaluation.cascade.rows import structural_choices
from neucodex_lava.evaluation.paper.figures import words
from neucodex_lava.evaluation.paper.sheet import markdown
from neucodex_lava.evaluation.paper.sparq import make_sparq
from neucodex_lava.evaluation.paper.sparq_table import SparqTable
from neucodex_lava.evaluation.paper.variants import Variant, read_variants
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.export import export_run
from neucodex_lava.training.assessment import accuracies
from neucodex_lava.training.runs import load_artificial
from neucodex_lava.training.stages import train_base

# As a narrow LeNet-5, which it is not, so that it has a place in the table.
CHAIN = ChainConfig("lenet5-w0.1", (ConvLayer(6, stride=2),), (16,), exit_heads=(1,))
DATA = DataConfig(
    timesteps=8, train_limit=700, holdout=200, encoding=EncodingConfig("deterministic")
)
ANN = TrainConfig(
    epochs=0, qat_epochs=0, ann_epochs=6, batch_size=32, lr=1e-2, augment=False, threads=1
)
NEURONS = 6 * 4 * 4 + 16 + 10
MACS = 6 * 9 * 16 + 96 * 16 + 16 * 10
HEAD_MACS = 96 * 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``ann`` and ``snn``, and the latter's bundle with policies over its exit heads."""
    folder = tmp_path_factory.mktemp("sparq")
    ann, snn = folder / "runs" / "mine" / "ann", folder / "runs" / "mine" / "snn"
    train_base(ann, CHAIN, DATA, ANN)
    convert(snn, ann, ConversionConfig("transfer"), timesteps=8)
    export_run(snn, folder / "exports" / "mine" / "base")
    calibrate_bundles(folder / "exports" / "mine" / "base", kinds=("qlearning", "topk"))
    return folder


def variants(folder: Path, **options: object) -> dict[str, Variant]:
    table = make_sparq(folder / "exports", runs=folder / "runs", **options)  # type: ignore[arg-type]
    assert {v.key for v in table.variants} == {("lenet5-w0.1", "digits")}
    return {v.variant: v for v in table.variants}


def test_every_variant_is_what_its_run_or_bundle_gives(made: Path) -> None:
    found = variants(made)
    assert list(found) == [
        "ANN", "ANN, 8 bit", "dynamic ANN", "SNN", "QSNN", "QDSNN", "QDSNN, Top-K",
    ]  # fmt: skip
    ann, dynamic, snn = found["ANN"], found["dynamic ANN"], found["SNN"]
    run, model = load_artificial(made / "runs" / "mine" / "ann")
    test = load(run.data, None, "test")
    assert ann.correct / 360 == accuracies(model, run, test)[-1] > 0.8
    assert (ann.macs, ann.syn_ops, ann.timesteps) == (MACS, 0, 1)
    assert ann.energy_j == pytest.approx(MACS * (4.6 + 320) * 1e-12)
    assert ann.energy_low_j == pytest.approx(MACS * 4.6 * 1e-12)
    assert found["ANN, 8 bit"].energy_j == pytest.approx(MACS * (0.23 + 80) * 1e-12)
    first = 6 * 9 * 16 + HEAD_MACS
    left, right = dynamic.exit_histogram
    assert (dynamic.exits, left + right) == (("exit_sp1", "readout"), 360)
    assert min(left, right) > 0
    assert dynamic.macs == pytest.approx((left * first + right * (MACS + HEAD_MACS)) / 360)
    assert "200 held-out samples" in dynamic.what

    assert (snn.timesteps, snn.samples, snn.macs) == (8, 360, 0)
    assert snn.correct / 360 > 0.7
    updates = NEURONS * 8
    assert snn.energy_j == pytest.approx((snn.syn_ops * (0.9 + 320) + updates) * 1e-12)

    bundle = load_bundle(made / "exports" / "mine" / "base")
    inputs, labels = load_samples(bundle)
    result = run_twin(Executor(bundle.net), inputs)
    assert result.sums is not None
    body = result.ledger.select(["conv1", "dense1", "readout"])
    qsnn = found["QSNN"]
    assert qsnn.correct == (result.sums[..., -1].argmax(axis=1) == labels).sum()
    assert qsnn.syn_ops == body.total("syn_ops") / 360
    assert qsnn.energy_j == pytest.approx((qsnn.syn_ops * 80.03 + updates) * 1e-12)
    # The same weights but for rounding.
    assert qsnn.syn_ops == pytest.approx(snn.syn_ops, rel=0.05)
    policy = {c.name: c.policy for c in structural_choices(bundle)}["qlearning"]
    outcome = Cascade.of(bundle).read_off(result, policy)
    qdsnn = found["QDSNN"]
    assert qdsnn.correct == (outcome.exits.predictions == labels).sum()
    assert qdsnn.syn_ops == outcome.ledger.total("syn_ops") / 360
    assert qdsnn.exit_histogram == tuple(outcome.exits.histogram(2))
    by_class = np.array(qdsnn.exit_histogram_by_class)
    assert by_class.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert "converted (transfer), then rounded" in qsnn.what


def test_what_was_kept_stands_in_for_runs_that_are_gone(made: Path) -> None:
    exports = made / "exports"
    everything = make_sparq(exports, runs=made / "runs", record=True, command="neucodex x")
    kept = read_variants(exports)
    assert len(kept) == 7
    assert all(v.source.endswith(", neucodex x") for v in kept)
    assert [replace(v, source="") for v in kept] == [
        replace(v, source="") for v in everything.variants
    ]
    without = {v.variant: v.source for v in make_sparq(exports, samples=90).variants}
    assert without["QSNN"] == without["QDSNN"] == "this run"
    assert without["ANN"] == without["SNN"] == kept[0].source
    recorded = make_sparq(exports, run=False)
    assert list(recorded.variants) == kept
    text = markdown(recorded.sheet())
    snn, qdsnn = (next(v for v in kept if v.variant == name) for name in ("SNN", "QDSNN"))
    fewer = snn.syn_ops / qdsnn.syn_ops
    (line,) = [row for row in text.splitlines() if row.startswith("| QDSNN | ")]
    assert f"| {fewer:.2f}x | {snn.energy_j / qdsnn.energy_j:.2f}x |" in line
    assert line.endswith("| – |")
    assert "lenet5 on mnist: no ANN, dynamic ANN, SNN, QSNN, QDSNN of ours here" in text
    json.dumps(recorded.to_dict(), allow_nan=False)

    raw = json.loads((exports / "sparq.json").read_text())
    for damage in (
        [],
        {"format": "other"},
        raw | {"variants": [{"variant": "ANN"}]},
        raw | {"variants": [raw["variants"][0] | {"correct": 400}]},
        raw | {"variants": [raw["variants"][0] | {"variant": "XNN"}]},
    ):
        (exports / "sparq.json").write_text(json.dumps(damage))
        with pytest.raises(FormatError, match="sparq.json'.*reproduce sparq --record"):
            make_sparq(exports, run=False)
    (exports / "sparq.json").unlink()


def test_factors_are_against_the_snn_of_most_timesteps_and_smallest_seed() -> None:
    def row(variant: str, timesteps: int, seed: int, syn_ops: float) -> Variant:
        return Variant(
            "mlp", "mnist", variant, f"run s{seed}-t{timesteps}", timesteps, 10, 9, syn_ops, 0.0,
            syn_ops, syn_ops, seed=seed,
        )  # fmt: skip

    rows = (
        row("SNN", 8, 0, 100.0), row("SNN", 32, 1, 300.0), row("SNN", 32, 0, 200.0),
        row("QSNN", 8, 0, 50.0),
    )  # fmt: skip
    lines = markdown(SparqTable(words("sparq"), rows, ()).sheet()).splitlines()
    shown = [line.split(" | ")[6] for line in lines if line.startswith(("| SNN |", "| QSNN |"))]
    assert shown == ["2.00x", "0.67x", "–", "4.00x"]
    assert any("against the SNN of T 32, seed 0: run s0-t32" in line for line in lines)
    for swapped in (rows, rows[::-1]):
        sheet = SparqTable(words("sparq"), swapped, ()).sheet()
        assert any("seed 0: run s0-t32" in r for r in sheet.groups[0].remarks if "Factors" in r)


def test_runs_that_are_not_there_are_told(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is not a folder.*--runs"):
        make_sparq(made / "exports", runs=tmp_path / "nowhere")
    with pytest.raises(FormatError, match="nowhere' is not a folder"):
        make_sparq(tmp_path / "nowhere", record=True)
    table = make_sparq(tmp_path)
    assert table.variants == ()
    assert table.notes[0].startswith("no bundles: ")
