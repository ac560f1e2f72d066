"""Tables of the place policy, from what calibration data say and what the link costs today.

`PlaceModel` keeps what was found on calibration data as plain numbers: how often each answer is right
and how confidences go on, both given the bin that the confidence is in. Since it is in the bundle, the
edge makes new tables when its link changes, without any data. `solve` is backward induction over

    LOCAL     P(local right | t, b)
    WAIT      - step + sum_b' P(b' | t, b) V(t + 1, sent, b')
    SEND      - message - (t - sent) code + sum_c P(c | t, b) max(STOP, CONTINUE)
    STOP      P(cloud right | t, c)
    CONTINUE  - step + sum_b' P(b' | t, c) V(t + 1, t, b')

with b the local and c the cloud's bin, and step, message and code their joules and seconds, priced in
accuracy. Given the model this is the best that any tables can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neucodex_lava.config import require
from neucodex_lava.exits.logits import Floats
from neucodex_lava.exits.place import Placed, PlacePolicy, Row
from neucodex_lava.exits.policy import Action


@dataclass(frozen=True)
class Link:
    """What the link costs.

    Attributes:
        up: whether there is one.
        message_s: seconds of a message and its answer, whatever its size.
        bit_s: seconds of each bit of a code.
        message_j, bit_j: joules on the edge, likewise.

    Raises:
        ConfigError: a negative cost.
    """

    up: bool = True
    message_s: float = 0.0
    bit_s: float = 0.0
    message_j: float = 0.0
    bit_j: float = 0.0

    def __post_init__(self) -> None:
        _require_costs(self)


@dataclass(frozen=True)
class Prices:
    """What accuracy is given for a joule and for a second: 0.01 gives up one point.

    Attributes:
        per_j, per_s: shares of accuracy.

    Raises:
        ConfigError: a negative price.
    """

    per_j: float = 0.0
    per_s: float = 0.0

    def __post_init__(self) -> None:
        _require_costs(self)

    def __call__(self, joules: Any, seconds: Any) -> Any:
        """Joules and seconds in accuracy."""
        return self.per_j * joules + self.per_s * seconds


def _require_costs(costs: Link | Prices) -> None:
    for name, value in vars(costs).items():
        good = np.isfinite(value) and value >= 0
        require(
            bool(good), f"{type(costs).__name__.lower()}: {name} {value} is not a cost of 0 or more"
        )


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
        step_j, step_s: joules and seconds of each edge timestep.
        code_bits: bits of one timestep's code.
        first: shares of the local bins at t = 1.
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
    step_s: Row
    code_bits: int
    first: Row

    def solve(self, link: Link, prices: Prices) -> tuple[PlacePolicy, float]:
        """The best tables for a link, and the utility the model expects of them.

        Utility is accuracy less priced joules and seconds, of the whole sample.
        """
        edge: list[tuple[tuple[int, ...], ...]] = []
        cloud: list[tuple[int, ...]] = []
        following = np.zeros((0, 0))
        message = prices(link.message_j, link.message_s)
        code = prices(link.bit_j, link.bit_s) * self.code_bits
        for t in range(self.t_max, 0, -1):
            last = t == self.t_max
            stop = np.array(self.cloud_right[t - 1])
            go_on = np.full(len(stop), -np.inf)
            wait = np.full((t, len(self.local_right[t - 1])), -np.inf)
            if not last:
                step = prices(self.step_j[t], self.step_s[t])
                go_on = np.array(self.go_on[t - 1]) @ following[t] - step
                wait = following[:t] @ np.array(self.wait[t - 1]).T - step
            asked = np.array(self.ask[t - 1]) @ np.maximum(stop, go_on)
            unsent = t - np.arange(t)[:, None]
            send = asked - message - code * unsent if link.up else np.full_like(wait, -np.inf)
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
        first_step = prices(self.step_j[0], self.step_s[0])
        return policy, float(np.array(self.first) @ following[0] - first_step)

    def costs(self, placed: Placed, link: Link) -> tuple[Floats, Floats]:
        """Joules on the edge and seconds of each sample, (N,) both."""
        bits = placed.sent * self.code_bits
        joules = np.cumsum(self.step_j)[placed.timesteps - 1]
        seconds = np.cumsum(self.step_s)[placed.timesteps - 1]
        return (
            joules + link.message_j * placed.messages + link.bit_j * bits,
            seconds + link.message_s * placed.messages + link.bit_s * bits,
        )
