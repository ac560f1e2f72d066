"""The edge part as a network for the chip: stock Lava processes only, power-of-two resets.

What the `reference` backend runs, less all that is ours: no counters, no taps, no host that delays
or repeats the input. A user connects what sends to ``inp`` and what listens to ``out``; on a Loihi 2
these are ``PyToNxAdapter`` and ``NxToPyAdapter`` of ``lava.proc.embedded_io``, which come with
Intel's extension and not with lava-nc.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import Read, RingBuffer
from lava.proc.io.source import RingBuffer as Source
from lava.proc.sparse.process import Sparse
from numpy.typing import NDArray

from neucodex_lava.edge.processes.chip import ChipNetwork
from neucodex_lava.edge.runtime.supervisor import SupervisedRun
from neucodex_lava.edge.stock.assembly import Delays, StockAssembly
from neucodex_lava.edge.stock.processes import FUSED_HINT, StockSynapse, check_stock_neuron, whc
from neucodex_lava.edge.wiring import Wiring, check_inputs
from neucodex_lava.errors import ConfigError, DataError
from neucodex_lava.integer_net import STATE_SHIFT, WEIGHT_MAX, WEIGHT_MIN, IntegerNet

STOCK: dict[str, Any] = {"Conv": Conv, "Dense": Dense, "Sparse": Sparse}


def chip_network(net: IntegerNet, timesteps: int | None = None) -> ChipNetwork:
    """The part of a network before its cut as a Lava process of stock processes.

    Args:
        net: the network.
        timesteps: T, by default the net's T_max.

    Raises:
        ConfigError: something that the chip's stock processes cannot do: transposed convolutions, an
            iDecay of 0, a reset by subtraction, an initial potential, delays, graded input that skips
            ahead, convolutions whose weights are wider than 8 bits or whose geometry is; or T outside
            1..T_max, or a cut at 0.
    """
    wiring = Wiring.of(net, "pipelined", timesteps)
    _refuse(wiring)
    return _ChipAssembly(wiring).network


def run_chip_network(
    net: IntegerNet, inputs: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Run whole samples through `chip_network` in simulation, between stock sources and sinks.

    Nothing counts here and nothing watches the 24-bit range, as on the chip; `simulate` does both.

    Args:
        net: the network.
        inputs: uint8 (N, C, H, W, T), as for `simulate`.

    Returns:
        Spikes of the node whose output crosses the cut, uint8 (N, C, H, W, T), and, where that is the
        readout, the running sums S_t, int64 (N, K, T), else None.

    Raises:
        ConfigError: as `chip_network`.
        DataError: inputs of the wrong type, shape or range, or none.
        SimulationError: Lava could not start, or one of its processes failed or died.
    """
    check_inputs(inputs, net)
    if 0 in inputs.shape:
        raise DataError(f"input has shape {inputs.shape}: there is nothing to run")
    samples, timesteps = len(inputs), inputs.shape[-1]
    network = chip_network(net, timesteps)
    steps = network.output_step(samples - 1, timesteps - 1) + 1
    frames = np.zeros((*whc(net.input_shape), steps), np.int32)
    place = [(n, t) for n in range(samples) for t in range(timesteps)]
    for n, t in place:
        frames[..., network.frame_step(n, t)] = inputs[n, ..., t].transpose(2, 1, 0)
    source = Source(data=frames)
    sink = RingBuffer(shape=network.out.shape, buffer=steps)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    reader: Any = None
    if network.readout is not None:
        reader = Read(buffer=steps)
        reader.connect_var(network.readout.v)
    with SupervisedRun(network) as run:
        run.start(steps)
        run.finish()
        out: NDArray[Any] = sink.data.get()
        potential: NDArray[Any] | None = None if reader is None else reader.data.get()
    spikes = _logical(network, out, samples, np.uint8)
    if potential is None:
        return spikes, None
    sums = _logical(network, potential, samples, np.int64) >> STATE_SHIFT
    return spikes, sums.reshape(samples, -1, timesteps)


def _logical(network: ChipNetwork, values: NDArray[Any], samples: int, kind: Any) -> NDArray[Any]:
    """(W, H, C, steps) as (N, C, H, W, T)."""
    first = [network.output_step(n, 0) for n in range(samples)]
    windows = [values[..., s : s + network.timesteps].transpose(2, 1, 0, 3) for s in first]
    return np.stack(windows).astype(kind)


class _ChipAssembly(StockAssembly):
    """Builds a `ChipNetwork`."""

    def __init__(self, wiring: Wiring) -> None:
        # A reset interval of the chip is a power of two.
        interval = 1 << (wiring.timesteps - 1).bit_length()
        super().__init__(wiring, interval)
        net = wiring.net
        last = net.last
        self.network = ChipNetwork(
            input_shape=whc(net.input_shape),
            output_shape=whc(last.shape),
            timesteps=wiring.timesteps,
            interval=interval,
            latency=wiring.offset(last.name),
        )
        self._processes: list[Any] = []
        self.assemble()
        self.neurons[last.name].s_out.connect(self.network.out)
        self.network.readout = self.neurons[last.name] if net.ends_in_readout else None
        self.network.exits = {name: self.neurons[name] for name in wiring.exit_heads}
        self.network.stock = (*self.neurons.values(), *self.relays, *self._processes)

    def input_port(self, delays: Delays, wait: int) -> Any:
        return self.network.inp

    def make_synapse(self, synapse: StockSynapse, link: int) -> Any:
        connection = self.wiring.links[link]
        return self._stock(synapse, f"{connection.source} to {connection.node}")

    def make_relay_synapse(self, synapse: StockSynapse, source: str, wait: int) -> Any:
        return self._stock(synapse, f"{source} relay {wait} synapse")

    def _stock(self, synapse: StockSynapse, name: str) -> Any:
        self._processes.append(STOCK[synapse.process](name=name, **synapse.arguments))
        return self._processes[-1]


def _refuse(wiring: Wiring) -> None:
    """Raise ConfigError for what `reference` can express with our help, but stock processes cannot."""
    net = wiring.net
    for node in net.nodes:
        check_stock_neuron(node)
    for (node, connection), link in zip(net.connections(), wiring.links):
        where = f"node '{node.name}', connection from '{connection.source}'"
        if connection.longest_delay:
            raise ConfigError(
                f"{where}: spikes delayed by up to {connection.longest_delay} timesteps would reach"
                " the next sample, stock processes cannot forget them",
                FUSED_HINT,
            )
        if net.is_graded(connection) and link.wait > 1:
            raise ConfigError(
                f"{where}: graded input skips ahead, and relay neurons would make it binary",
                "feed spikes, or let every path from the input be as long as this one",
            )
        weight = connection.effective_weight()
        wide = weight.min() < WEIGHT_MIN or weight.max() > WEIGHT_MAX
        if connection.kind == "conv" and wide:
            raise ConfigError(
                f"{where}: stock Conv ignores the exponent {connection.exponent}, and weights times"
                f" 2^{connection.exponent} are wider than 8 bits",
                f"quantise with a smaller gain and the exponent 0, or {FUSED_HINT}",
            )


__all__ = ["ChipNetwork", "chip_network", "run_chip_network"]
