"""What a real run must agree in with the executor, compared with ``==``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.errors import SimulationError
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.measured import Measured
from neucodex_lava.evaluation.outcome import Outcome


def require_agreement(
    configuration: Configuration, outcome: Outcome, measured: Measured, chosen: NDArray[np.intp]
) -> None:
    """Raise SimulationError unless the real run gave the executor's answers, counts and bytes."""
    where = configuration.title
    for what in ("timesteps", "predictions"):
        mine = getattr(measured.exits, what)
        expected = getattr(outcome.exits, what)[chosen]
        if not np.array_equal(mine, expected):
            n = int(chosen[np.flatnonzero(mine != expected)[0]])
            raise SimulationError(
                f"{where}: {what} of sample {n} differ between Lava and the executor",
                "run neucodex verify on the bundle and report what it says",
            )
    if measured.sums is not None and outcome.sums is not None:
        wrong = np.flatnonzero((measured.sums != outcome.sums[chosen]).any(axis=1))
        if wrong.size:
            raise SimulationError(
                f"{where}: running sums of sample {int(chosen[wrong[0]])} differ between Lava and the"
                " executor",
                "run neucodex verify on the bundle and report what it says",
            )
    link = LinkCost.of(configuration.net)
    timesteps = measured.exits.timesteps
    if not np.array_equal(measured.payload_bits, link.payload_bits * timesteps):
        raise SimulationError(f"{where}: the codec sent other payloads than the report assumes")
    if not np.array_equal(measured.wire_bytes, link.wire_bytes(timesteps)):
        raise SimulationError(f"{where}: messages have other sizes than the report assumes")
    if measured.ledger is not None and outcome.edge is not None:
        expected_ledger = _rows(outcome.edge, chosen)
        first = measured.ledger.first_difference(expected_ledger)
        if first is not None:
            count, node, n, t = first
            raise SimulationError(
                f"{where}: {count} of node '{node}' at timestep {t} of sample {int(chosen[n])}"
                " differs between Lava and the executor",
                "run neucodex verify on the bundle and report what it says",
            )
    if measured.ledger is not None and outcome.unfed is not None:
        unfed = _rows(outcome.unfed, chosen).as_overhead()
        outside, wanted = measured.ledger.outside_window, outcome.idle + unfed
        for count, value in vars(wanted).items():
            if getattr(outside, count) != value:
                raise SimulationError(
                    f"{where}: {count} outside of the samples' windows is {getattr(outside, count)}"
                    f" in Lava, {value} in the executor",
                    "run neucodex verify on the bundle and report what it says",
                )


def _rows(ledger: Ledger, chosen: NDArray[np.intp]) -> Ledger:
    return Ledger.concatenate([ledger.rows(slice(n, n + 1)) for n in chosen])
