"""Exits decided while Lava runs, against the same policies on whole runs: every policy, real sockets.

Few samples by default. Two hundred of every policy and bundle, in some minutes::

    NEUCODEX_EXIT_SAMPLES=200 pytest tests/parity/test_exits_at_run_time.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from host_bridge import serving
from neucodex_lava.bundle import Bundle, load_bundle
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.measured import connect, run_measured
from neucodex_lava.evaluation.policies import NEED_NUMBERS, choose_policy
from neucodex_lava.evaluation.samples import load_samples
from neucodex_lava.exits import (
    POLICIES,
    ExitPolicy,
    FixedPolicy,
    TopKPolicy,
    decide,
)
from neucodex_lava.exits.calibration import KINDS, CalibrationOptions, calibrate

RELEASED = Path(__file__).parents[2] / "netx_exports" / "resnet-small-digits"
SAMPLES = int(os.environ.get("NEUCODEX_EXIT_SAMPLES", "6"))
NAMES = ("base", "sp1", "sp2", "sp3") if SAMPLES > 20 else ("base", "sp1")
SEEN = 120
"""Samples that the policies' numbers come from; what is compared does not depend on them."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def every_policy(bundle: Bundle, sums: np.ndarray, labels: np.ndarray) -> dict[str, ExitPolicy]:
    """One of each class and of each calibration, with numbers that stop early and late."""
    gain, t_max = bundle.readout_gain, bundle.manifest.t_max
    found = {
        name: choose_policy(bundle, name).policy for name in POLICIES if name not in NEED_NUMBERS
    }
    options = CalibrationOptions(level=0.1)
    for kind in KINDS:
        made = calibrate(kind, sums, labels, gain=gain, options=options)
        found[f"{kind}, calibrated"] = made.policy
    found["fixed at 2"] = FixedPolicy(t_max, 2)
    found["gap of 2"] = TopKPolicy(t_max, gain, (2.0,) * t_max)
    found["composed"] = choose_policy(bundle, "entropy+patience").policy
    return found


@pytest.mark.lava
@pytest.mark.parametrize("name", NAMES)
def test_every_policy_decides_in_lava_as_it_does_on_whole_runs(name: str) -> None:
    bundle = load_bundle(RELEASED / name)
    net = bundle.net
    inputs, labels = load_samples(bundle)
    rows = np.linspace(0, len(inputs) - 1, SAMPLES).astype(int)
    seen = run_twin(Executor(net), inputs[:SEEN]).sums
    whole = run_twin(Executor(net), inputs[rows]).sums
    assert seen is not None
    assert whole is not None
    policies = every_policy(bundle, seen, labels[:SEEN])
    assert {type(policy) for policy in policies.values()} == set(POLICIES.values())
    configuration = Configuration("D", None, bundle, net, dynamic=True)
    stopped: list[list[int]] = []
    with ExitStack() as stack:
        session = stack.enter_context(EdgeSession(net, keep_ledger=True))
        client = None
        if configuration.has_link:
            tail = TorchTail(net, configuration.model_id, bundle.readout_gain)
            address = stack.enter_context(serving({configuration.model_id: tail}))
            client = stack.enter_context(connect(configuration, address))
        for policy_name, policy in policies.items():
            real = run_measured(inputs[rows], policy, session, client)
            offline = decide(policy, whole)
            for what in ("timesteps", "predictions", "actions"):
                expected, found = getattr(offline, what), getattr(real.exits, what)
                assert np.array_equal(expected, found), (policy_name, what)
            answered = whole[np.arange(len(rows)), :, offline.timesteps - 1]
            assert np.array_equal(real.sums, answered), policy_name
            stopped.append(real.exits.timesteps.tolist())
    assert len({tuple(timesteps) for timesteps in stopped}) > 3, "they do not all stop alike"
