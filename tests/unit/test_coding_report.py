"""The report's coded bits and entropy limit: worked out from counts, and what a coder really sends."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from host_bridge.codecs import Coder, Tables, TableTraining
from host_bridge.codecs.training import quantised
from neucodex_lava.bundle import coding_bytes, load_bundle, put_coding
from neucodex_lava.cloud.coded import CodedFrames, codes_at
from neucodex_lava.cloud.coding import train_tables
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.evaluation.configurations import base_configurations, split_configurations
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.samples import open_samples
from neucodex_lava.exits.fixed import FixedPolicy

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"


def test_entropy_by_hand() -> None:
    code = np.zeros((1, 2, 2, 2, 4), np.uint8)
    code[0, :, 0, 0, :3] = 1
    tables = Tables(
        np.array([[49152, 16384], [57344, 8192]], np.uint16),
        np.array([[[65532, 4], [4, 65532]]] * 2, np.uint16),
    )
    found = CodedFrames.of(code, 1, tables)
    own, kept = np.log2(4 / 3), -np.log2(65532 / 65536)
    assert found.entropy[0, 0] == pytest.approx(3 * 2 + 5 * own + 8 * np.log2(8 / 7))
    assert found.entropy[0, 1] == pytest.approx(16 * kept)  # every neuron does what it did
    assert found.coded.tolist() == [[16, 16]]  # packed: 16 bits
    plain = CodedFrames.of(code, 1, None)
    assert plain.entropy[0, 0] == pytest.approx(3 * np.log2(8 / 3) + 5 * np.log2(8 / 5))
    assert found.until(np.array([2])) == pytest.approx((32, found.entropy.sum()))
    assert found.until(np.array([1])) == pytest.approx((16, found.entropy[0, 0]))


@pytest.mark.parametrize(("bits", "trained"), [(1, True), (1, False), (3, True), (3, False)])
@pytest.mark.parametrize("activity", [0.0, 0.01, 0.1, 0.4])
def test_coded_bits_are_what_auto_sends(bits: int, trained: bool, activity: float) -> None:
    draw = np.random.default_rng(4)
    shape = (16, 16, 16)
    codes = draw.integers(1, 1 << bits, (6, 3, *shape)) * (draw.random((6, 3, *shape)) < activity)
    codes = codes.astype(np.uint8)
    codes[:, 2] = codes[:, 1]
    training = TableTraining(shape, bits)
    for sample in codes:
        training.add(sample)
    tables = training.tables() if trained else None
    found = CodedFrames.of(codes, bits, tables)
    coder = Coder(shape, bits, tables)
    for n, sample in enumerate(codes):
        for t, code in enumerate(sample):
            _, payload = coder.encode(code, sample[t - 1] if t else None)
            assert abs(len(payload) - found.coded[n, t] / 8) <= 3


def test_rows_count_the_codes_of_their_own_cut_and_timesteps(tmp_path: Path) -> None:
    for name in ("base", "sp1"):
        shutil.copytree(RELEASED / name, tmp_path / name)
    base, split = load_bundle(tmp_path / "base"), load_bundle(tmp_path / "sp1")
    inputs = open_samples(base, 12).take()
    cut = base.manifest.split_points["SP1"]
    tables = train_tables(base.net, [cut], [inputs])
    base = put_coding(base, coding_bytes(tables, {}))
    run = run_twin(Executor(base.net), inputs, record=True, count=False)
    expected = CodedFrames.of(codes_at(base.net, cut, inputs, run.spikes or {}), 1, tables[cut])
    twins = TwinRuns(inputs)
    fixed, _, with_bottleneck, _ = split_configurations(base, "SP1", split)
    whole, early = (twins.outcome(fixed, FixedPolicy(4, t)) for t in (4, 2))
    assert whole.coded_bits == expected.coded.sum(axis=1).mean()
    assert whole.entropy_bits == pytest.approx(expected.entropy.sum(axis=1).mean())
    assert early.coded_bits == expected.coded[:, :2].sum(axis=1).mean()
    assert 0 < whole.coded_bits < 0.9 * 4 * 16 * 8 * 8
    edge_only, _, cloud_only = base_configurations(base)
    assert twins.outcome(edge_only, FixedPolicy(4)).coded_bits is None
    sent = twins.outcome(cloud_only, FixedPolicy(4)).coded_bits
    assert sent is not None
    assert 0 < sent <= 4 * 64
    own = twins.outcome(with_bottleneck, FixedPolicy(4))
    assert own.entropy_bits is not None
    assert 0 < own.entropy_bits < (own.coded_bits or 0)


def test_tables_that_suit_other_codes_cost_no_more_than_packing() -> None:
    codes = (np.random.default_rng(1).random((2, 2, 4, 8, 8)) < 0.9).astype(np.uint8)
    tables = Tables(quantised(np.array([[1000, 1]] * 4)))
    found = CodedFrames.of(codes, 1, tables)
    assert (found.coded == 4 * 8 * 8).all()
    assert (found.entropy > 4 * 8 * 8).all()
