"""Bundles: what is written reads back equal, and the base of a split is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import load_join_net, run_plain
from safetensors.numpy import load_file
from small_bundles import FIELDS, names_in, record, tail_net, write_base

from neucodex_lava.bundle import (
    Accuracy,
    Manifest,
    find_base,
    load_bundle,
    load_tail,
    write_bundle,
)
from neucodex_lava.errors import BundleError, ConfigError
from neucodex_lava.tail_file import read_tail, write_tail


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_a_tail_file_reads_back_equal(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    net = tail_net(seed)
    path = tmp_path_factory.getbasetemp() / "tail.safetensors"
    for cut in (0, 1, 2, 3, 4):
        if cut not in net.legal_cuts():
            continue
        whole = net.with_cut(cut)
        write_tail(whole, path)
        tail = read_tail(path)
        assert tail.nodes == whole.tail_nodes
        assert (tail.code_shape, tail.code_bits) == (whole.code_shape, whole.code_bits)
        if cut:
            assert tail.joined(whole.edge_part()) == whole
        else:
            assert tail.standalone() == whole


def test_weights_are_stored_halved_in_eight_bits(tmp_path: Path) -> None:
    path = tmp_path / "tail.safetensors"
    net = tail_net(4)
    write_tail(net, path)
    tensors = load_file(path)
    assert {str(a.dtype) for n, a in tensors.items() if n.endswith("weight")} == {"int8"}
    assert {str(a.dtype) for n, a in tensors.items() if not n.endswith("weight")} == {"int32"}
    assert np.array_equal(tensors["2.0.weight"].astype(int) * 2, net.nodes[4].connections[0].weight)
    assert np.array_equal(tensors["1.neuron"], [4096, 2048, net.nodes[3].neuron.threshold])


def test_a_standalone_tail_continues_from_the_code(tmp_path: Path) -> None:
    net = tail_net(9)
    golden = record(net)
    write_tail(net, tmp_path / "tail")
    tail = read_tail(tmp_path / "tail").standalone()
    spikes, potential, _ = run_plain(tail, golden.spikes["code é"])
    for name in ("up", "mix", "out"):
        assert np.array_equal(spikes[name], golden.spikes[name])
    assert np.array_equal((potential["out"] >> 6)[:, :, 0, 0], golden.sums)


@pytest.mark.parametrize("seed", range(4))
def test_a_split_bundle_reads_back_equal(seed: int, tmp_path: Path) -> None:
    net = tail_net(seed)
    golden = record(net)
    fields = FIELDS | {
        "kind": "split", "split": "SP1", "bottleneck": {}, "base": "0" * 64, "gains": {},
        "split_points": {},
    }  # fmt: skip
    extra = {"tables.json": b"{}"}
    written = write_bundle(tmp_path / "b", net, golden=golden, extra_files=extra, **fields)
    found = load_bundle(tmp_path / "b")
    assert found.net == written.net == net
    assert found.golden == golden
    assert found.manifest == written.manifest
    assert found.sha256 == written.sha256
    names = ["edge.net", "golden.npz", "manifest.json", "tables.json", "tail.safetensors"]
    assert names_in(tmp_path / "b") == names
    assert names_in(tmp_path) == ["b"]


def test_a_base_bundle_is_stored_uncut_and_may_be_cut_anywhere(tmp_path: Path) -> None:
    net, _, _ = load_join_net(3)
    write_base(tmp_path / "base")
    found = load_bundle(tmp_path / "base")
    assert found.net == net.with_cut(5)
    assert found.manifest.cut == 5
    assert not (tmp_path / "base" / "tail.safetensors").exists()
    assert found.cut_at("SP2") == net
    with pytest.raises(BundleError, match=r"no split point 'SP9' \(known: SP1, SP2\)"):
        found.cut_at("SP9")
    assert found.readout_gain == 64.0


def test_the_manifest_says_what_was_measured(pair: tuple[Path, Path]) -> None:
    manifest = load_bundle(pair[0]).manifest
    assert manifest.accuracy_of("test") == Accuracy(355, 360)
    low, high = manifest.accuracy["test"]["interval"]
    assert 0.96 < low < 355 / 360 < high < 1
    assert manifest.exits == {"confidence": {"alpha": 0.9}}
    assert manifest.model == {"widths": [8, 16]}
    assert Manifest.from_json(manifest.to_json(), "m") == manifest
    with pytest.raises(BundleError, match="no accuracy 'train'"):
        manifest.accuracy_of("train")
    with pytest.raises(ConfigError, match="3 right of 2"):
        Accuracy(3, 2)


def test_the_same_bundle_is_the_same_bytes(tmp_path: Path) -> None:
    one, two = write_base(tmp_path / "one"), write_base(tmp_path / "two")
    assert one.sha256 == two.sha256
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_server_needs_the_manifest_and_the_tail_only(pair: tuple[Path, Path]) -> None:
    whole = load_bundle(pair[1])
    for name in ("edge.net", "golden.npz"):
        (pair[1] / name).unlink()
    manifest, tail, sha256 = load_tail(pair[1])
    assert (manifest, sha256) == (whole.manifest, whole.sha256)
    assert tail.input_shape == whole.net.code_shape
    assert tail.cut == 0
    assert [n.name for n in tail.nodes] == [n.name for n in whole.net.tail_nodes]
    with pytest.raises(BundleError, match="base bundle, stored uncut"):
        load_tail(pair[0])


def test_loading_a_tail_imports_neither_torch_nor_lava_nor_h5py(pair: tuple[Path, Path]) -> None:
    code = (
        "import sys; from neucodex_lava.bundle import load_tail; load_tail(sys.argv[1]);"
        "assert not {'torch', 'lava', 'h5py', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(pair[1])], check=True)


def test_the_base_is_found_beside_or_given(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, split = (load_bundle(p) for p in pair)
    assert find_base(base) is base
    assert find_base(split).path.name == "base"
    shutil.copytree(pair[0], tmp_path / "elsewhere" / "b")
    shutil.rmtree(pair[0])
    with pytest.raises(BundleError, match=f"{base.sha256[:12]}.*--base"):
        find_base(split)
    assert find_base(split, tmp_path / "elsewhere" / "b").sha256 == base.sha256
    other = write_base(tmp_path / "other", gains={"readout": 65.0})
    with pytest.raises(BundleError, match=f"{other.sha256[:12]}.*is not the base of"):
        find_base(split, tmp_path / "other")
