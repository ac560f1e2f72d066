"""Simple ways to answer on the edge or in the cloud, as tables: what others are compared with."""

from __future__ import annotations

from collections.abc import Iterator

from neucodex_lava.exits.place import PlacePolicy, Row
from neucodex_lava.exits.policy import Action


def simple_strategies(
    gains: tuple[float, float],
    local_edges: tuple[Row, ...],
    cloud_edges: tuple[Row, ...],
    *,
    link: bool,
) -> Iterator[tuple[str, PlacePolicy]]:
    """By name: answer on the edge at t; send all at t and take the cloud's answer; ask it after every
    timestep, until its confidence is in bin k or above.

    Args:
        gains: of the local head and of the cloud's readout.
        local_edges, cloud_edges: as `PlacePolicy` takes them.
        link: whether there is one; without, all answer on the edge.
    """
    t_max = len(local_edges)

    def tables(first: int, then: Action, least: int) -> PlacePolicy:
        """Wait for `first`, then do that; go on where the cloud's bin is below `least`."""
        edge, cloud = list[tuple[tuple[int, ...], ...]](), list[tuple[int, ...]]()
        for t in range(1, t_max + 1):
            action = int(then if t >= first else Action.WAIT)
            edge.append(((action,) * (len(local_edges[t - 1]) + 1),) * t)
            bins = range(len(cloud_edges[t - 1]) + 1)
            stop = [t == t_max or (t >= first and c >= least) for c in bins]
            cloud.append(tuple(int(Action.STOP if s else Action.CONTINUE) for s in stop))
        return PlacePolicy(t_max, *gains, local_edges, cloud_edges, tuple(edge), tuple(cloud))

    for t in range(1, t_max + 1):
        yield f"local at {t}", tables(t, Action.LOCAL, 0)
    if link:
        for t in range(1, t_max + 1):
            yield f"cloud at {t}", tables(t, Action.SEND, 0)
        for k in range(1, max(map(len, cloud_edges)) + 1):
            yield f"cloud until bin {k}", tables(1, Action.SEND, k)
