"""Table I: ours beside the paper's, from runs and from manifests."""

from __future__ import annotations

import csv
import io
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
from neucodex_lava.errors import BundleError
from neucodex_lava.evaluation.paper.figures import table1
from neucodex_lava.evaluation.paper.released import BEGIN, END, write_tables
from neucodex_lava.evaluation.paper.render import sheet
from neucodex_lava.evaluation.paper.sheet import comma_separated, markdown, page, write_sheet
from neucodex_lava.evaluation.paper.table1 import TableRow, make_table1
from neucodex_lava.evaluation.samples import load_samples

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
ACCURACY = {"F-B": 0.9, "D-B": 0.88, "F+B": 0.87, "D+B": 0.86}


def family(folder: Path, seed: int = 0, better: float = 0.0, **fields: Any) -> Path:
    """The digits' base and SP1 as if they were others, with a table in SP1's manifest."""
    for name in ("base", "sp1"):
        shutil.copytree(RELEASED / name, folder / name)
        changes = {"seed": seed, "architecture": "resnet18-w0.5", "dataset": "cifar10"} | fields
        reseal(folder / name, **changes, measured=None)
    base = load_bundle(folder / "base").sha256
    data = {"dataset": "cifar10", "timesteps": 4, "encoding": {"name": "direct", "bits": 4}}
    reseal(folder / "base", data=data)
    rows = [row("SP1", c, accuracy + better) for c, accuracy in ACCURACY.items()]
    rows += [row(None, "edge-only", 0.9 + better), row(None, "cloud-only", 0.9 + better)]
    table = {
        "dataset": "cifar10", "architecture": "resnet18-w0.5", "encoding": "direct", "seed": seed,
        "t_max": 4, "policy": "confidence", "alpha": 0.9, "backend": "twin", "schedule": "gated",
        "energy_model": "paper-23pJ", "rows": rows, "command": "neucodex evaluate X --record",
    }  # fmt: skip
    measured = {"date": "2026-01-02T03:04:05+00:00", "table": table}
    reseal(folder / "sp1", base=base, measured=measured)
    return folder


def row(split: str | None, configuration: str, accuracy: float) -> dict[str, Any]:
    fixed = not configuration.startswith("D")
    return {
        "split": split, "configuration": configuration, "samples": 1000, "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.02, accuracy + 0.02],
        "mean_timesteps": 4.0 if fixed else 1.25, "raw_bits": 1.0, "packed_bits": 1.0,
        "payload_bits": 64.0, "wire_bytes": 1.0, "syn_ops": 2000.0, "macs": 300.0,
        "energy_j": 1e-6, "energy_paper_j": 1e-6, "edge_s": None, "roundtrip_s": None,
        "cloud_s": None, "exit_histogram": [],
        "code_shape": [8, 4, 4] if configuration.endswith("+B") else None,
    }  # fmt: skip


def by_key(rows: tuple[TableRow, ...]) -> dict[tuple[str | None, str], TableRow]:
    return {(r.split, r.configuration): r for r in rows}


def test_a_run_gives_what_the_executor_and_the_exit_rule_give() -> None:
    made = make_table1(RELEASED, samples=90, alpha=0.8)
    (group,) = made.groups
    rows = by_key(group.rows)
    assert len(rows) == 2 + 3 * 4
    for name in ("base", "sp1"):
        bundle = load_bundle(RELEASED / name)
        inputs, labels = load_samples(bundle, 90)
        sums = run_twin(Executor(bundle.net), inputs).sums
        assert sums is not None
        y = sums / (bundle.readout_gain * np.arange(1, 5))
        shares = np.exp(y - y.max(axis=1, keepdims=True))
        sure = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1) >= 0.8
        sure[:, -1] = True
        stop = sure.argmax(axis=1)
        answers = y.argmax(axis=1)
        letter = "-B" if name == "base" else "+B"
        for split in ("SP1",) if name == "sp1" else (None, "SP1", "SP3"):
            fixed, dynamic = rows[split, f"F{letter}"], rows[split, f"D{letter}"]
            assert fixed.accuracy == (answers[:, -1] == labels).mean()
            assert dynamic.accuracy == (answers[np.arange(90), stop] == labels).mean()
            assert dynamic.mean_timesteps == (stop + 1).mean()
            assert (fixed.samples, fixed.mean_timesteps, fixed.source) == (90, 4.0, "this run")
    assert all(r.paper_accuracy is None for r in group.rows)
    assert rows["SP1", "D+B"].payload_bits == 128 * rows["SP1", "D+B"].mean_timesteps


def test_recorded_seeds_stand_beside_the_papers_figures(tmp_path: Path) -> None:
    family(tmp_path / "a", seed=0)
    family(tmp_path / "b", seed=1, better=0.02)
    made = make_table1(tmp_path, run=False)
    (group,) = made.groups
    assert (group.architecture, group.width, group.seeds) == ("resnet18", 0.5, (0, 1))
    rows = by_key(group.rows)
    assert set(rows) == {(None, "F-B"), *(("SP1", c) for c in ACCURACY)}
    ours = rows["SP1", "D+B"]
    assert ours.accuracy == pytest.approx(0.87)
    assert ours.accuracy_spread == pytest.approx(0.02 / 2**0.5)
    assert ours.accuracy_interval is None
    assert (ours.paper_accuracy, ours.paper_timesteps) == (0.927, 1.16)
    assert ours.difference_points == pytest.approx(-5.7)
    assert (ours.mean_timesteps, ours.syn_ops, ours.payload_bits) == (1.25, 2000, 64)
    assert rows["SP1", "F-B"].difference_points == pytest.approx(91 - 94.2)
    assert rows["SP1", "F+B"].paper_accuracy is rows["SP1", "F+B"].difference_points is None
    assert ours.source == "manifest: 2026-01-02, neucodex evaluate X --record"
    told = "; ".join(group.differs)
    assert "width 0.5 (paper: full)" in told
    assert "T_max 4 (paper: 2)" in told
    assert made.missing == ("vgg16 on cifar10: no bundle of ours",)


