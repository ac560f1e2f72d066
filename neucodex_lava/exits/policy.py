"""What an exit policy is, and its two forms: step by step on the edge, all at once offline.

A policy is a frozen dataclass of plain numbers. It sees S_t, the readout's running sums after
timestep t, and says what the edge does next. Both forms give exactly the same answers, so that a
whole test set run once to T_max can be evaluated under any policy without running it again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import ConfigError

Sums = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
"""Running sums S_t of the readout: integers, as integers or as floats that hold them exactly."""


class Action(enum.IntEnum):
    """What the edge does after a timestep."""

    CONTINUE = 0
    """Run and send the next timestep."""
    STOP = 1
    """Answer with the cloud's logits."""
    LOCAL = 2
    """Answer with the edge's own logits."""


class ExitPolicy(Protocol):
    """Decides after every timestep whether to go on. Pure: all memory is in the state passed in.

    Attributes:
        t_max: T_max; a policy always stops there.
    """

    @property
    def t_max(self) -> int:
        """T_max."""
        ...

    def start(self) -> Any:
        """The state before the first timestep of a sample."""
        ...

    def step(self, state: Any, t: int, sums: Sums) -> tuple[Any, Action]:
        """The new state and what to do after timestep t.

        Args:
            state: what `start` or the step before gave.
            t: timesteps run so far, from 1.
            sums: S_t, (K,).
        """
        ...

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """The offline form: the `Action` after each timestep, had the sample come that far.

        Args:
            sums: S_t of whole runs, (N, K, T_max).

        Returns:
            (N, T_max), equal to what `step` says; never CONTINUE at T_max.
        """
        ...


@dataclass(frozen=True, eq=False)
class Exits:
    """Where samples stopped.

    Attributes:
        timesteps: int64 (N,), timesteps run, 1..T_max.
        predictions: int64 (N,), the class with the largest S_t there (the first of equal ones).
        actions: uint8 (N,), STOP or LOCAL.
    """

    timesteps: NDArray[np.int64]
    predictions: NDArray[np.int64]
    actions: NDArray[np.uint8]

    def histogram(self, t_max: int) -> list[int]:
        """Samples that stopped after 1, 2, ..., T_max timesteps."""
        return np.bincount(self.timesteps, minlength=t_max + 1)[1:].tolist()


def decide(policy: ExitPolicy, sums: Sums) -> Exits:
    """Where a policy stops each sample of whole runs, all at once.

    Args:
        policy: any.
        sums: S_t, (N, K, T_max).

    Raises:
        ConfigError: sums of another shape.
    """
    _check(policy, sums)
    actions = policy.actions(sums)
    last = np.argmax(actions != Action.CONTINUE, axis=1)
    rows = np.arange(len(last))
    predictions = np.asarray(sums)[rows, :, last].argmax(axis=1)
    return Exits(last.astype(np.int64) + 1, predictions.astype(np.int64), actions[rows, last])


def decide_stepwise(policy: ExitPolicy, sums: Sums) -> Exits:
    """`decide`, by the step form: one timestep of one sample after the other, as on the edge.

    Args:
        policy: any.
        sums: S_t, (N, K, T_max).

    Raises:
        ConfigError: sums of another shape.
    """
    _check(policy, sums)
    rows: list[tuple[int, int, int]] = []
    for sample in sums:
        state, action, t = policy.start(), Action.CONTINUE, 0
        while action is Action.CONTINUE:
            t += 1
            state, action = policy.step(state, t, sample[:, t - 1])
        rows.append((t, int(sample[:, t - 1].argmax()), int(action)))
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Exits(table[:, 0], table[:, 1], table[:, 2].astype(np.uint8))


def _check(policy: ExitPolicy, sums: Sums) -> None:
    if sums.ndim != 3 or sums.shape[1] < 1 or sums.shape[2] != policy.t_max:
        raise ConfigError(
            f"running sums have shape {sums.shape}, expected (samples, classes, {policy.t_max})"
        )
