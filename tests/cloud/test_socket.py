"""A server on this Python, an edge in Lava on the main environment's, a socket between them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neucodex_lava.bundle import load_bundle

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "netx_exports" / "resnet-small-digits" / "sp1"
EDGE_PYTHON = Path(os.environ.get("NEUCODEX_EDGE_PYTHON", ROOT / ".venv" / "bin" / "python"))

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lava") is not None or not EDGE_PYTHON.exists(),
    reason="needs two environments: make setup, then make cloud-check",
)


@pytest.fixture
def address() -> Iterator[str]:
    command = str(Path(sys.executable).with_name("neucodex"))
    server = subprocess.Popen(
        [command, "serve", str(BUNDLE), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        yield f"{ready['host']}:{ready['port']}"
    finally:
        server.terminate()
        server.wait(30)


def test_sums_over_the_socket_are_those_of_the_golden_record(address: str, tmp_path: Path) -> None:
    out = tmp_path / "sums.npy"
    script = Path(__file__).with_name("edge_in_lava.py")
    subprocess.run(
        [EDGE_PYTHON, script, BUNDLE, address, out],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=150,
        check=True,
    )
    golden = load_bundle(BUNDLE).golden
    found = np.load(out)
    assert found.shape == golden.sums.shape
    np.testing.assert_array_equal(found, golden.sums)
