"""Where to answer: an exit head on the edge, or the cloud, and when to send.

After each edge timestep t the policy looks at the local head's sums L_t and chooses:

* LOCAL: answer with the local head, here and now;
* WAIT: run the next timestep; this one's code is kept;
* SEND: send all codes kept so far, one message each; the cloud answers with S_t, and the policy says
  then STOP (answer with the cloud's logits) or CONTINUE (run the next timestep);

by tables over (t, timesteps already sent, bin of the local confidence) and (t, bin of the cloud's
confidence). `calibration.place` makes them, for any link: a table for a link that is down never sends.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.confidence import max_softmax
from neucodex_lava.exits.logits import Floats, read_logits, require_reading
from neucodex_lava.exits.policy import Action, Sums, predicted

Row = tuple[float, ...]
EDGE_ACTIONS = (Action.LOCAL, Action.WAIT, Action.SEND)
CLOUD_ACTIONS = (Action.STOP, Action.CONTINUE)


def _confidence(sums: Sums, gain: float, t: int) -> float:
    return float(max_softmax(np.ascontiguousarray(sums, np.float64) / (gain * t)))


@dataclass(frozen=True)
class PlacePolicy:
    """Tables that say what to do; pure, like an `ExitPolicy`, but for two readouts.

    Confidence is the largest softmax probability of the mean output. See `unsure` for a NaN.

    Attributes:
        t_max: T_max.
        local_gain, cloud_gain: of the local head and of the cloud's readout.
        local_edges, cloud_edges: for each t the ascending confidences at which a new bin begins.
        edge_table: `[t - 1][timesteps already sent, 0..t - 1][bin]`, LOCAL, WAIT or SEND as numbers.
        cloud_table: `[t - 1][bin]`, STOP or CONTINUE.

    Raises:
        ConfigError: tables whose shapes do not fit T_max and bins, or actions that are none.
    """

    t_max: int
    local_gain: float
    cloud_gain: float
    local_edges: tuple[Row, ...]
    cloud_edges: tuple[Row, ...]
    edge_table: tuple[tuple[tuple[int, ...], ...], ...]
    cloud_table: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        require_reading(self.t_max, self.local_gain, "mean", 1.0)
        require_reading(self.t_max, self.cloud_gain, "mean", 1.0)
        tables = (self.local_edges, self.cloud_edges, self.edge_table, self.cloud_table)
        for table in tables:
            require(
                len(table) == self.t_max,
                f"place policy: a table for T_max = {len(table)}, not {self.t_max}",
                "calibrate for this T_max: neucodex calibrate BUNDLE",
            )
        for t, (local, cloud, edge, stop) in enumerate(zip(*tables), start=1):
            fits = len(edge) == t and {len(row) for row in edge} == {len(local) + 1}
            require(
                fits and len(stop) == len(cloud) + 1,
                f"place policy: the table at t = {t} does not fit its bins",
            )
            allowed = set(EDGE_ACTIONS) - ({Action.WAIT} if t == self.t_max else set())
            require(
                set(chain(*edge)) <= allowed and set(stop) <= set(CLOUD_ACTIONS),
                f"place policy: the table at t = {t} holds an action that is not possible there",
            )

    @cached_property
    def sends(self) -> bool:
        """Whether it ever uses the link."""
        return any(Action.SEND in row for rows in self.edge_table for row in rows)

    def unsure(self, t: int) -> Action:
        """What to do where the local sums hold a NaN: ask the cloud, or else go on to the end."""
        if self.sends:
            return Action.SEND
        return Action.LOCAL if t == self.t_max else Action.WAIT

    def start(self) -> int:
        """The state before the first timestep: no timestep has been sent."""
        return 0

    def edge_step(self, state: int, t: int, local_sums: Sums) -> tuple[int, Action]:
        """The new state and LOCAL, WAIT or SEND.

        Args:
            state: timesteps already sent.
            t: timesteps run so far, from 1.
            local_sums: L_t, (K,).
        """
        t = min(t, self.t_max)
        confidence = _confidence(local_sums, self.local_gain, t)
        if confidence == confidence:
            bin_ = bisect_right(self.local_edges[t - 1], confidence)
            action = Action(self.edge_table[t - 1][min(state, t - 1)][bin_])
        else:
            action = self.unsure(t)
        return (t if action is Action.SEND else state), action

    def cloud_step(self, state: int, t: int, cloud_sums: Sums) -> tuple[int, Action]:
        """The state and STOP or CONTINUE, after the cloud's answer.

        Args:
            state: as `edge_step` gave it.
            t: timesteps run and sent so far, from 1.
            cloud_sums: S_t, (K,).
        """
        if t >= self.t_max:
            return state, Action.STOP
        confidence = _confidence(cloud_sums, self.cloud_gain, t)
        if confidence != confidence:
            return state, Action.CONTINUE
        return state, Action(
            self.cloud_table[t - 1][bisect_right(self.cloud_edges[t - 1], confidence)]
        )


@dataclass(frozen=True, eq=False)
class Placed:
    """What became of samples; each array is (N,).

    Attributes:
        predictions: int64, the class answered.
        actions: uint8, LOCAL or STOP (the cloud's answer).
        timesteps: int64, run on the edge.
        sent: int64, timesteps whose codes were sent, a message each.
        asked: int64, how often the policy asked the cloud.
    """

    predictions: NDArray[np.int64]
    actions: NDArray[np.uint8]
    timesteps: NDArray[np.int64]
    sent: NDArray[np.int64]
    asked: NDArray[np.int64]


def binned(confidence: Floats, edges: tuple[Row, ...]) -> NDArray[np.int64]:
    """Bins of confidences (N, T), given each timestep's edges."""
    columns = [np.searchsorted(row, c, side="right") for row, c in zip(edges, confidence.T)]
    return np.stack(columns, axis=1).astype(np.int64)


def decide_place(policy: PlacePolicy, local_sums: Sums, cloud_sums: Sums) -> Placed:
    """What a policy does with each sample of whole runs, all at once.

    Args:
        policy: any.
        local_sums, cloud_sums: L_t and S_t, (N, K, T_max).

    Raises:
        ConfigError: sums of another shape.
    """
    _check(policy, local_sums, cloud_sums)
    local = max_softmax(read_logits(local_sums, policy.local_gain))
    cloud = max_softmax(read_logits(cloud_sums, policy.cloud_gain))
    local_bins = np.where(np.isnan(local), -1, binned(local, policy.local_edges))
    cloud_bins = np.where(np.isnan(cloud), -1, binned(cloud, policy.cloud_edges))
    ways = follow(policy, local_bins, cloud_bins)
    here, last = np.arange(len(local_sums)), ways.timesteps - 1
    predictions = np.where(
        ways.actions == Action.LOCAL,
        *(predicted(np.asarray(sums)[here, :, last]) for sums in (local_sums, cloud_sums)),
    )
    return Placed(predictions, ways.actions, ways.timesteps, ways.sent, ways.asked)


class Ways(NamedTuple):
    """What samples went through, (N,) each: as in `Placed`."""

    actions: NDArray[np.uint8]
    timesteps: NDArray[np.int64]
    sent: NDArray[np.int64]
    asked: NDArray[np.int64]


def follow(
    policy: PlacePolicy, local_bins: NDArray[np.int64], cloud_bins: NDArray[np.int64]
) -> Ways:
    """The ways of samples through a policy's tables.

    Args:
        policy: any.
        local_bins, cloud_bins: of their confidences, (N, T_max); -1 for a NaN.
    """
    samples = len(local_bins)
    actions = np.zeros(samples, np.uint8)
    timesteps, sent, asked = (np.zeros(samples, np.int64) for _ in range(3))
    going = np.arange(samples)
    for t in range(1, policy.t_max + 1):
        table = np.array(policy.edge_table[t - 1], np.uint8)
        bins = local_bins[going, t - 1]
        found = np.where(bins < 0, policy.unsure(t), table[sent[going], bins])
        sending, answering = going[found == Action.SEND], going[found == Action.LOCAL]
        sent[sending], asked[sending] = t, asked[sending] + 1
        bins = cloud_bins[sending, t - 1]
        stops = np.array(policy.cloud_table[t - 1], np.uint8)[bins] == Action.STOP
        stopped = sending[(stops & (bins >= 0)) | (t == policy.t_max)]
        actions[answering], timesteps[answering] = Action.LOCAL, t
        actions[stopped], timesteps[stopped] = Action.STOP, t
        going = going[timesteps[going] == 0]
    return Ways(actions, timesteps, sent, asked)


def decide_place_stepwise(policy: PlacePolicy, local_sums: Sums, cloud_sums: Sums) -> Placed:
    """`decide_place`, by the step form: one timestep of one sample after the other, as on the edge.

    Args:
        policy: any.
        local_sums, cloud_sums: L_t and S_t, (N, K, T_max).

    Raises:
        ConfigError: sums of another shape.
    """
    _check(policy, local_sums, cloud_sums)
    rows: list[tuple[int, ...]] = []
    for local, cloud in zip(local_sums, cloud_sums):
        state, action, t, asked = policy.start(), Action.WAIT, 0, 0
        while action in (Action.WAIT, Action.CONTINUE):
            t += 1
            state, action = policy.edge_step(state, t, local[:, t - 1])
            if action is Action.SEND:
                asked += 1
                state, action = policy.cloud_step(state, t, cloud[:, t - 1])
        answer = local if action is Action.LOCAL else cloud
        rows.append((int(predicted(answer[:, t - 1])), int(action), t, state, asked))
    predictions, actions, *counts = np.array(rows, np.int64).reshape(-1, 5).T
    return Placed(predictions, actions.astype(np.uint8), *counts)


def _check(policy: PlacePolicy, local_sums: Sums, cloud_sums: Sums) -> None:
    for sums in (local_sums, cloud_sums):
        require(
            sums.ndim == 3 and sums.shape == local_sums.shape and sums.shape[2] == policy.t_max,
            f"running sums have shapes {local_sums.shape} and {cloud_sums.shape}, expected"
            f" (samples, classes, {policy.t_max})",
        )