def test_what_differs_in_more_than_the_seed_is_not_averaged(tmp_path: Path) -> None:
    family(tmp_path / "a", seed=0)
    family(tmp_path / "again", seed=0)
    fewer = family(tmp_path / "fewer", seed=1)
    data = load_bundle(fewer / "base").manifest.data
    reseal(fewer / "base", data={**data, "train_limit": 100})
    reseal(fewer / "sp1", base=load_bundle(fewer / "base").sha256)
    groups = make_table1(tmp_path, run=False).groups
    assert sorted((g.folders, g.seeds) for g in groups) == [
        (("a",), (0,)),
        (("again",), (0,)),
        (("fewer",), (1,)),
    ]


@pytest.mark.parametrize(
    ("name", "architecture", "width", "head"),
    [
        ("vgg16", "vgg16", 1.0, ""),
        ("vgg16-w0.25", "vgg16", 0.25, ""),
        ("resnet18-h0.5sp3", "resnet18", 1.0, "head to SP3 times 0.5"),
        ("resnet18-w0.5-h0.5sp3", "resnet18", 0.5, "head to SP3 times 0.5"),
        ("my-net", "my-net", 1.0, ""),
    ],
)
def test_a_name_says_width_and_head(
    name: str, architecture: str, width: float, head: str, tmp_path: Path
) -> None:
    (group,) = make_table1(family(tmp_path / "a", architecture=name), run=False).groups
    assert (group.architecture, group.width, group.head) == (architecture, width, head)
    assert head in group.title
    assert not head or f"{head} (paper: full)" in group.differs


def test_without_its_dataset_a_family_shows_what_is_recorded_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)
    made = make_table1(family(tmp_path / "a"))
    assert by_key(made.groups[0].rows)["SP1", "D+B"].accuracy == 0.86
    (note,) = made.notes
    assert note.startswith("a: from the manifests, not run: cifar10 needs a data root")


def test_a_bundle_without_a_table_shows_its_accuracy_at_export(tmp_path: Path) -> None:
    reseal(family(tmp_path / "a") / "sp1", measured=None)
    rows = by_key(make_table1(tmp_path, run=False).groups[0].rows)
    base, split = (load_bundle(RELEASED / n).manifest.accuracy_of("test") for n in ("base", "sp1"))
    assert {k: r.accuracy for k, r in rows.items()} == {
        (None, "F-B"): base.value, ("SP1", "F-B"): base.value, ("SP1", "F+B"): split.value,
    }  # fmt: skip
    assert rows["SP1", "F+B"].syn_ops is None


def test_every_form_says_the_same(tmp_path: Path) -> None:
    made = make_table1(family(tmp_path / "a<b"), run=False)
    lines = list(csv.DictReader(io.StringIO(comma_separated(sheet(made)))))
    last = lines[-1]
    assert (last["split"], last["configuration"], last["code_shape"]) == ("SP1", "D+B", "8 4 4")
    assert (float(last["accuracy"]), float(last["paper_accuracy"])) == (0.86, 0.927)
    shown = (
        "| SP1 8x4x4 | D+B | 86.00 % (84.0–88.0) | 1.25 | 2,000 | 300 | 64 | 92.7 % | 1.16 | −6.7 |"
    )
    assert shown in markdown(sheet(made)).splitlines()
    for cell in shown.strip("| ").split(" | "):
        assert f"<td>{cell}" in page(sheet(made))
    assert "a&lt;b" in page(sheet(made))
    assert "a<b" not in page(sheet(made))
    json.dumps(made.to_dict(), allow_nan=False)
    paths = write_sheet(sheet(made), tmp_path / "out")
    assert Path(paths["md"]).read_text() == markdown(sheet(made))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "table1.csv", "table1.html", "table1.md",
    ]  # fmt: skip


def test_every_figure_of_the_paper_has_a_source() -> None:
    paper = table1()
    assert all(f.source and 0 < f.accuracy < 1 for f in paper.figures)
    assert paper.find("resnet18", "cifar10", "F-B").accuracy == 0.942  # type: ignore[union-attr]
    assert paper.find("resnet18", "cifar10", "D-B") is None


def test_the_readmes_tables_are_made_from_the_manifests(tmp_path: Path) -> None:
    folder = family(tmp_path / "a")
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_tables(readme, [folder])
    made = readme.read_text()
    assert made.startswith(f"before\n{BEGIN}\n")
    assert made.endswith(f"{END}\nafter\n")
    assert "old" not in made
    shown = "| `sp1` | 8x4x4 = 128 | 87.00 % (85.0–89.0) | 86.00 % (84.0–88.0) | 1.25 | 2,000"
    assert shown in made
    write_tables(readme, [folder])
    assert readme.read_text() == made
    assert "Over seeds" not in made
    write_tables(readme, [folder, family(tmp_path / "b", seed=5, better=0.02)])
    made = readme.read_text()
    title = "resnet18, width 0.5, cifar10, T_max 4, deterministic input, seeds 0, 5"
    assert f"## Over seeds: {title}" in made
    assert "| SP1 8x4x4 | D+B | 87.00 % ± 1.41 (2 seeds) | 1.25 |" in made
    readme.write_text("no marks")
    with pytest.raises(BundleError, match="put both lines back"):
        write_tables(readme, [folder])


def test_folders_without_bundles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"):
        make_table1(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="holds no bundles"):
        make_table1(tmp_path)
