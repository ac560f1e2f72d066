"""One step of every exit policy, for 10 classes, against the limit of 20 microseconds.

``python -m benchmarks.exits`` prints the JSON; ``neucodex bench exits`` calls `run`.
"""

from __future__ import annotations

import json
import os
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from neucodex_lava.exits import (
    POLICIES,
    Action,
    ComposedPolicy,
    ConfidencePolicy,
    EntropyPolicy,
    ExitPolicy,
    FixedPolicy,
    PatiencePolicy,
    PlacePolicy,
    QLearningPolicy,
    TopKPolicy,
)

LIMIT_S = 20e-6
CLASSES, T_MAX, GAIN, BINS = 10, 4, 64.0, 10
NUMBER, REPEATS = 100, 200
"""The fastest of so many short stretches: others may keep the machine busy."""


def policies() -> dict[str, ExitPolicy]:
    """One of each, by name."""
    confidence = ConfidencePolicy(T_MAX, GAIN)
    found: dict[str, ExitPolicy] = {
        "confidence": confidence,
        "entropy": EntropyPolicy(T_MAX, GAIN),
        "topk": TopKPolicy(T_MAX, GAIN, (3.0, 2.0, 1.0, None)),
        "patience": PatiencePolicy(T_MAX),
        "fixed": FixedPolicy(T_MAX, 3),
        "qlearning": QLearningPolicy(T_MAX, GAIN, ((0.5,) * BINS,) * T_MAX),
        "composed": ComposedPolicy((confidence, PatiencePolicy(T_MAX))),
    }
    assert found.keys() == POLICIES.keys()
    return found


def place_policy() -> PlacePolicy:
    """Tables of 8 bins."""
    edges = tuple((np.arange(1, 8) / 8).tolist())
    edge = tuple(((Action.SEND,) * 8,) * t for t in range(1, T_MAX + 1))
    return PlacePolicy(
        T_MAX,
        GAIN,
        GAIN,
        (edges,) * T_MAX,
        (edges,) * T_MAX,
        edge,
        ((Action.CONTINUE,) * 8,) * T_MAX,
    )


def run() -> dict[str, Any]:
    """Time all policies.

    Returns:
        ``{"name": "exits", "cases": [...]}``; ``confidence_ratio`` is the confidence policy's time over
        the case's.
    """
    sums = np.random.default_rng(0).normal(size=CLASSES).astype(np.float32) * 20
    place = place_policy()
    steps: dict[str, Callable[[], object]] = {
        name: _step(policy, sums) for name, policy in policies().items()
    }
    steps["place, edge"] = lambda: place.edge_step(0, 2, sums)
    steps["place, cloud"] = lambda: place.cloud_step(2, 2, sums)
    seconds = {name: _best(step) for name, step in steps.items()}
    return {
        "name": "exits",
        "classes": CLASSES,
        "load_average": os.getloadavg()[0],
        "cases": [
            {
                "case": name,
                "ours_s": took,
                "baseline": "limit of 20 microseconds a step",
                "baseline_s": LIMIT_S,
                "ratio": LIMIT_S / took,
                "confidence_ratio": seconds["confidence"] / took,
            }
            for name, took in seconds.items()
        ],
    }


def _step(policy: ExitPolicy, sums: Any) -> Callable[[], object]:
    state = policy.start()
    return lambda: policy.step(state, 2, sums)


def _best(step: Callable[[], object]) -> float:
    return min(timeit.repeat(step, number=NUMBER, repeat=REPEATS)) / NUMBER


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
