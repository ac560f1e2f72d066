"""Tables of the place policy, from what calibration data say and what the link costs today.

`PlaceModel` keeps what was found on calibration data as plain numbers: how often each answer is right
and how confidences go on, both given the bin that the confidence is in; and a short record of the
samples. Since it is in the bundle, the edge makes new tables when its link changes, without the data.
`PlaceModel.tables` is backward induction over

    LOCAL     P(local right | t, b)
    WAIT      - step + sum_b' P(b' | t, b) V(t + 1, sent, b')
    SEND      - (t - sent) (message + code) + sum_c P(c | t, b) max(STOP, CONTINUE)
    STOP      P(cloud right | t, c)
    CONTINUE  - step + sum_b' P(b' | t, c) V(t + 1, t, b')

with b the local and c the cloud's bin, step the joules of an edge timestep, message and code the joules
and seconds of the link, all priced in accuracy. Under the model no tables do better. But a sample's
confidences are no Markov chain: after CONTINUE the model draws the cloud's next bin afresh, and so it
expects too much of going on. `PlaceModel.solve` therefore tries these tables and the simple strategies
on the record, and takes what really earned most there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.calibration.place_costs import Link, Prices
from neucodex_lava.exits.calibration.place_record import BINS_LIMIT, Record
from neucodex_lava.exits.calibration.place_simple import simple_strategies
from neucodex_lava.exits.logits import Floats
from neucodex_lava.exits.place import PlacePolicy, Row, follow
from neucodex_lava.exits.policy import Action

BY_TABLES = "tables"


class Solved(NamedTuple):
    """What to do over a link.

    Attributes:
        policy: to be followed.
        utility: what it earned on the recorded calibration samples.
        strategy: ``tables``, or the name of a simple strategy.
    """

    policy: PlacePolicy
    utility: float
    strategy: str


@dataclass(frozen=True)
class PlaceModel:
    """What calibration data say, as plain numbers.

    Attributes:
        t_max: T_max.
        local_gain, cloud_gain: of the local head and of the cloud's readout.
        local_edges, cloud_edges: for each t the confidences at which a new bin begins.
        local_right, cloud_right: `[t - 1][bin]`, share of right answers.
        wait: `[t - 1][bin][next bin]`, shares of the next local bin.
        ask: `[t - 1][bin][cloud bin]`, shares of the cloud's bin.
        go_on: `[t - 1][cloud bin][next bin]`, shares of the next local bin after the cloud's answer.
        step_j: joules of each edge timestep.
        code_bits: bits of one timestep's code.
        first: shares of the local bins at t = 1.
        record: what the calibration samples did, as `Record.to_text`.

    Raises:
        ConfigError: tables whose shapes do not fit T_max and the bins, shares that are none, or a
            record of something else.
    """

    t_max: int
    local_gain: float
    cloud_gain: float
    local_edges: tuple[Row, ...]
    cloud_edges: tuple[Row, ...]
    local_right: tuple[Row, ...]
    cloud_right: tuple[Row, ...]
    wait: tuple[tuple[Row, ...], ...]
    ask: tuple[tuple[Row, ...], ...]
    go_on: tuple[tuple[Row, ...], ...]
    step_j: Row
    code_bits: int
    first: Row
    record: str

    def __post_init__(self) -> None:
        t_max, local = self.t_max, [len(row) + 1 for row in self.local_edges]
        require(t_max >= 1, f"place model: T_max is {t_max}, it must be 1 or more")
        cloud = [len(row) + 1 for row in self.cloud_edges]
        _require_rows("local_edges", self.local_edges, [n - 1 for n in local], t_max)
        _require_rows("cloud_edges", self.cloud_edges, [n - 1 for n in cloud], t_max)
        require(
            max(local + cloud) <= BINS_LIMIT,
            f"place model: {max(local + cloud)} bins, at most {BINS_LIMIT} are read",
        )
        _require_rows("local_right", self.local_right, local, t_max)
        _require_rows("cloud_right", self.cloud_right, cloud, t_max)
        for name, tables, before, after in (
            ("wait", self.wait, local[:-1], local[1:]),
            ("ask", self.ask, local, cloud),
            ("go_on", self.go_on, cloud[:-1], local[1:]),
        ):
            _require_length(name, tables, len(before))
            for t, (table, rows, columns) in enumerate(zip(tables, before, after), start=1):
                _require_rows(f"{name} at t = {t}", table, [columns] * rows, rows)
        _require_rows("first", (self.first,), local[:1], 1)
        _require_rows("step_j", (self.step_j,), [t_max], 1, most=np.inf)
        require(self.code_bits >= 0, f"place model: {self.code_bits} bits of a code")
        seen = self.recorded
        fits = (seen.local_bins < local).all() and (seen.cloud_bins < cloud).all()
        require(bool(fits), "place model: its record has bins that its tables do not have")

    @cached_property
    def recorded(self) -> Record:
        """What the calibration samples did."""
        return Record.from_text(self.record, self.t_max)

    def solve(self, link: Link, prices: Prices) -> Solved:
        """Of the tables and the simple strategies, for a link, what earned most on the record."""
        ways = [
            (BY_TABLES, self.tables(link, prices)[0]),
            *simple_strategies(
                (self.local_gain, self.cloud_gain),
                self.local_edges,
                self.cloud_edges,
                link=link.up,
            ),
        ]
        found = [Solved(policy, self.earned(policy, link, prices), name) for name, policy in ways]
        return max(found, key=lambda solved: solved.utility)

    def earned(self, policy: PlacePolicy, link: Link, prices: Prices) -> float:
        """Utility of a policy on the recorded samples: accuracy less priced joules and seconds."""
        seen = self.recorded
        ways = follow(policy, seen.local_bins, seen.cloud_bins)
        answers = np.where(
            (ways.actions == Action.LOCAL)[:, None], seen.local_right, seen.cloud_right
        )
        right = answers[np.arange(len(answers)), ways.timesteps - 1]
        return float((right - prices(*self.costs(ways.timesteps, ways.sent, link))).mean())

    def tables(self, link: Link, prices: Prices) -> tuple[PlacePolicy, float]:
        """The best tables under the model, and the utility that the model expects of them."""
        edge: list[tuple[tuple[int, ...], ...]] = []
        cloud: list[tuple[int, ...]] = []
        following = np.zeros((0, 0))
        message = prices(link.message_j, link.message_s)
        code = message + prices(link.bit_j, link.bit_s) * self.code_bits
        for t in range(self.t_max, 0, -1):
            last = t == self.t_max
            stop = np.array(self.cloud_right[t - 1])
            go_on = np.full(len(stop), -np.inf)
            wait = np.full((t, len(self.local_right[t - 1])), -np.inf)
            if not last:
                step = prices(self.step_j[t], 0.0)
                go_on = np.array(self.go_on[t - 1]) @ following[t] - step
                wait = following[:t] @ np.array(self.wait[t - 1]).T - step
            asked = np.array(self.ask[t - 1]) @ np.maximum(stop, go_on)
            unsent = t - np.arange(t)[:, None]
            send = asked - code * unsent if link.up else np.full_like(wait, -np.inf)
            local = np.broadcast_to(np.array(self.local_right[t - 1]), wait.shape)
            # The first of equal ones, so the cheapest comes first.
            choices = np.stack([local, wait, send])
            numbers = np.array([Action.LOCAL, Action.WAIT, Action.SEND])
            edge.append(tuple(map(tuple, numbers[choices.argmax(axis=0)].tolist())))
            cloud.append(
                tuple(np.where(stop >= go_on, int(Action.STOP), int(Action.CONTINUE)).tolist())
            )
            following = choices.max(axis=0)
        policy = PlacePolicy(
            self.t_max,
            self.local_gain,
            self.cloud_gain,
            self.local_edges,
            self.cloud_edges,
            tuple(edge[::-1]),
            tuple(cloud[::-1]),
        )
        return policy, float(np.array(self.first) @ following[0] - prices(self.step_j[0], 0.0))

    def costs(
        self, timesteps: NDArray[np.int64], sent: NDArray[np.int64], link: Link
    ) -> tuple[Floats, Floats]:
        """Joules on the edge and seconds of the link of each sample, (N,) both.

        Args:
            timesteps, sent: run, and sent over the link, (N,) both.
            link: what it costs.
        """
        bits = sent * self.code_bits
        joules = np.cumsum(self.step_j)[timesteps - 1]
        return (
            joules + link.message_j * sent + link.bit_j * bits,
            link.message_s * sent + link.bit_s * bits,
        )


def _require_length(name: str, rows: Sequence[Any], length: int) -> None:
    require(len(rows) == length, f"place model: {name} has {len(rows)} rows, expected {length}")


def _require_rows(
    name: str, rows: Sequence[Row], lengths: Iterable[int], count: int, most: float = 1.0
) -> None:
    """Refuse rows that are not so many, of these lengths, of numbers from 0 to `most`."""
    _require_length(name, rows, count)
    for row, length in zip(rows, lengths):
        require(
            len(row) == length,
            f"place model: a row of {name} has {len(row)} numbers, expected {length}",
        )
        wrong = [v for v in row if not (0 <= v <= most + 1e-9 and np.isfinite(v))]
        require(not wrong, f"place model: {name} holds {wrong[:1]}, not a share or cost")
