"""Bundles are written whole or not at all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from small_bundles import names_in, write_base, write_split

from neucodex_lava import bundle as bundles
from neucodex_lava.bundle import (
    load_bundle,
)
from neucodex_lava.errors import BundleError, NetError


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
    assert write_base(tmp_path / "base", gains={"readout": 65.0}).sha256 != before


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
