"""Bundles: what is written reads back equal; what is wrong is one clear line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import load_join_net, run_plain
from safetensors.numpy import load_file, save_file

from neucodex_lava import bundle as bundles
from neucodex_lava.bundle import (
    Accuracy,
    Bundle,
    Golden,
    Manifest,
    digest_potentials,
    find_base,
    load_bundle,
    load_tail,
    write_bundle,
)
from neucodex_lava.errors import BundleError, ConfigError, FormatError, NetError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node
from neucodex_lava.tail_file import read_tail, write_tail


def tail_net(seed: int) -> IntegerNet:
    """A cut net with a join, exponents, groups and a transposed convolution after the cut."""
    rng = np.random.default_rng(seed)

    def even(*shape: int) -> np.ndarray:
        return 2 * rng.integers(-128, 128, shape, dtype=np.int16)

    def bias(n: int) -> np.ndarray:
        return rng.integers(-99, 99, n)

    bits = int(rng.integers(1, 5))
    exponent = int(rng.integers(0, 3))
    stride = (int(rng.integers(1, 3)), 2)
    stem = Connection("input", "conv", even(4, 2, 3, 3), 0, (1, 1), (1, 1))
    code = Connection("stem", "conv", even(2, 4, 1, 2), 0, (2, 1))
    up = Connection("code é", "conv_transpose", even(2, 3, 2, 3), exponent, stride, groups=2)
    up = replace(up, output_padding=(stride[0] - 1, 1))
    code_shape = code.output_shape((4, 5, 4))
    assert code_shape is not None
    wide = up.output_shape(code_shape)
    assert wide is not None
    lif = Neuron(4096, 2048, int(rng.integers(1, 900)))
    mix = Connection("up", "conv", even(6, 2, 1, 1), groups=3)
    size = int(np.prod(wide))
    nodes = (
        Node("stem", (4, 5, 4), lif, bias(4), (stem,)),
        Node("code é", code_shape, lif, bias(2), (code,)),
        Node("up", wide, lif, bias(6), (up,), sum_bound=4000),
        Node("mix", wide, lif, bias(6), (mix, Connection("up", "identity", even(), exponent))),
        Node(
            "out", (3, 1, 1), READOUT, bias(3), (Connection("mix", "dense", even(3, size)),), 9000
        ),
    )
    return IntegerNet((2, 5, 4), nodes, 2, int(rng.integers(1, 4)), bits)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record(net: IntegerNet, samples: int = 2) -> Golden:
    rng = np.random.default_rng(1)
    shape = (samples, *net.input_shape, net.timesteps)
    inputs = rng.integers(0, 1 << net.input_bits, shape).astype(np.uint8)
    spikes, potential, ledger = run_plain(net, inputs)
    last = net.nodes[-1]
    sums = (potential[last.name] >> 6).reshape(samples, last.size, net.timesteps)
    after = {n: np.where(spikes[n], 0, v).astype(np.int32) for n, v in potential.items()}
    return Golden(
        inputs,
        spikes,
        sums,
        ledger,
        {n: digest_potentials(v) for n, v in after.items()},
        {node.name: node.fingerprint() for node in net.nodes},
        2.5,
    )


FIELDS: dict[str, Any] = {
    "architecture": "resnet-small",
    "dataset": "digits",
    "encoding": {"name": "deterministic", "seed": 3},
    "model": {"widths": (8, 16)},
    "data": {"dataset": "digits"},
    "accuracy": {"test": {"correct": 355, "samples": 360}},
    "command": "neucodex train",
    "seed": 7,
    "versions": {"numpy": "1.26.4"},
    "created": "2026-01-02T03:04:05+00:00",
}


BASE_FIELDS: dict[str, Any] = FIELDS | {
    "kind": "base",
    "split": None,
    "bottleneck": None,
    "base": None,
    "gains": {"readout": 64.0, "stem": 50.5},
    "split_points": {"SP1": 1, "SP2": 3},
}


def write_base(folder: Path, **changes: Any) -> Bundle:
    net, _, _ = load_join_net(5)
    return write_bundle(folder, net, golden=record(net), **(BASE_FIELDS | changes))


def write_split(folder: Path, base: str, cut: int = 3, **changes: Any) -> Bundle:
    net, _, _ = load_join_net(cut)
    fields = FIELDS | {
        "kind": "split",
        "split": "SP3",
        "bottleneck": {"channels": 2},
        "base": base,
        "gains": {"readout": 64.0},
        "split_points": {},
    }
    return write_bundle(folder, net, golden=record(net), **(fields | changes))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    base = write_base(tmp_path / "base")
    write_split(tmp_path / "sp3", base.sha256)
    return tmp_path / "base", tmp_path / "sp3"


# --- round trips --------------------------------------------------------------------------------


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
    assert manifest.measured("test") == Accuracy(355, 360)
    low, high = manifest.accuracy["test"]["interval"]
    assert 0.96 < low < 355 / 360 < high < 1
    assert manifest.exits == {"confidence": {"alpha": 0.9}}
    assert manifest.model == {"widths": [8, 16]}
    assert Manifest.from_json(manifest.to_json(), "m") == manifest
    with pytest.raises(BundleError, match="no accuracy 'train'"):
        manifest.measured("train")
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


# --- the base -----------------------------------------------------------------------------------


def test_the_base_is_found_beside_or_given(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, split = (load_bundle(p) for p in pair)
    assert find_base(base) is base
    assert find_base(split).path.name == "base"
    shutil.copytree(pair[0], tmp_path / "elsewhere" / "b")
    shutil.rmtree(pair[0])
    with pytest.raises(BundleError, match=f"{base.sha256[:12]}.*--base"):
        find_base(split)
    assert find_base(split, tmp_path / "elsewhere" / "b").sha256 == base.sha256
    other = write_base(tmp_path / "other", seed=8)
    with pytest.raises(BundleError, match=f"{other.sha256[:12]}.*is not the base of"):
        find_base(split, tmp_path / "other")


# --- bad bundles --------------------------------------------------------------------------------


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    for key, value in changes.items():
        if value is ...:
            del raw[key]
        else:
            raw[key] = value
    path.write_text(json.dumps(raw))


def rehash(folder: Path) -> None:
    """What a forger does: make the manifest name the changed files."""
    raw = json.loads((folder / "manifest.json").read_text())
    files = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in raw["files"]}
    edit_manifest(folder, files=files)


@pytest.mark.parametrize("name", ["edge.net", "tail.safetensors", "golden.npz"])
def test_a_missing_or_changed_file_is_named(name: str, pair: tuple[Path, Path]) -> None:
    path = pair[1] / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed: sha256"):
        load_bundle(pair[1])
    path.unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(pair[1])


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no folder"):
        load_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        load_bundle(tmp_path)
    manifest = tmp_path / "manifest.json"
    for content, message in (
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"kind": NaN}', "not JSON"),
        (b'{"kind": 1, "kind": 2}', "'kind' is given twice"),
        (b"{}", "'format_version' is missing"),
        (b" " * (1 << 22) + b"{}", "the limit is"),
    ):
        manifest.write_bytes(content)
        with pytest.raises(BundleError, match=message):
            load_bundle(tmp_path)


DEFECTS: dict[str, tuple[dict[str, Any], str]] = {
    "a newer version": ({"format_version": 2}, "version 2, .*up to 1 .update neucodex-lava"),
    "an unknown key": ({"colour": 1}, "unknown key 'colour'"),
    "a missing key": ({"seed": ...}, "'seed' is missing"),
    "an unknown kind": ({"kind": "half"}, "'kind' is 'half'"),
    "a split of another name": ({"split": "late"}, "needs SP1, SP2"),
    "no base": ({"base": None}, "names its base by sha256"),
    "a base that is no sha256": ({"base": "abc"}, "'abc' is no sha256"),
    "cut as text": ({"cut": "3"}, "'cut' is '3', it must be an integer"),
    "cut elsewhere": ({"cut": 2}, "manifest says cut 2, edge.net has 3 nodes"),
    "cut at 0": ({"cut": 0}, "'cut' is 0, outside"),
    "other timesteps": ({"t_max": 9}, "manifest says t_max 9, the network has 2"),
    "timesteps of 0": ({"t_max": 0}, "'t_max' is 0, outside"),
    "true for a number": ({"t_max": True}, "must be an integer"),
    "another code": ({"code_shape": [1, 1, 1]}, "manifest says code_shape"),
    "a flat shape": ({"input_shape": [4]}, "'input_shape' is list, it must be 3 integers"),
    "other classes": ({"classes": 10}, "manifest says classes 10"),
    "a split point out of reach": ({"split_points": {"SP1": 2}}, "cannot be cut at 2 .SP1"),
    "a gain of nothing": ({"gains": {"readout": 0}}, "must be positive"),
    "a gain of no node": ({"gains": {"x": 1.0}}, "a gain for 'x', which is no node"),
    "more right than asked": (
        {"accuracy": {"test": {"correct": 9, "samples": 8}}},
        "'correct' is 9, outside",
    ),
    "a claimed share": (
        {"accuracy": {"test": {"correct": 1, "samples": 8, "value": 0.9}}},
        "'value' does not follow",
    ),
    "a file outside": ({"files": {"../x": "0" * 64}}, "'files' does not list edge.net"),
}


@pytest.mark.parametrize("what", DEFECTS)
def test_a_defect_in_the_manifest_is_named(what: str, pair: tuple[Path, Path]) -> None:
    changes, message = DEFECTS[what]
    edit_manifest(pair[1], **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(pair[1])
    assert "\n" not in str(caught.value)


def test_a_file_outside_the_folder_is_never_named(pair: tuple[Path, Path]) -> None:
    files = json.loads((pair[1] / "manifest.json").read_text())["files"]
    for name in ("../base/edge.net", "/etc/passwd", "", ".hidden", "manifest.json"):
        edit_manifest(pair[1], files=files | {name: "0" * 64})
        with pytest.raises(BundleError, match="no name of a file of a bundle"):
            load_bundle(pair[1])


def test_a_forged_file_with_the_right_hash_is_still_checked(pair: tuple[Path, Path]) -> None:
    base, split = pair
    shutil.copy(base / "edge.net", split / "edge.net")
    rehash(split)
    with pytest.raises(BundleError, match="cut 3, edge.net has 5 nodes"):
        load_bundle(split)
    (split / "tail.safetensors").write_bytes(b"nothing")
    rehash(split)
    with pytest.raises(FormatError, match="not a safetensors file"):
        load_tail(split)


def test_a_tail_of_another_edge_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_split(other, "0" * 64, cut=1)
    shutil.copy(other / "tail.safetensors", pair[1] / "tail.safetensors")
    rehash(pair[1])
    with pytest.raises(NetError, match="the tail continues .*'stem'.*the edge ends in .*'join'"):
        load_bundle(pair[1])


def test_a_bad_tail_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tail.safetensors"
    net = tail_net(0)
    write_tail(net, path)
    tensors = load_file(path)
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        text = file.metadata()["neucodex"]

    def attempt(message: str, structure: str = text, **changes: Any) -> None:
        kept = {k: v for k, v in (tensors | changes).items() if v is not None}
        save_file(kept, path, {"neucodex": structure})
        with pytest.raises((FormatError, NetError), match=message) as caught:
            read_tail(path)
        assert "\n" not in str(caught.value)

    attempt("tensor '0.bias' is missing", **{"0.bias": None})
    attempt("tensor '0.bias' is .'I8'", **{"0.bias": tensors["0.bias"].astype(np.int8)})
    attempt("expected .'I32', .6,", **{"0.bias": np.zeros(5, np.int32)})
    attempt("unexpected tensor 'more'", more=np.zeros(5, np.int32))
    attempt("'up'.*threshold -1", **{"0.neuron": np.array([4096, 0, -1], np.int32)})
    attempt("exponent 99", **{"0.0.exponent": np.array(99, np.int32)})
    attempt("not JSON", "{")
    attempt("reads up to 1", text.replace('"version": 1', '"version": 7'))
    attempt("not an earlier node", text.replace('"source": "up"', '"source": "out"'))
    attempt("'code_shape' is list", text.replace('"code_shape": [', '"code_shape": [7, '))
    save_file(tensors, path)
    with pytest.raises(FormatError, match="no tail of neucodex-lava"):
        read_tail(path)
    with pytest.raises(FormatError, match="No such file"):
        read_tail(tmp_path / "none")
    with pytest.raises(NetError, match="no tail to write"):
        write_tail(net.with_cut(5), path)


def rewrite_golden(folder: Path, **changes: np.ndarray | None) -> None:
    path = folder / "golden.npz"
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Any] = {n: archive[n] for n in archive.files} | changes
    np.savez_compressed(path, **{k: v for k, v in arrays.items() if v is not None})
    rehash(folder)


def test_a_bad_golden_record_is_one_line(pair: tuple[Path, Path]) -> None:
    folder = pair[0]
    whole = (folder / "golden.npz").read_bytes()
    with np.load(io.BytesIO(whole), allow_pickle=False) as archive:
        assert archive["spikes_0"].dtype == np.uint8
        sums = archive["sums"]
        meta = bytes(archive["meta"])

    def attempt(message: str, **changes: Any) -> None:
        (folder / "golden.npz").write_bytes(whole)
        rewrite_golden(folder, **changes)
        found = load_bundle(folder)
        with pytest.raises(BundleError, match=message) as caught:
            _ = found.golden
        assert "\n" not in str(caught.value)

    def newer(old: bytes, new: bytes) -> np.ndarray:
        return np.frombuffer(meta.replace(old, new), np.uint8)

    attempt("sums.npy", sums=None)
    attempt("'sums' is int64 .1,", sums=sums[:1])
    attempt("'sums' is float64", sums=sums.astype(float))
    attempt("'sums' is object", sums=np.array([{}], dtype=object))
    attempt("'spikes_0' is", spikes_0=np.zeros(1, np.uint8))
    attempt("a count is negative", syn_ops=np.full((2, 6, 2), -1))
    attempt("samples' is 99999", meta=newer(b'"samples": 2', b'"samples": 99999'))
    attempt("reads up to 1", meta=newer(b'"version": 1', b'"version": 2'))
    for content in (b"", b"PK", whole[:-40], whole[: len(whole) // 2]):
        (folder / "golden.npz").write_bytes(content)
        rehash(folder)
        with pytest.raises(BundleError, match="damaged, or no golden record"):
            _ = load_bundle(folder).golden


def test_a_golden_record_that_unpacks_too_far_is_refused(pair: tuple[Path, Path]) -> None:
    path = pair[0] / "golden.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["sums.npy"] += b"\0" * (1 << 26)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    rehash(pair[0])
    with pytest.raises(BundleError, match="not as long as it says"):
        _ = load_bundle(pair[0]).golden


def test_a_record_of_another_net_is_not_written(tmp_path: Path) -> None:
    net, _, _ = load_join_net(5)
    golden = record(net)
    for changed, message in (
        (replace(golden, inputs=golden.inputs * 2), "inputs hold 2, the limit is 1"),
        (replace(golden, sums=golden.sums[:, :1]), "sums are int64"),
        (replace(golden, spikes={}), "no spikes of node 'stem'"),
        (replace(golden, inputs=golden.inputs[:0]), "0 samples"),
        (replace(golden, ledger=golden.ledger.select(["stem"])), "count 'spikes_in' has shape"),
    ):
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "b", net, golden=changed, **BASE_FIELDS)
        assert not list(tmp_path.iterdir())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["manifest.json", "tail.safetensors", "golden.npz"])
def test_hundreds_of_damaged_files_end_in_one_line_each(name: str, pair: tuple[Path, Path]) -> None:
    path = pair[1] / name
    content = path.read_bytes()
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(200):
        data = np.frombuffer(content, np.uint8).copy()
        at = rng.integers(0, data.size, rng.integers(1, 6))
        data[at] = rng.choice([0, 1, 34, 57, 127, 128, 255], at.size)
        path.write_bytes(data.tobytes()[: None if rng.random() < 0.8 else int(at[0])])
        try:
            if name != "manifest.json":
                rehash(pair[1])
            _ = load_bundle(pair[1]).golden
        except (FormatError, NetError) as error:
            refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 600
    assert refused > 100


# --- whole or not at all ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"seed": "x"}, {"split": "SP1"}, {"model": {"a": object()}}, {"colour": 1},
               {"split_points": {"SP1": 2}}, {"gains": {"x": 1.0}}],
)  # fmt: skip
def test_a_wrong_field_leaves_the_old_bundle(fields: dict[str, Any], tmp_path: Path) -> None:
    before = write_base(tmp_path / "base").sha256
    with pytest.raises(BundleError):
        write_base(tmp_path / "base", **fields)
    assert load_bundle(tmp_path / "base").sha256 == before
    assert names_in(tmp_path) == ["base"]


@pytest.mark.parametrize("step", ["write_golden", "load_bundle", "_swap"])
def test_a_failure_in_the_middle_leaves_the_old_bundle(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_base(tmp_path / "base").sha256

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["neucodex_lava.bundle.write"], step, fail)
        with pytest.raises(BundleError, match="No space left"):
            write_base(tmp_path / "base", seed=8)
    assert load_bundle(tmp_path / "base").sha256 == before
    assert names_in(tmp_path) == ["base"]
    assert write_base(tmp_path / "base", seed=8).sha256 != before


def test_a_failed_last_rename_brings_the_old_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = write_base(tmp_path / "base").sha256
    rename = Path.rename

    def fail_into_place(self: Path, target: Path) -> Path:
        if target.name == "base" and ".old." not in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(BundleError, match="Input/output error"):
        write_base(tmp_path / "base", seed=8)
    assert load_bundle(tmp_path / "base").sha256 == before
    assert names_in(tmp_path) == ["base"]


def test_another_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        write_base(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("cut", [0, 5])
def test_a_split_bundle_needs_nodes_on_both_sides(cut: int, tmp_path: Path) -> None:
    with pytest.raises(NetError, match=f"cannot be cut at {cut}"):
        write_split(tmp_path / "s", "0" * 64, cut=cut)
    assert not list(tmp_path.iterdir())


def test_the_public_names() -> None:
    for name in bundles.__all__:
        assert hasattr(bundles, name)
