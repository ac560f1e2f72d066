"""Bundles on disk behind a server: several of them, changed, broken and exchanged while it runs."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from raw_edge import RawEdge

import host_bridge
from host_bridge import serving
from host_bridge.messages import unpack_logits
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.serve import ServedFolders, open_tail

RELEASED = Path(host_bridge.__file__).parents[1] / "netx_exports" / "resnet-small-digits"


@pytest.fixture
def folders(tmp_path):
    for name in ("sp1", "sp2"):
        shutil.copytree(RELEASED / name, tmp_path / name)
    return tmp_path / "sp1", tmp_path / "sp2"


def test_a_bundle_is_exchanged_and_a_broken_one_stays_as_it_was(folders, caplog):
    first, second = folders
    served = ServedFolders(folders)
    old = served.tails
    assert len(old) == 2
    shutil.rmtree(first)
    shutil.copytree(RELEASED / "sp3", first)
    tail_file = second / "tail.safetensors"
    tail_file.write_bytes(tail_file.read_bytes()[:-1])
    with caplog.at_level(logging.ERROR):
        new = served.reload()
    (kept,) = old.keys() & new.keys()
    assert new[kept] is old[kept]
    assert {tail.code_shape for tail in new.values()} != {t.code_shape for t in old.values()}
    (record,) = caplog.records
    assert f"bundle {second} cannot be read, the old one stays: " in record.getMessage()
    assert record.exc_info is None


def test_split_is_for_the_base_bundles_among_several():
    served = ServedFolders([RELEASED / "base", RELEASED / "sp2"], split="SP1")
    shapes = [tail.code_shape for tail in served.by_folder.values()]
    assert shapes[0] != shapes[1]
    with pytest.raises(ConfigError, match="is cut at SP2, not at SP1"):
        ServedFolders([RELEASED / "sp2"], split="SP1")
    with pytest.raises(ConfigError, match="no bundle to serve"):
        ServedFolders([])


def test_sessions_at_different_timesteps_get_the_executors_sums_of_a_released_bundle():
    tail = open_tail(RELEASED / "sp2")
    rng = np.random.default_rng(7)
    codes = (rng.random((12, tail.t_max, *tail.code_shape)) < 0.3).astype(np.uint8)
    expected = run_twin(tail._executor, np.moveaxis(codes, 1, -1)).sums
    assert expected is not None
    with serving(tail) as address, ExitStack() as stack:
        edges = [stack.enter_context(RawEdge(address, tail, n)) for n in range(12)]
        for edge in edges:
            edge.open()
        waiting = [(n, t) for n in range(12) for t in range(1, tail.t_max + 1)]
        # Ahead of the answers, in an order that mixes timesteps.
        waiting.sort(key=lambda step: step[1] * 12 + step[0] * 5)
        for n, t in waiting:
            edges[n].code(codes[n, t - 1], 0, t)
        for n, edge in enumerate(edges):
            for t in range(tail.t_max):
                sums, _ = unpack_logits(edge.get().payload, tail.classes)
                assert sums.tolist() == expected[n, :, t].tolist()
