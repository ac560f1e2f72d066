"""The oracle: stops as early as nobody can who does not know the answer. For evaluation only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.exits.metrics import optimal_cutoff
from neucodex_lava.exits.policy import Action, Sums


@dataclass(frozen=True, eq=False)
class OraclePolicy:
    """Stop at the first timestep from which the prediction stays right (`optimal_cutoff`).

    It knows labels and the future, so it has no step form and is never in a bundle.

    Attributes:
        t_max: T_max, at least 1.
        labels: classes of the samples it will be asked about, int (N,).
    """

    t_max: int
    labels: NDArray[np.int64]

    def actions(self, sums: Sums) -> NDArray[np.uint8]:
        """See `OfflinePolicy.actions`.

        Raises:
            ConfigError: labels for another number of samples.
        """
        require(
            len(sums) == len(self.labels),
            f"oracle: {len(self.labels)} labels for {len(sums)} samples",
        )
        stops = np.arange(1, self.t_max + 1) >= optimal_cutoff(sums, self.labels)[:, None]
        return np.where(stops, Action.STOP, Action.CONTINUE).astype(np.uint8)
