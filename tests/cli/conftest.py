"""Released bundles, and a way to change a copy of one as an attacker or an accident would."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"


@pytest.fixture(scope="session")
def released() -> Path:
    """Folder of the released digits bundles."""
    return RELEASED


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """Copies a released bundle, with its base beside it."""

    def copy(name: str) -> Path:
        for part in {name, "base"}:
            shutil.copytree(RELEASED / part, tmp_path / "bundles" / part)
        return tmp_path / "bundles" / name

    return copy
