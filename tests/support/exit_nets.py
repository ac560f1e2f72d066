"""Small random networks with exit heads, neurons that reset by subtraction, and initial potentials."""

from __future__ import annotations

import numpy as np

from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node, Shape


def exit_net(seed: int, *, timesteps: int = 4) -> tuple[IntegerNet, np.ndarray]:
    """A residual network with two exit heads and a readout, cut at its end, and its input.

    stem, head, mid, join (of mid and stem), head, late, readout. Odd seeds have graded input.

    Returns:
        The net, and uint8 (3, C, H, W, T).
    """
    rng = np.random.default_rng(seed)
    bits = 3 if seed % 2 else 1
    shape: Shape = (2, 6, 5)

    def weights(*size: int) -> np.ndarray:
        return (2 * rng.integers(-40, 41, size) * (rng.random(size) < 0.8)).astype(np.int16)

    def neuron() -> Neuron:
        threshold = int(rng.integers(60, 200))
        memory = 4096 if rng.random() < 0.6 else 3000
        leak = int(rng.choice([0, 1024, 2048]))
        initial = int(rng.choice([0, threshold // 2, -threshold, threshold]))
        return Neuron(
            memory, leak, threshold, "subtract" if rng.random() < 0.7 else "zero", initial
        )

    def node(name: str, shape: Shape, *links: Connection) -> Node:
        return Node(name, shape, neuron(), rng.integers(-20, 40, shape[0]), links)

    def head(name: str, source: str, shape: Shape) -> Node:
        link = Connection(source, "dense", weights(5, int(np.prod(shape))))
        return Node(name, (5, 1, 1), READOUT, rng.integers(-9, 9, 5), (link,))

    stem, deep = (4, 6, 5), (6, 3, 3)
    nodes = (
        node("stem", stem, Connection("input", "conv", weights(4, 2, 3, 3), padding=(1, 1))),
        head("exit_sp1", "stem", stem),
        node("mid", stem, Connection("stem", "conv", weights(4, 4, 3, 3), padding=(1, 1))),
        node(
            "join",
            deep,
            Connection("mid", "conv", weights(6, 4, 3, 3), 0, (2, 2), (1, 1)),
            Connection("stem", "conv", weights(6, 4, 1, 1), 1, (2, 2)),
        ),
        head("exit_sp2", "join", deep),
        node("late", deep, Connection("join", "conv", weights(6, 6, 3, 3), padding=(1, 1))),
        head("readout", "late", deep),
    )
    net = IntegerNet(shape, nodes, len(nodes), timesteps, bits)
    inputs = rng.integers(1, 2**bits, (3, *shape, timesteps))
    return net, (inputs * (rng.random(inputs.shape) < 0.4)).astype(np.uint8)
