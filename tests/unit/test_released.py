"""What is released in netx_exports: small, whole, documented, exact, and in the README."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.evaluation.paper.families import Family
from neucodex_lava.evaluation.paper.released import BEGIN, END, folder_bytes, tables
from neucodex_lava.evaluation.sweep import find_sweep
from neucodex_lava.verify import verify

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 15_000_000
FAMILIES: list[Path] = runpy.run_path(str(ROOT / "scripts" / "readme_tables.py"))["released"]()
BUNDLES = sorted(path.parent for family in FAMILIES for path in family.glob("*/manifest.json"))


@pytest.fixture(params=BUNDLES, ids=[f"{p.parent.name}/{p.name}" for p in BUNDLES])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(request.param)


def test_something_is_released_and_every_family_hangs_together() -> None:
    assert len(BUNDLES) >= 4
    for family in FAMILIES:
        base, splits = find_sweep(family)
        assert {base.path, *(s.path for s in splits)} == {p for p in BUNDLES if p.parent == family}


def test_a_released_bundle_is_small_and_int8(bundle: Bundle) -> None:
    assert folder_bytes(bundle.path) < LIMIT_BYTES
    for node in bundle.net.nodes:
        for connection in node.connections:
            weight = connection.weight.astype(np.int64)
            assert weight.min() >= -256
            assert weight.max() <= 254
            assert not (weight % 2).any()
    if bundle.manifest.kind == "split":
        for name, tensor in load_file(bundle.path / "tail.safetensors").items():
            assert tensor.dtype == (np.int8 if name.endswith("weight") else np.int32)


def test_a_released_bundle_says_how_it_was_made_and_what_it_does(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.command.startswith("neucodex ")
    assert manifest.accuracy_of("test").samples >= 100
    measured, papers = manifest.measured, manifest.training
    assert measured is not None
    assert papers is not None
    rows = {(r["split"], r["configuration"]) for r in measured["table"]["rows"]}
    if manifest.split is None:
        assert {(None, "edge-only"), (None, "edge-only dynamic")} <= rows
    else:
        assert {(manifest.split, c) for c in ("F-B", "D-B", "F+B", "D+B")} <= rows
    assert {r["samples"] for r in measured["table"]["rows"]} == {
        manifest.accuracy_of("test").samples
    }
    assert papers["log"]
    assert papers["log"][-1]["phase"] == "integer"
    assert measured["slayer"]["samples"] == manifest.accuracy_of("test").samples
    assert measured["slayer"]["correct"] == manifest.accuracy_of("test").correct


def test_quantisation_costs_half_a_point_at_most() -> None:
    """The mean over the seeds of a network, or one sample where a sample is more than that."""
    lost: defaultdict[object, list[float]] = defaultdict(list)
    samples: Counter[object] = Counter()
    for folder in FAMILIES:
        family = Family(folder, *find_sweep(folder))
        for one in (family.base, *family.splits):
            before = (one.manifest.training or {}).get("float_accuracy")
            if before is None:  # runs of before it was kept have none
                continue
            found = one.manifest.accuracy_of("test")
            key = (*family.kind, one.manifest.split, tuple(one.manifest.code_shape))
            lost[key].append(before - found.value)
            samples[key] += found.samples
    assert lost
    for key, losses in lost.items():
        assert sum(losses) / len(losses) <= max(0.005, 1 / samples[key]) + 1e-9, key


def test_nothing_released_names_a_folder_outside_the_project(bundle: Bundle) -> None:
    text = json.loads((bundle.path / "manifest.json").read_text())
    papers, measured = text.get("training") or {}, text.get("measured") or {}
    commands = [text["command"], *papers.get("commands", [])]
    commands += [m["command"] for m in measured.values() if isinstance(m, dict)]
    for command in commands:
        outside = [w for w in shlex.split(command) if re.match(r"(.*=)?(/|~|\.\./)", w)]
        assert not outside


def test_a_released_bundle_is_exact(bundle: Bundle) -> None:
    # Lava runs one seed of each network.
    report = verify(bundle, backends=("twin", "fused") if bundle.manifest.seed == 0 else ("twin",))
    assert report.exact
    assert (report.spike_differences, report.counter_differences, report.changed_nodes) == (
        0,
        0,
        [],
    )


def test_the_readmes_tables_are_those_of_the_manifests() -> None:
    text = (ROOT / "netx_exports" / "README.md").read_text("utf-8")
    between = text.partition(BEGIN)[2].partition(END)[0]
    assert between == f"\n\n{tables(FAMILIES)}\n", "run scripts/readme_tables.py"
