"""A cascade over a small random network, and input of very different activity. Tests only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from exit_nets import exit_net
from plain import run_plain
from small_bundles import BASE_FIELDS, record

from neucodex_lava.bundle import Bundle, write_bundle
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.integer_net import Neuron

GAINS = (41.0, 55.5, 38.0)


def small_cascade(seed: int, samples: int, timesteps: int = 4) -> tuple[Cascade, np.ndarray]:
    """Three exits; odd seeds have graded input. Inputs are uint8 (N, C, H, W, T)."""
    net, _ = exit_net(seed, timesteps=timesteps)
    rng = np.random.default_rng(seed + 100)
    shape = (samples, *net.input_shape, timesteps)
    rate = rng.uniform(0.05, 0.9, (samples, 1, 1, 1, 1))
    inputs = rng.integers(1, 2**net.input_bits, shape) * (rng.random(shape) < rate)
    return Cascade(net, GAINS, tuple(net.segments())), inputs.astype(np.uint8)


def exit_bundle(folder: Path) -> Bundle:
    """A base bundle of such a network with plain neurons, with split points behind its exit heads."""
    whole = exit_net(0)[0]
    plain = (
        replace(n, neuron=Neuron(n.neuron.current_decay, n.neuron.voltage_decay, 90))
        for n in whole.nodes
        if not n.neuron.is_readout
    )
    net = whole.with_nodes(*plain)
    exits = dict(zip(("exit_sp1", "exit_sp2", "readout"), GAINS))
    place = {node.name: i + 1 for i, node in enumerate(net.nodes)}
    points = {"SP1": place["exit_sp1"], "SP2": place["exit_sp2"]}
    golden = record(net)
    _, potential, _ = run_plain(net, golden.inputs)
    heads = [head.name for head in net.exit_heads]
    golden = replace(
        golden,
        exit_sums={name: potential[name][:, :, 0, 0] >> 6 for name in heads},
        exit_gains={name: exits[name] for name in heads},
        readout_gain=exits["readout"],
    )
    gains = dict.fromkeys(place, 64.0) | exits
    fields = BASE_FIELDS | {"gains": gains, "split_points": points}
    return write_bundle(folder, net, golden=golden, **fields)
