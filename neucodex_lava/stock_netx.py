"""lava-dl's own NetX reader on a NetX file that is a chain: the outside witness of `verify`.

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

from neucodex_lava.errors import FormatError
from neucodex_lava.integer_net import STATE_SHIFT, IntegerNet

BIAS_LIMIT = 1 << 15
"""Stock Lava keeps a bias in 16 bits, and an input block's values are its bias."""


def why_not_run(net: IntegerNet) -> str:
    """Why stock Lava gives other spikes than `net` although it can read its file, or ""."""
    first = net.nodes[0]
    if first.connections[0].kind == "identity":
        weight = int(first.connections[0].effective_weight())
        largest = abs(weight) * ((1 << net.input_bits) - 1) + int(np.abs(first.bias).max())
        if largest >= BIAS_LIMIT:
            return (
                f"its input block's weight times a value of {net.input_bits} bits reaches {largest},"
                " Lava keeps a bias in 16 bits"
            )
    elif net.input_bits > 1:
        return "its input is graded"
    return ""


def run_stock_netx(
    path: Path,
    net: IntegerNet,
    inputs: NDArray[np.uint8],
    skip_layers: int = 0,
    num_layers: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Run a NetX file in `netx.hdf5.Network`.

    Delayed synapses keep what reaches them outside a sample's window: from the sample before, and
    from neurons that spike by their bias alone while the pipeline fills. `LIFReset` does not clear
    them. So samples of a net with delays run each in a network of its own, and its delayed synapses
    are emptied as their windows begin.

    Args:
        path: the NetX file, a chain that stock NetX reads (`edge.netx.layout.why_not_stock`).
        net: the same network, `why_not_run` empty.
        inputs: spikes, or the values an input block takes, (N, C, H, W, T).
        skip_layers, num_layers: layers of the file left out of `net`, and where it ends.

    Returns:
        Spikes of the last edge node, uint8 (N, C, H, W, T), and its running sums S_t, int64
        (N, K, T), where it is a readout.

    Raises:
        FormatError: lava-dl's reader fails on the file.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    if any(c.longest_delay for _, c in net.connections()) and len(inputs) > 1:
        alone = [run_stock_netx(path, net, x[None], skip_layers, num_layers) for x in inputs]
        sums = [s for _, s in alone if s is not None]
        return np.concatenate([s for s, _ in alone]), np.concatenate(sums) if sums else None
    from neucodex_lava.edge.runtime.supervisor import SupervisedRun

    with contextlib.redirect_stdout(io.StringIO()):
        from lava.lib.dl.netx import hdf5
        from lava.lib.dl.netx.blocks.models import PyInputModel
        from lava.lib.dl.netx.blocks.process import Input
    from lava.proc.dense.process import DelayDense
    from lava.proc.io.sink import Read
    from lava.proc.io.sink import RingBuffer as Sink

    nodes = net.edge_nodes
    samples, timesteps = inputs.shape[0], inputs.shape[-1]
    try:
        network: Any = hdf5.Network(
            net_config=str(path),
            reset_interval=timesteps,
            reset_offset=1,
            skip_layers=skip_layers,
            num_layers=num_layers,
            input_shape=net.input_shape[::-1],
        )
    except Exception as problem:
        text = " ".join(f"{type(problem).__name__}: {problem}".split())[:160]
        raise FormatError(f"lava-dl's own reader fails on '{path}': {text}") from problem
    # lava-dl leaves it open, and a file that is open cannot be written again.
    network.net_config.f.close()
    steps = samples * timesteps + len(nodes)
    # N C H W T -> C H W step
    train = np.moveaxis(inputs, 0, -2).reshape(*net.input_shape, -1)
    train = np.pad(train, [(0, 0)] * 3 + [(0, steps - train.shape[-1])]).astype(np.int32)
    if isinstance(network.in_layer, Input):
        _set_biases(network.in_layer, train)
    else:
        _send_spikes(network, train)
    sink: Any = Sink(shape=network.out.shape, buffer=steps)
    network.out.connect(sink.a_in)
    reader: Any = Read(buffer=steps) if nodes[-1].neuron.is_readout else None
    if reader is not None:
        reader.connect_var(network.out_layer.neuron.v)
    with SupervisedRun(network, models={Input: PyInputModel}) as run:
        done = 0
        for depth, layer in enumerate(network.layers):
            if depth and isinstance(getattr(layer, "synapse", None), DelayDense):
                run.start(depth - done)
                run.finish()
                done = depth
                layer.synapse.a_buff.set(np.zeros(layer.synapse.a_buff.shape, np.int32))
        run.start(steps - done)
        run.finish()
        out: NDArray[Any] = sink.data.get()
        potential: NDArray[Any] | None = None if reader is None else reader.data.get()

    def windows(per_step: NDArray[Any]) -> NDArray[Any]:
        if per_step.ndim == 4:
            per_step = per_step.transpose(2, 1, 0, 3)
        window = per_step[..., len(nodes) : len(nodes) + samples * timesteps]
        shaped = window.reshape(*nodes[-1].shape, samples, timesteps)
        return np.ascontiguousarray(np.moveaxis(shaped, -2, 0))

    spikes = windows(out).astype(np.uint8)
    if potential is None:
        return spikes, None
    sums = np.trunc(windows(potential) / (1 << STATE_SHIFT)).astype(np.int64)
    return spikes, sums.reshape(samples, -1, timesteps)


def _send_spikes(network: Any, train: NDArray[np.int32]) -> None:
    """Spikes (C, H, W, step) into the first layer; a dense one takes C, H, W flattened."""
    from lava.proc.io.source import RingBuffer as Source

    flat = len(network.inp.shape) == 1
    data = train.reshape(-1, train.shape[-1]) if flat else train.transpose(2, 1, 0, 3)
    source: Any = Source(data=data)
    source.s_out.connect(network.inp)


def _set_biases(block: Any, train: NDArray[np.int32]) -> None:
    """Values (C, H, W, step) as an input block's bias, each one step after its own.

    That is the step in which the first layer of any other network has its synaptic sums.
    """
    from lava.proc.io.dataloader import StateDataloader

    values = train * block.transform["weight"] + block.transform["bias"]
    frames = values.transpose(3, 2, 1, 0).reshape(-1, *block.shape)
    loader: Any = StateDataloader(dataset=[(frame, 0) for frame in frames])
    loader.connect_var(block.neuron.bias_mant)
