"""A tail steps samples together, whatever their timesteps, exactly as it steps each alone."""

from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from net_strategy import cases

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.errors import OverflowInRunError

EXAMPLES = int(os.environ.get("NEUCODEX_TAIL_EXAMPLES", "40"))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
MODEL = "0" * 64
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def expected_sums(net, inputs):
    """S_t of one sample, (T, K), whole and at once; None when it overflows."""
    try:
        sums = run_twin(Executor(net), inputs[None]).sums
    except OverflowInRunError:
        return None
    assert sums is not None
    return sums[0].T


@pytest.mark.parametrize("device", DEVICES)
def test_any_mixture_of_samples_and_timesteps_is_exact(device):
    seen: Counter[str] = Counter()

    @thorough
    @given(cases(), st.randoms(use_true_random=False))
    def one(case, random):
        net, inputs = case
        assume(net.ends_in_readout)
        tail = TorchTail(net.with_cut(0), MODEL, 1.0, device)
        expected = [expected_sums(net, sample) for sample in inputs]
        # Several copies of a sample, each at a timestep of its own.
        runs = [[n, 0, tail.new_state()] for n in range(len(inputs)) for _ in range(2)]
        while runs:
            batch = random.sample(runs, random.randint(1, len(runs)))
            codes = np.stack([inputs[n, ..., t] for n, t, _ in batch])
            before = [state.clone() for _, _, state in batch]
            try:
                states, sums = tail.step_batch([state for _, _, state in batch], codes)
            except OverflowInRunError:
                # Somebody's fault, and nobody else's: the states are as before.
                assert any(expected[n] is None for n, _, _ in batch)
                for (_, _, state), kept in zip(batch, before):
                    assert torch.equal(state, kept)
                runs = [run for run in runs if expected[run[0]] is not None]
                seen["overflow"] += 1
                continue
            seen["mixed"] += len({t for _, t, _ in batch}) > 1
            seen["late"] += any(c.longest_delay for _, c in net.connections())
            for run, code, kept, state, row in zip(batch, codes, before, states, sums):
                n, t, _ = run
                alone, lone_sums = tail.step(kept, code)
                assert torch.equal(alone, state)
                assert lone_sums.tolist() == row.tolist()
                if expected[n] is not None:
                    assert row.tolist() == expected[n][t].tolist()
                run[1], run[2] = t + 1, state
            runs = [run for run in runs if run[1] < inputs.shape[-1]]

    one()
    if EXAMPLES >= 100:
        assert min(seen[corner] for corner in ("overflow", "mixed", "late")) >= 3, seen


def test_a_state_holds_its_own_memory_alone():
    """A slow sample must not keep the batches it has been in."""
    from hypothesis import find

    net, inputs = find(cases(), lambda case: case[0].ends_in_readout)
    tail = TorchTail(net.with_cut(0), MODEL, 1.0)
    states, _ = tail.step_batch(
        [tail.new_state() for _ in range(8)], np.stack([inputs[0, ..., 0]] * 8)
    )
    assert {state.untyped_storage().nbytes() for state in states} == {states[0].numel() * 4}
