"""Mean counts per node of a ledger."""

from __future__ import annotations

from energy.ledger import ALL_COUNTS, Ledger
from neucodex_lava.report.results import LayerRow


def layer_rows(ledger: Ledger, side: str) -> list[LayerRow]:
    """One row per node: means per sample, and the firing rate over the timesteps really run.

    Args:
        ledger: counts.
        side: ``edge`` or ``cloud``.
    """
    samples = max(ledger.samples, 1)
    means = {c: ledger.per_node(c).sum(axis=(0, 2)) / samples for c in ALL_COUNTS}
    rows: list[LayerRow] = []
    for i, name in enumerate(ledger.nodes):
        values = {count: float(mean[i]) for count, mean in means.items()}
        updates = values["dendrite_updates"]
        rate = values["axon_out"] / updates if updates else 0.0
        rows.append(LayerRow(name=name, side=side, firing_rate=rate, **values))
    return rows
