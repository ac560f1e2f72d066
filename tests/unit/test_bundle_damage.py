"""Bundles: what is missing, changed or forged is one clear line."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain import load_join_net
from safetensors.numpy import load_file, save_file
from small_bundles import BASE_FIELDS, record, tail_net, write_split

from neucodex_lava.bundle import (
    load_bundle,
    load_tail,
    write_bundle,
)
from neucodex_lava.errors import BundleError, FormatError, NetError
from neucodex_lava.tail_file import read_tail, write_tail


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
    "a newer version": ({"format_version": 4}, "version 4, .*up to 3 .update neucodex-lava"),
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
    attempt("reads up to 2", text.replace('"version": 1', '"version": 7'))
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
