"""Structural exits read off from whole runs, beside plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cascades import GAINS, small_cascade
from plain import run_plain

from energy.ledger import ALL_COUNTS
from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.exits import ConfidencePolicy, FixedPolicy

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits" / "base"
EXITS = ("exit_sp1", "exit_sp2", "readout")
SEGMENT = {"stem": 0, "exit_sp1": 0, "mid": 1, "join": 1, "exit_sp2": 1, "late": 2, "readout": 2}


def cascade_policy(alpha: float) -> ConfidencePolicy:
    return ConfidencePolicy(3, 1.0, alpha, logits="sum")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_is_answered_by_the_first_exit_that_is_sure_and_nothing_behind_it_ran(
    seed: int,
) -> None:
    cascade, inputs = small_cascade(seed, samples=12)
    result = run_twin(Executor(cascade.net), inputs)
    _, potential, ledger = run_plain(cascade.net, inputs)
    sums = np.stack([potential[name][:, :, 0, 0, -1] >> 6 for name in EXITS], axis=-1)
    y = sums / (np.array(GAINS) * 4)
    shares = np.exp(y - y.max(axis=1, keepdims=True))
    confidence = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
    # Between the samples' confidences, so that they stop at different exits.
    alpha = float(np.median(confidence[:, 0]))
    sure = confidence >= alpha
    sure[:, -1] = True
    stop = sure.argmax(axis=1)
    assert len(set(stop)) > 1

    found = cascade.read_off(result, cascade_policy(alpha))
    assert found.exits.timesteps.tolist() == (stop + 1).tolist()
    rows = np.arange(len(inputs))
    assert found.exits.predictions.tolist() == y[rows, :, stop].argmax(axis=1).tolist()
    assert (found.sums == sums[rows, :, stop]).all()
    for count in ALL_COUNTS:
        expected = np.array(getattr(ledger, count))
        for row, node in enumerate(ledger.node_of(count)):
            expected[SEGMENT[ledger.nodes[node]] > stop, row] = 0
        assert (getattr(found.ledger, count) == expected).all(), count
    work = cascade.syn_ops(result.ledger)
    ran = found.ledger.per_sample("syn_ops") + found.ledger.per_sample("macs")
    assert (work[rows, stop] == ran).all()
    assert (np.diff(work, axis=1) > 0).all()


def test_exits_that_never_stop_run_the_whole_network() -> None:
    cascade, inputs = small_cascade(0, samples=3)
    result = run_twin(Executor(cascade.net), inputs)
    found = cascade.read_off(result, FixedPolicy(3))
    assert found.exits.timesteps.tolist() == [3, 3, 3]
    assert found.ledger.differences(result.ledger) == 0
    assert (found.sums == result.sums[..., -1]).all()  # type: ignore[index]


def test_what_makes_no_cascade_is_refused() -> None:
    cascade, inputs = small_cascade(0, samples=1)
    result = run_twin(Executor(cascade.net), inputs)
    with pytest.raises(ConfigError, match="for 4 exits, the network has 3"):
        cascade.read_off(result, FixedPolicy(4))
    with pytest.raises(ConfigError, match="has no exit heads.*--exit-heads"):
        Cascade.of(load_bundle(RELEASED))
