"""What to answer a sample with when time is up: the best that there is, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy.typing as npt

from host_bridge.client.log import StepReply


class Source(str, Enum):
    """Whose answer a result is, best first."""

    CLOUD = "cloud"
    """The cloud's, after the timestep by which the exit policy stopped."""
    EARLIER = "cloud-earlier"
    """The cloud's latest of this sample; the policy would have gone on."""
    LOCAL = "local"
    """Of an exit head on the edge."""
    ABSTAINED = "abstained"
    """Nobody's."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """The one result of a sample.

    Args:
        source: whose it is.
        timestep: that its sums are of; 0 where there are none.
        sums: running sums, shape (classes,); None for an abstention.
    """

    source: Source
    timestep: int
    sums: npt.NDArray[Any] | None


def descend(
    decided: bool, cloud: StepReply | None, local: tuple[int, npt.NDArray[Any]] | None
) -> Verdict:
    """The deadline ladder: this timestep's answer, else the best so far, the local exit, none.

    Args:
        decided: whether the exit policy stopped at the cloud's latest answer.
        cloud: the cloud's latest answer of this sample, if any.
        local: timestep and running sums of an exit head on the edge, where there is one.
    """
    if cloud is not None:
        return Verdict(Source.CLOUD if decided else Source.EARLIER, cloud.timestep, cloud.sums)
    if local is not None:
        return Verdict(Source.LOCAL, *local)
    return Verdict(Source.ABSTAINED, 0, None)
