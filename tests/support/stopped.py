"""Stopped samples by plain loops. Tests only."""

import numpy as np
from plain import run_plain

from energy.ledger import ALL_COUNTS, Ledger, Overhead
from neucodex_lava.edge.session import Stop
from neucodex_lava.edge.simulation import simulate
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node


def chain(timesteps: int, cut: int = 2) -> tuple[IntegerNet, np.ndarray]:
    """Three layers whose biases make spikes without any input, and four samples."""
    rng = np.random.default_rng(3)

    def weights(*size: int) -> np.ndarray:
        return (2 * rng.integers(-40, 61, size)).astype(np.int16)

    stem = Connection("input", "conv", weights(4, 2, 3, 3), padding=(1, 1))
    body = Connection("stem", "conv", weights(3, 4, 3, 3), stride=(2, 2), padding=(1, 1))
    read = Connection("body", "dense", weights(3, 27))
    nodes = (
        Node("stem", (4, 5, 5), Neuron(4096, 1024, 150), np.array([40, -10, 60, 0]), (stem,)),
        Node("body", (3, 3, 3), Neuron(3000, 2048, 200), np.array([30, 0, -20]), (body,)),
        Node("readout", (3, 1, 1), READOUT, np.array([5, -5, 9]), (read,)),
    )
    net = IntegerNet((2, 5, 5), nodes, cut, timesteps)
    inputs = (rng.random((4, 2, 5, 5, timesteps)) < 0.4).astype(np.uint8)
    return net, inputs


def expected(
    net: IntegerNet, inputs: np.ndarray, decide: list[int | None]
) -> tuple[Ledger, Overhead, list[Stop]]:
    """Own counts, work outside of the windows and stops, by plain loops; filling from stock Lava."""
    timesteps = inputs.shape[-1]
    depth = net.edge_part().depth[net.edge_nodes[-1].name]
    end = np.array([timesteps if t is None else t for t in decide])
    fed = np.minimum(timesteps, end + depth)
    blanked = inputs * (np.arange(timesteps) < fed[:, None, None, None, None])
    every = run_plain(net.edge_part(), blanked)[2]
    own = every.until(fed)
    unfed = {c: every.total(c) - own.total(c) for c in ALL_COUNTS if c != "spikes_in"}
    still = simulate(net, inputs[:1], backend="reference", schedule="pipelined").ledger
    stops: list[Stop] = []
    for n, t in enumerate(decide):
        if t is None or t == timesteps:
            continue
        counts = [getattr(own, c)[n].sum(axis=0) for c in ("syn_ops", "macs")]
        needed, late = ([int(c[:t].sum()) for c in counts], [int(c[t:].sum()) for c in counts])
        stops.append(Stop(n, t, int(fed[n]), timesteps, *needed, *late))
    return own, still.outside_window + Overhead(**unfed), stops
