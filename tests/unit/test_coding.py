"""Coding tables of bundles: kept beside what the bundle is, found by whoever has the file, checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from bundles import reseal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from small_bundles import write_base, write_split

from host_bridge.codecs import ANS, CONDITIONED, Coder, Decoder, Tables
from host_bridge.codecs.training import quantised
from neucodex_lava.bundle import (
    Bundle,
    coding_bytes,
    cuts_of,
    load_bundle,
    load_coding,
    load_tail,
    put_coding,
)
from neucodex_lava.cli.main import run
from neucodex_lava.cloud.coded import codes_at
from neucodex_lava.cloud.coding import train_tables
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import BundleError
from neucodex_lava.evaluation.samples import open_samples

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
FILE = "coding.safetensors"


def some(channels: int, seed: int = 0, dictionary: bytes = b"") -> Tables:
    draw = np.random.default_rng(seed)
    counts, pairs = draw.integers(0, 999, (channels, 2)), draw.integers(0, 999, (channels, 2, 2))
    return Tables(quantised(counts), quantised(pairs), dictionary)


def with_tables(folder: Path) -> tuple[Bundle, Tables]:
    split = write_split(folder, "0" * 64)
    tables = some(split.manifest.code_shape[0])
    return put_coding(split, coding_bytes({split.manifest.cut: tables}, {})), tables


def test_tables_lie_beside_what_a_bundle_is(tmp_path: Path) -> None:
    before = write_base(tmp_path / "base")
    old = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    assert (before.manifest.format_version, load_coding(before, "SP1")) == (2, None)
    assert cuts_of(before.manifest) == [0, 1, 3]
    tables = {1: some(4, 1), 3: some(2, 2, b"\x37\xa4\x30\xec" + bytes(60))}
    after = put_coding(before, coding_bytes(tables, {"samples": 9}))
    assert after.sha256 == before.sha256
    assert after.manifest.format_version == 3
    again = load_bundle(tmp_path / "base")
    assert (again.sha256, again.manifest) == (after.sha256, after.manifest)
    for cut, split in ((1, "SP1"), (3, "SP2")):
        for which in (cut, split):
            found = load_coding(again, which)
            assert found is not None
            assert found.sha256 == tables[cut].sha256
    assert load_coding(tmp_path / "base", 0) is None
    assert {
        name: (tmp_path / "base" / name).read_bytes() for name in old if name != "manifest.json"
    } == {name: content for name, content in old.items() if name != "manifest.json"}
    # Others in their place, and the same once more.
    other = put_coding(again, coding_bytes({1: some(4, 7)}, {}))
    assert load_coding(other, 1).sha256 == some(4, 7).sha256  # type: ignore[union-attr]
    assert put_coding(other, coding_bytes({1: some(4, 7)}, {})) is other


def test_a_cloud_with_the_tail_file_has_the_tables_too(tmp_path: Path) -> None:
    split, tables = with_tables(tmp_path / "whole")
    cloud = tmp_path / "cloud"
    cloud.mkdir()
    for name in ("manifest.json", "tail.safetensors", FILE):
        shutil.copy(split.path / name, cloud)
    assert load_tail(cloud)[2] == split.sha256
    for cut in (None, "SP3", split.manifest.cut):
        found = load_coding(cloud, cut)
        assert found is not None
        assert found.sha256 == tables.sha256
    (cloud / FILE).unlink()
    with pytest.raises(BundleError, match=r"coding.safetensors is missing .*copy the whole folder"):
        load_coding(cloud)


def test_an_older_format_version_knows_no_tables(tmp_path: Path) -> None:
    split, _ = with_tables(tmp_path / "sp")
    reseal(split.path, format_version=2)
    with pytest.raises(BundleError, match=r"coding\.safetensors in format version 2"):
        load_bundle(split.path)


def test_a_cut_that_a_bundle_does_not_have_is_named(tmp_path: Path) -> None:
    split, _ = with_tables(tmp_path / "sp")
    with pytest.raises(
        BundleError, match=r"has no cut 'SP9' to have coding tables for .known: SP3"
    ):
        load_coding(split, "SP9")
    base = write_base(tmp_path / "base")
    base = put_coding(base, coding_bytes({1: some(4)}, {}))
    with pytest.raises(BundleError, match=r"has no cut None .*known: SP1, SP2"):
        load_coding(base)


def _metadata(**changes: object) -> dict[str, str]:
    told = {"format": "neucodex-coding", "version": 1, "trained": {}} | changes
    return {"neucodex": json.dumps(told)}


GOOD = {"3.counts": some(2).counts}
DEFECTS = {
    "no safetensors": (b"nonsense", "not a safetensors file"),
    "another file": (save(GOOD), "but no coding tables"),
    "another format": (save(GOOD, _metadata(format="x")), "'format' is not 'neucodex-coding'"),
    "a newer version": (save(GOOD, _metadata(version=2)), "version 2, .*up to 1 .update"),
    "an unknown key": (save(GOOD, _metadata(colour=1)), "unknown key 'colour'"),
    "a sum": (
        save({"3.counts": np.array([[1, 2]], np.uint16)}, _metadata()),
        "does not sum to 65536 .*calibrate BUNDLE --kind coding",
    ),
    "a type": (save({"3.counts": np.ones((2, 2))}, _metadata()), "'3.counts' is F64 .2, 2., no co"),
    "a size": (
        save(GOOD | {"3.dictionary": np.zeros(70_000, np.uint8)}, _metadata()),
        "'3.dictionary' is U8 .70000., no coding table",
    ),
    "a rank": (save(GOOD | {"3.given": GOOD["3.counts"]}, _metadata()), "'3.given' is U16 .2, 2."),
    "other channels": (
        save(GOOD | {"3.given": some(4).given}, _metadata()),
        "conditional coding tables of shape",
    ),
}


@pytest.mark.parametrize(("content", "said"), DEFECTS.values(), ids=DEFECTS)
def test_damage_is_one_clear_line(content: bytes, said: str, tmp_path: Path) -> None:
    split, _ = with_tables(tmp_path / "sp")
    (split.path / FILE).write_bytes(content)
    with pytest.raises(BundleError, match="was changed: sha256"):
        load_coding(split)
    reseal(split.path)
    with pytest.raises(BundleError, match=said):
        load_coding(split.path)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return with_tables(tmp_path_factory.mktemp("victim") / "sp")[0]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_give_tables_or_a_bundle_error(victim: Bundle, data: st.DataObject) -> None:
    pristine = (victim.path / FILE).read_bytes()
    content = bytearray(pristine)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (victim.path / FILE).write_bytes(content)
    reseal(victim.path)
    try:
        found = load_coding(victim.path)
    except BundleError:
        found = None
    finally:
        (victim.path / FILE).write_bytes(pristine)
        reseal(victim.path)
    assert found is None or found.channels >= 1


def test_calibrate_trains_tables_on_training_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("base", "sp1"):
        shutil.copytree(RELEASED / name, tmp_path / name)
        (tmp_path / name / FILE).unlink(missing_ok=True)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        manifest["files"].pop(FILE, None)
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    names = [load_bundle(tmp_path / name).sha256 for name in ("base", "sp1")]
    assert run(["calibrate", str(tmp_path), "--kind", "coding", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["samples"] for one in found["coding"]] == [256, 256]
    assert found["bundles"] == []
    base, split = load_bundle(tmp_path / "base"), load_bundle(tmp_path / "sp1")
    assert [base.sha256, split.sha256] == names
    assert sorted(found["coding"][0]["tables"]) == [str(cut) for cut in cuts_of(base.manifest)]
    first = (tmp_path / "sp1" / FILE).read_bytes()
    assert b'"split": "train"'.replace(b'"', b'\\"') in first
    (tmp_path / "sp1" / FILE).unlink()
    manifest = json.loads((tmp_path / "sp1" / "manifest.json").read_text())
    del manifest["files"][FILE]
    (tmp_path / "sp1" / "manifest.json").write_text(json.dumps(manifest))
    assert run(["calibrate", str(tmp_path / "sp1"), "--kind", "coding"]) == 0
    told = " ".join(capsys.readouterr().out.split())  # The terminal may be narrow.
    assert "coding tables for its cut, from 256 training samples" in told
    assert (tmp_path / "sp1" / FILE).read_bytes() == first


def test_trained_tables_are_the_rates_of_the_codes_and_code_them_well() -> None:
    base = load_bundle(RELEASED / "base")
    samples = open_samples(base, 32, split="train")
    cuts = cuts_of(base.manifest)
    trained = train_tables(
        base.net, cuts, [samples.take(slice(0, 20)), samples.take(slice(20, 32))]
    )
    whole = run_twin(Executor(base.net), samples.take(), record=True, count=False)
    for cut in cuts:
        codes = codes_at(base.net, cut, samples.take(), whole.spikes or {})
        shape, bits = base.net.with_cut(cut).code_shape, base.net.with_cut(cut).code_bits
        assert codes.shape == (32, base.manifest.t_max, *shape)
        for value in range(1 << bits):
            share = (codes == value).mean(axis=(0, 1, 3, 4))
            assert trained[cut].counts[:, value] / 65536 == pytest.approx(share, abs=2e-3)
        coder, decoder = Coder(shape, bits, trained[cut]), Decoder(shape, bits, trained[cut])
        packed = sent = 0
        used = set()
        for sample in codes:
            for t, code in enumerate(sample):
                previous = sample[t - 1] if t else None
                codec, payload = coder.encode(code, previous)
                used.add(codec)
                assert (decoder.decode(codec, payload, previous) == code).all()
                packed, sent = packed + -(-code.size * bits // 8), sent + len(payload)
        assert sent <= packed
        if cut == base.manifest.split_points["SP1"]:
            assert used & {ANS, CONDITIONED}
            assert sent < 0.8 * packed


def test_without_the_dataset_there_are_no_tables_and_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEUCODEX_DATA", raising=False)
    shutil.copytree(RELEASED / "sp1", tmp_path / "sp1")
    manifest = json.loads((tmp_path / "sp1" / "manifest.json").read_text())
    (tmp_path / "sp1" / FILE).unlink(missing_ok=True)
    manifest["files"].pop(FILE, None)
    manifest["data"] |= {"dataset": "cifar10"}
    (tmp_path / "sp1" / "manifest.json").write_text(json.dumps(manifest))
    assert run(["calibrate", str(tmp_path / "sp1"), "--kind", "coding"]) == 0
    assert "no coding tables trained: " in capsys.readouterr().out
    assert not (tmp_path / "sp1" / FILE).exists()
    assert load_coding(tmp_path / "sp1") is None
