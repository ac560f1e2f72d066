"""What the pipelined schedule costs beyond the samples' own counts, worked out without Lava.

A sample decided by its timestep t has been fed min(T, t + depth) timesteps by then: the code of t
leaves a pipeline of that depth so much later. Its own counts end there. The clock goes on: what nodes
do in the rest of its window, on blank frames, and while the pipeline fills and drains is the run's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger, Overhead
from neucodex_lava.edge.engine.engine import FusedEngine
from neucodex_lava.edge.wiring import Wiring
from neucodex_lava.integer_net import IntegerNet


def code_depth(net: IntegerNet) -> int:
    """Lava steps from a frame to its result: the depth of the deepest node that answers."""
    return Wiring.of(net, "pipelined").result_offset


def fed_timesteps(net: IntegerNet, decided: NDArray[np.int64]) -> NDArray[np.int64]:
    """Timesteps fed to samples that were decided by timestep ``decided[n]``, (N,)."""
    return np.minimum(net.timesteps, decided + code_depth(net))


def unfed_work(net: IntegerNet, inputs: NDArray[np.uint8], fed: NDArray[np.int64]) -> Ledger:
    """What the edge part does in the timesteps that were not fed, by the executor.

    Args:
        net: cut where the edge ends.
        inputs: encoded samples, uint8 (N, C, H, W, T).
        fed: timesteps fed, (N,).

    Returns:
        Counts at timesteps after ``fed[n]``: biases go on, and every neuron is updated.
    """
    # Here, since `infer` needs the rest of this file on edge machines, which have no torch.
    from neucodex_lava.cloud.executor import Executor
    from neucodex_lava.cloud.twin import run_twin

    edge = net.edge_part()
    links = [(node.name, c.source) for node, c in edge.connections()]
    work = Ledger.zeros([n.name for n in edge.nodes], links, len(inputs), inputs.shape[-1])
    short = np.flatnonzero(fed < inputs.shape[-1])
    if short.size:
        run = np.arange(inputs.shape[-1]) < fed[short, None, None, None, None]
        found = run_twin(Executor(net, stop=net.cut), inputs[short] * run).ledger.after(fed[short])
        work.put(short, found)
    return work


def idle_work(net: IntegerNet) -> Overhead:
    """What the edge part does while its pipeline fills and drains, once for a run."""
    wiring = Wiring.of(net, "pipelined")
    engine = FusedEngine(wiring)
    links, nodes = engine.zero_counts(wiring.depth)
    width_first = np.zeros(net.input_shape[::-1], np.uint8)
    for step in range(wiring.depth):
        engine.step(width_first, False, links[step], nodes[step])
    return wiring.ledger(links, nodes, 0).outside_window
