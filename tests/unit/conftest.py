"""What tests of several files start from."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_bundles import write_base, write_split


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a base bundle and of a split bundle of it."""
    base = write_base(tmp_path / "base")
    write_split(tmp_path / "sp3", base.sha256)
    return tmp_path / "base", tmp_path / "sp3"
