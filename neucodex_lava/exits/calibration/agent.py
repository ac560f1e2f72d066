"""SPARQ's agent: tabular Q-learning of when to exit (arXiv 2603.14380).

State: the exit (or timestep) and the confidence there in equal steps. Actions: exit, continue. The
hyper-parameters are the paper's: eta 0.1, gamma 0.9, alpha 0.3, 5,000 to 10,000 episodes,
epsilon-greedy with decay. The reward is ours, as the paper's equations were not at hand: with c_i the
SynOps spent up to exit i over the mean SynOps of whole runs,

    r(exit at i) = (1 if the answer there is right, else -1) - alpha c_i,    r(continue) = 0
    Q(s, a) <- Q(s, a) + eta (r + gamma max_a' Q(s', a') - Q(s, a))

where after an exit nothing follows, and the last exit is taken without asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.calibration.data import (
    Calibration,
    CalibrationData,
    CalibrationOptions,
)
from neucodex_lava.exits.confidence import max_softmax
from neucodex_lava.exits.logits import Floats, read_logits
from neucodex_lava.exits.qlearning import QLearningPolicy, confidence_bins

BINS = 10
EXIT, CONTINUE = 0, 1


@dataclass(frozen=True)
class AgentConfig:
    """How the agent learns.

    Attributes:
        episodes: samples drawn, one after the other.
        rate: eta, how far a value moves at each visit.
        discount: gamma.
        weight: alpha, how much cost counts against being right.
        first_epsilon, last_epsilon: share of random actions, falling geometrically.
        bins: steps of confidence.
        seed: source of all chance.
    """

    episodes: int = 10_000
    rate: float = 0.1
    discount: float = 0.9
    weight: float = 0.3
    first_epsilon: float = 1.0
    last_epsilon: float = 0.01
    bins: int = BINS
    seed: int = 0


def learn(
    confidence: Floats, correct: NDArray[np.bool_], cost: Floats, config: AgentConfig
) -> Floats:
    """Q of every state and action, learned from records of whole runs.

    Args:
        confidence: at each exit, (N, T); NaN is in the lowest bin.
        correct: whether the answer at each exit is right, (N, T).
        cost: c_i, (N, T).
        config: how.

    Returns:
        (T, bins, 2), exit first; the last exit's row holds what exiting there is worth.
    """
    samples, exits = confidence.shape
    rng = np.random.default_rng(config.seed)
    bins = confidence_bins(confidence, config.bins).tolist()
    rewards = (np.where(correct, 1.0, -1.0) - config.weight * cost).tolist()
    q = np.zeros((exits, config.bins, 2)).tolist()
    epsilons = np.geomspace(config.first_epsilon, config.last_epsilon, config.episodes)
    drawn = rng.integers(0, samples, config.episodes).tolist()
    chances = rng.random((config.episodes, exits, 2)).tolist()
    for n, epsilon, chance in zip(drawn, epsilons.tolist(), chances):
        for i in range(exits):
            values = q[i][bins[n][i]]
            action = int(chance[i][1] < 0.5)
            if chance[i][0] >= epsilon:
                action = EXIT if values[EXIT] > values[CONTINUE] else CONTINUE
            if i == exits - 1:
                action = EXIT
            if action == EXIT:
                target = rewards[n][i]
            else:
                target = config.discount * max(_following(q, i + 1, bins[n][i + 1], exits))
            values[action] += config.rate * (target - values[action])
            if action == EXIT:
                break
    return np.array(q)


def _following(q: list[list[list[float]]], i: int, which: int, exits: int) -> list[float]:
    """Values of what can be done at exit i: at the last one, exiting alone."""
    values = q[i][which]
    return values[:1] if i == exits - 1 else values


def relative_cost(syn_ops: NDArray[Any] | None, samples: int, exits: int) -> Floats:
    """c_i: SynOps up to each exit over the mean of whole runs, (N, T); timesteps / T without any."""
    if syn_ops is None:
        syn_ops = np.arange(1, exits + 1)
    spent = np.broadcast_to(np.asarray(syn_ops, np.float64), (samples, exits))
    whole = float(spent[:, -1].mean())
    require(whole > 0, "the SynOps of whole runs are 0: there is no cost to learn from")
    return spent / whole


def calibrate_qlearning(data: CalibrationData, options: CalibrationOptions) -> Calibration:
    """The Q-learning policy, from an agent trained on the calibration data."""
    config = AgentConfig(episodes=options.episodes, weight=options.weight, seed=options.seed)
    confidence = max_softmax(read_logits(data.sums, data.gain, options.logits))
    cost = relative_cost(data.syn_ops, len(data), data.t_max)
    q = learn(confidence, data.right, cost, config)
    advantage = q[..., EXIT] - q[..., CONTINUE]
    table = tuple(tuple(row) for row in advantage.tolist())
    policy = QLearningPolicy(data.t_max, data.gain, logits=options.logits, advantage=table)
    return Calibration.of(
        policy,
        data,
        episodes=config.episodes,
        weight=config.weight,
        seed=config.seed,
        cost="timesteps" if data.syn_ops is None else "syn_ops",
        relative_cost=[float(c) for c in cost.mean(axis=0)],
        value=q.tolist(),
    )
