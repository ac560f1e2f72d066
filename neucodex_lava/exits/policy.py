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
    WAIT = 3
    """Run the next timestep, and keep this one's code to send it later (`place`)."""
    SEND = 4
    """Send the codes kept so far (`place`)."""


class OfflinePolicy(Protocol):
    """Says of whole runs where it would have stopped.

    Attributes:
        t_max: T_max; a policy always stops there.
    """

    @property
    def t_max(self) -> int:
        """T_max."""
        ...

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """The offline form: the `Action` after each timestep, had the sample come that far.

        Args:
            sums: S_t of whole runs, (N, K, T_max).

        Returns:
            (N, T_max), equal to what `step` says; never CONTINUE at T_max.
        """
        ...


class ExitPolicy(OfflinePolicy, Protocol):
    """Decides after every timestep whether to go on. Pure: all memory is in the state passed in.

    A timestep whose sums hold a NaN is not a confident one: every policy goes on, except at T_max.
    """

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


@dataclass(frozen=True, eq=False)
class Exits:
    """Where samples stopped.

    Attributes:
        timesteps: int64 (N,), timesteps run, 1..T_max.
        predictions: int64 (N,), the class with the largest S_t there (see `predicted`).
        actions: uint8 (N,), STOP or LOCAL.
        not_numbers: timesteps seen, over all samples, whose sums held a NaN.
    """

    timesteps: NDArray[np.int64]
    predictions: NDArray[np.int64]
    actions: NDArray[np.uint8]
    not_numbers: int = 0

    def histogram(self, t_max: int) -> list[int]:
        """Samples that stopped after 1, 2, ..., T_max timesteps."""
        return np.bincount(self.timesteps, minlength=t_max + 1)[1:].tolist()


def has_nan(sums: Sums) -> bool:
    """Whether one timestep's sums (K,) hold a NaN: `argmax` finds it first."""
    largest = sums[sums.argmax()]
    return bool(largest != largest)


def not_numbers(sums: Sums) -> NDArray[np.bool_]:
    """Which timesteps of whole runs (N, K, T) hold a NaN, (N, T)."""
    if sums.dtype.kind != "f":
        return np.zeros((sums.shape[0], sums.shape[2]), np.bool_)
    return np.isnan(sums).any(axis=1)


def predicted(sums: NDArray[Any]) -> NDArray[np.int64]:
    """The class with the largest sum, the first of equal ones; a NaN is never the largest.

    Args:
        sums: S_t, (..., K).

    Returns:
        (...); 0 where all are NaN.
    """
    numbers = np.where(np.isnan(sums), -np.inf, sums) if sums.dtype.kind == "f" else sums
    return np.asarray(numbers.argmax(axis=-1), np.int64)


def check_t_max(policy: OfflinePolicy, t_max: int, where: str) -> None:
    """Refuse a policy that was made for another T_max.

    Raises:
        ConfigError: another T_max.
    """
    if policy.t_max != t_max:
        raise ConfigError(
            f"the exit policy is for T_max = {policy.t_max}, {where} has T_max = {t_max}",
            "calibrate it again: neucodex calibrate BUNDLE",
        )


def decide(policy: OfflinePolicy, sums: Sums) -> Exits:
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
    seen = not_numbers(sums) & (np.arange(policy.t_max) <= last[:, None])
    return Exits(
        last.astype(np.int64) + 1,
        predicted(np.asarray(sums)[rows, :, last]),
        actions[rows, last],
        int(seen.sum()),
    )


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
    nans = 0
    for sample in sums:
        state, action, t = policy.start(), Action.CONTINUE, 0
        while action is Action.CONTINUE:
            t += 1
            state, action = policy.step(state, t, sample[:, t - 1])
            nans += has_nan(sample[:, t - 1])
        rows.append((t, int(predicted(sample[:, t - 1])), int(action)))
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Exits(table[:, 0], table[:, 1], table[:, 2].astype(np.uint8), nans)


def _check(policy: OfflinePolicy, sums: Sums) -> None:
    if sums.ndim != 3 or sums.shape[1] < 1 or sums.shape[2] != policy.t_max:
        raise ConfigError(
            f"running sums have shape {sums.shape}, expected (samples, classes, {policy.t_max})"
        )
