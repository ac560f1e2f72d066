"""What a real run must agree in with the executor, compared with ``==``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger
from neucodex_lava.errors import SimulationError
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.measured import Measured

if TYPE_CHECKING:
    # The edge compares answers too, and needs no torch.
    from neucodex_lava.evaluation.outcome import Outcome

HINT = "run neucodex verify on the bundle and report what it says"


def require_agreement(
    configuration: Configuration, outcome: Outcome, measured: Measured, chosen: NDArray[np.intp]
) -> None:
    """Raise SimulationError unless the real run gave the executor's answers, counts and bytes."""
    where = configuration.title
    pairs = {
        what: (getattr(measured.exits, what), getattr(outcome.exits, what))
        for what in ("timesteps", "predictions")
    }
    if measured.sums is not None and outcome.sums is not None:
        pairs["running sums"] = measured.sums, outcome.sums
    require_same_answers(pairs, chosen, where)
    link = LinkCost.of(configuration.net)
    timesteps = measured.exits.timesteps
    if not np.array_equal(measured.payload_bits, link.payload_bits * timesteps):
        raise SimulationError(f"{where}: the codec sent other payloads than the report assumes")
    if not np.array_equal(measured.wire_bytes, link.wire_bytes(timesteps)):
        raise SimulationError(f"{where}: messages have other sizes than the report assumes")
    if measured.ledger is not None and outcome.edge is not None:
        require_same_counts(measured.ledger, outcome.edge, chosen, where)
    if measured.ledger is not None and outcome.unfed is not None:
        unfed = _rows(outcome.unfed, chosen).as_overhead()
        outside, wanted = measured.ledger.outside_window, outcome.idle + unfed
        for count, value in vars(wanted).items():
            if getattr(outside, count) != value:
                raise SimulationError(
                    f"{where}: {count} outside of the samples' windows is {getattr(outside, count)}"
                    f" in Lava, {value} in the executor",
                    HINT,
                )


def require_same_answers(
    pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], chosen: NDArray[np.intp], where: str
) -> None:
    """Raise SimulationError unless what was found equals what was expected of the chosen samples.

    Args:
        pairs: by what they are: found (len(chosen), ...) and expected (N, ...).
        chosen: which of the N samples were run for real.
        where: of the run, for messages.
    """
    for what, (found, expected) in pairs.items():
        wrong = np.flatnonzero((found != expected[chosen]).reshape(len(chosen), -1).any(axis=1))
        if wrong.size:
            raise SimulationError(
                f"{where}: {what} of sample {int(chosen[wrong[0]])} differ between Lava and the"
                " executor",
                HINT,
            )


def require_same_counts(
    found: Ledger, expected: Ledger, chosen: NDArray[np.intp], where: str
) -> None:
    """Raise SimulationError unless Lava counted what the executor did for the chosen samples."""
    first = found.first_difference(_rows(expected, chosen))
    if first is not None:
        count, node, n, t = first
        raise SimulationError(
            f"{where}: {count} of node '{node}' at timestep {t} of sample {int(chosen[n])}"
            " differs between Lava and the executor",
            HINT,
        )


def _rows(ledger: Ledger, chosen: NDArray[np.intp]) -> Ledger:
    return Ledger.concatenate([ledger.rows(slice(n, n + 1)) for n in chosen])
