"""What the server needs of a cloud tail, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Tail(Protocol):
    """The layers after the cut, one timestep at a time.

    `step` is called from several threads, but never twice at once with the same state. A state is
    used once: `step` may change it in place and return it.
    """

    @property
    def model(self) -> str:
        """What edge and cloud agree on: the bundle's sha256, or another 64 lower-case hex digits."""
        ...

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the codes it takes."""
        ...

    @property
    def code_bits(self) -> int:
        """Bits a value: 1 for spikes, 2..8 for graded input."""
        ...

    @property
    def classes(self) -> int:
        """Length of the running sums."""
        ...

    @property
    def t_max(self) -> int:
        """Most timesteps a sample may have."""
        ...

    @property
    def gain(self) -> float:
        """The readout's gain: y(t) = S_t / (gain * t)."""
        ...

    def new_state(self) -> Any:
        """A state for the first timestep of a sample."""
        ...

    def step(self, state: Any, code: npt.NDArray[np.uint8], /) -> tuple[Any, npt.NDArray[np.int64]]:
        """Take one timestep.

        Args:
            state: from `new_state` or the step before.
            code: shape (C, H, W), values 0..2^code_bits-1.

        Returns:
            The new state and the running sums S_t, int64, shape (classes,).
        """
        ...


class BatchTail(Tail, Protocol):
    """A tail that takes one timestep of several samples together."""

    def step_batch(
        self, states: Sequence[Any], codes: npt.NDArray[np.uint8], /
    ) -> tuple[list[Any], npt.NDArray[np.int64]]:
        """Take one timestep of each of N samples; exactly what N calls of `step` give.

        When it raises, the states given must be as they were: each is then taken alone by `step`, to
        find the sample that failed.

        Args:
            states: N states, each as `step` takes it; the samples may be at different timesteps.
            codes: shape (N, C, H, W), values 0..2^code_bits-1.

        Returns:
            N new states and the running sums, int64, shape (N, classes).
        """
        ...
