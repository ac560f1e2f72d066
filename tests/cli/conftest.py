"""Released bundles, a way to change a copy as an attacker or an accident would, and a small job."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from main_job import Job

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


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, for all tests of a file that asks for it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A base and SP1 of the digits, trained and exported once."""
    from main_job import make_job

    return make_job(tmp_path_factory.mktemp("job"))
