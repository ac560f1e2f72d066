"""lava-dl's own NetX reader on an ``edge.net`` that is a chain: the outside witness of `verify`.

It runs pipelined under stock Lava, samples back to back: the spikes of timestep t of sample n (both
from 0) leave the last of d layers at Lava step nT + t + d. lava-dl imports torch, so this cannot
live in the edge wing.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.integer_net import IntegerNet


def run_stock_netx(
    path: Path, net: IntegerNet, inputs: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Run an ``edge.net`` in `netx.hdf5.Network`.

    Args:
        path: the NetX file, a chain that stock NetX reads (`edge.netx.layout.why_not_stock`).
        net: the same network.
        inputs: spikes, (N, C, H, W, T).

    Returns:
        Spikes of the last edge node, uint8 (N, C, H, W, T), and its potential at the very end, in
        state units and Lava's shape.
    """
    from neucodex_lava.edge.supervisor import SupervisedRun

    with contextlib.redirect_stdout(io.StringIO()):
        from lava.lib.dl.netx import hdf5
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    nodes = net.edge_nodes
    samples, timesteps = inputs.shape[0], inputs.shape[-1]
    network: Any = hdf5.Network(net_config=str(path), reset_interval=timesteps, reset_offset=1)
    steps = samples * timesteps + len(nodes)
    # N C H W T -> W H C step; a network that begins with a dense layer takes C, H, W flattened.
    train = np.moveaxis(inputs, 0, -2).reshape(*net.input_shape, -1)
    if nodes[0].connections[0].kind == "dense":
        train = train.reshape(-1, train.shape[-1])
    else:
        train = train.transpose(2, 1, 0, 3)
    padding = [(0, 0)] * (train.ndim - 1) + [(0, steps - train.shape[-1])]
    source: Any = Source(data=np.pad(train, padding).astype(np.int32))
    sink: Any = Sink(shape=network.out.shape, buffer=steps)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    with SupervisedRun(network) as run:
        run.start(steps)
        run.finish()
        out: NDArray[Any] = sink.data.get()
        potential: NDArray[Any] = network.layers[-1].neuron.v.get()
    if out.ndim == 4:
        out = out.transpose(2, 1, 0, 3)
    window = out[..., len(nodes) : len(nodes) + samples * timesteps]
    shaped = window.reshape(*nodes[-1].shape, samples, timesteps)
    spikes = np.ascontiguousarray(np.moveaxis(shaped, -2, 0)).astype(np.uint8)
    return spikes, potential.astype(np.int64)
