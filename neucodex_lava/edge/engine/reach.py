"""Which positions a connection joins, along one axis and per kernel tap: tables for the kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.integer_net import Connection, Shape

Table = NDArray[np.int64]


def targets(connection: Connection, axis: int, n_source: int, n_target: int) -> Table:
    """Target position for (source position, kernel tap) along one axis, -1 for none."""
    return _joined(connection, axis, n_source, n_target, back=connection.kind == "conv")


def sources(connection: Connection, axis: int, n_source: int, n_target: int) -> Table:
    """Source position for (target position, kernel tap) along one axis, -1 for none."""
    return _joined(connection, axis, n_target, n_source, back=connection.kind != "conv")


def _joined(connection: Connection, axis: int, n_from: int, n_to: int, *, back: bool) -> Table:
    """The end of tap k at p: p * stride - padding + k * dilation, or `back` the p that ends there."""
    taps = np.arange(connection.weight.shape[2 + axis])[None, :]
    position = np.arange(n_from)[:, None]
    stride = connection.stride[axis]
    offset = taps * connection.dilation[axis] - connection.padding[axis]
    if back:
        found, rest = np.divmod(position - offset, stride)
    else:
        found, rest = position * stride + offset, np.zeros((n_from, taps.size), np.int64)
    return np.where((rest == 0) & (found >= 0) & (found < n_to), found, -1)


def windows(connection: Connection, source: Shape, target_width: int) -> Table:
    """What each target column sees of a row of sources, as runs of neighbouring columns.

    Returns:
        (W', runs, 3): first source column of the run, the one after its last, and what added to a
        source's place x * C + c gives its row of weights kx * C + c.
    """
    channels, _, width = source
    columns = sources(connection, 1, width, target_width)
    table = np.zeros((*columns.shape, 3), np.int64)
    taps = np.arange(columns.shape[1])
    seen = columns >= 0
    table[..., 0] = np.where(seen, columns, 0)
    table[..., 1] = np.where(seen, columns + 1, 0)
    table[..., 2] = np.where(seen, (taps - columns) * channels, 0)
    if connection.kind != "conv" or connection.dilation[1] != 1:
        return table
    # Neighbouring taps see neighbouring columns: all of them are one run.
    run = np.zeros((target_width, 1, 3), np.int64)
    for x in np.flatnonzero(seen.any(axis=1)):
        run[x, 0] = table[x, seen[x]][0]
        run[x, 0, 1] = table[x, seen[x]][-1, 1]
    return run
