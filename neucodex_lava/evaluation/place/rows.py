"""Rows of an evaluation for the choice between an exit head on the edge and the cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from energy.devices import DeviceModel
from host_bridge import serving
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.evaluation.link_cost import LinkCost
from neucodex_lava.evaluation.measured import connect
from neucodex_lava.evaluation.outcome import Outcome, TwinRuns
from neucodex_lava.evaluation.place.placement import Placement
from neucodex_lava.evaluation.place.run import (
    PlacedOutcome,
    read_off,
    require_same_places,
    run_placed,
)
from neucodex_lava.evaluation.rows import make_row
from neucodex_lava.exits.policy import Action, Exits
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Row


def place_rows(
    placements: Sequence[Placement],
    sessions: Sequence[EdgeSession],
    chosen: NDArray[np.intp],
    twins: TwinRuns,
    labels: NDArray[np.int64],
    *,
    energy_model: DeviceModel,
    progress: Progress = silent,
) -> list[Row]:
    """One row for each placement, P-B or P+B.

    Args:
        placements: sites with their tables.
        sessions: a gated Lava session of each one's edge part, started before anything of gRPC; none
            where nothing runs for real.
        chosen: samples that do; what becomes of them must equal what is read off from whole runs.
        twins: whole runs of the samples.
        labels: their classes, (N,).
        energy_model: prices the edge part; the link's energy is not in it.
        progress: of the real samples.

    Raises:
        SimulationError: Lava and the executor disagree.
        BridgeError: the loopback link failed.
    """
    outcomes = [read_off(p, twins.result(p.site.configuration)) for p in placements]
    real: list[PlacedOutcome | None] = [None] * len(placements)
    if sessions:
        sites = [p.site for p in placements]
        ids = [site.configuration.model_id for site in sites]
        tails = {i: TorchTail(s.net, i, s.bundle.readout_gain) for i, s in zip(ids, sites)}
        with serving(tails) as address:
            for i, (placement, session) in enumerate(zip(placements, sessions)):
                c = placement.site.configuration
                found = run_placed(
                    placement,
                    twins.inputs[chosen],
                    session,
                    connect(c, address),
                    task=f"Lava+bridge {c.title}",
                    progress=progress,
                )
                require_same_places(outcomes[i], found, chosen, c.title)
                real[i] = found
    rows = zip(placements, outcomes, real)
    return [_row(p, outcome, found, labels, energy_model) for p, outcome, found in rows]


def _row(
    placement: Placement,
    outcome: PlacedOutcome,
    real: PlacedOutcome | None,
    labels: NDArray[np.int64],
    energy_model: DeviceModel,
) -> Row:
    placed, c = outcome.placed, placement.site.configuration
    exits = Exits(placed.timesteps, placed.predictions, placed.actions)
    row = make_row(c, Outcome(exits, outcome.edge, None), None, labels, energy_model)
    link, sent = LinkCost.of(c.net), float(placed.sent.mean())
    row = replace(
        row,
        raw_bits=link.raw_bits * sent,
        packed_bits=link.packed_bits * sent,
        payload_bits=float(outcome.payload_bits.mean()),
        wire_bytes=float(outcome.wire_bytes.mean()),
        local_share=float((placed.actions == Action.LOCAL).mean()),
    )
    if real is None:
        return row
    return replace(
        row,
        edge_s=float(real.edge_s.mean()),
        roundtrip_s=float(real.roundtrip_s.mean()),
        cloud_s=float(real.cloud_s.mean()),
        measured_samples=len(real.edge_s),
    )
