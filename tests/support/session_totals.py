"""A session's running sums against its ledger. Tests only."""

from energy.ledger import CONNECTION_COUNTS, NODE_COUNTS, Ledger
from neucodex_lava.edge.session import EdgeSession


def check_totals(session: EdgeSession, ledger: Ledger) -> None:
    """The running sums are the ledger's, and the overhead's."""
    totals, outside = session.totals, ledger.outside_window
    for column, count in enumerate(CONNECTION_COUNTS):
        sums = getattr(ledger, count).sum(axis=(0, 2))
        assert totals.links[:, column].tolist() == sums.tolist()
        if count != "spikes_in":
            assert totals.outside_links[:, column].sum() == getattr(outside, count)
    for column, count in enumerate(NODE_COUNTS):
        sums = getattr(ledger, count).sum(axis=(0, 2))
        assert totals.nodes[:, column].tolist() == sums.tolist()
        assert totals.outside_nodes[:, column].sum() == getattr(outside, count)
