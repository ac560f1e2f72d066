"""A lone NetX file, ours or lava-dl's, as something to run: its net, and random input for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.edge.netx import read_netx
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import IntegerNet, Shape

SUFFIX = ".net"
VALUES_LIMIT = 1 << 28
"""Values of random input, a byte each. A small file may ask for many timesteps."""
NEURONS_LIMIT = 1 << 25
"""Neurons in all: a run needs some 16 bytes of state for each, in every sample of a batch. Full-size
ResNet-18 at 224x224 has 2.5 million; a file of a megabyte can ask for billions."""
COUNTS_LIMIT = 1 << 25
"""Rows of the ledger, some ten int64 each: one per sample, timestep and node or connection."""
RECORDED_LIMIT = 1 << 30
"""Membrane potentials that a run may keep to be compared: one per sample, timestep and neuron."""
DRAWN_AT_ONCE = 1 << 20


def is_net_file(path: Path) -> bool:
    """Whether `path` means a lone NetX file and not a bundle, which is a folder."""
    return path.is_file() or (path.suffix == SUFFIX and not path.is_dir())


def load_net_target(
    path: Path,
    *,
    timesteps: int | None = None,
    input_shape: Shape | None = None,
    input_bits: int | None = None,
    skip_layers: int = 0,
    num_layers: int | None = None,
) -> IntegerNet:
    """The net of a lone NetX file, cut after its last node.

    Args:
        path: a file of ours, which says all the rest itself, or one of lava-dl.
        timesteps: T_max; must be given for a file of lava-dl. For a file of ours, another than it
            says.
        input_shape: (C, H, W), where a file of lava-dl does not say it.
        input_bits: of the graded values that a file of lava-dl with an input block takes.
        skip_layers: leave out the first layers of a file of lava-dl.
        num_layers: stop after so many layers of a file of lava-dl.

    Raises:
        FormatError: no NetX file, or one that holds what cannot be expressed, by name.
        NetError: the net breaks a limit of the hardware.
        ConfigError: an argument outside what is possible, or more neurons than can be run.
    """
    counts = (("timesteps", timesteps), ("input bits", input_bits), ("layers", num_layers))
    for name, value in counts:
        if value is not None and value < 1:
            raise ConfigError(f"{value} {name} asked for, at least 1 is possible")
    if skip_layers < 0:
        raise ConfigError(f"{skip_layers} layers to skip, at least 0 is possible")
    net = read_netx(
        path,
        timesteps=timesteps,
        input_shape=input_shape,
        input_bits=input_bits,
        skip_layers=skip_layers,
        num_layers=num_layers,
    )
    neurons = sum(node.size for node in net.nodes)
    if neurons > NEURONS_LIMIT:
        raise ConfigError(
            f"'{path}' has {neurons} neurons, a lone file is run up to {NEURONS_LIMIT}",
            "run a part of the network, or smaller input",
        )
    return net


def check_run(net: IntegerNet, samples: int, *, recorded: bool = False) -> None:
    """Refuse a run of a lone file that asks for more memory than such a run may take.

    Args:
        net: what is run.
        samples: how many of them.
        recorded: whether all membrane potentials are kept.

    Raises:
        ConfigError: too many counts or potentials.
    """
    steps = samples * net.timesteps
    rows = len(net.nodes) + sum(1 for _ in net.connections())
    needs = [("rows of counts", rows, COUNTS_LIMIT)]
    if recorded:
        needs.append(("recorded potentials", sum(n.size for n in net.nodes), RECORDED_LIMIT))
    for what, each, limit in needs:
        if steps * each > limit:
            raise ConfigError(
                f"{samples} samples of {net.timesteps} timesteps make {steps * each} {what},"
                f" the limit is {limit}",
                "fewer --samples or --timesteps",
            )


def random_inputs(
    net: IntegerNet, samples: int = 10, rate: float = 0.2, seed: int = 0
) -> NDArray[np.uint8]:
    """Seeded random input: `rate` of the values are not 0, graded ones uniform in what they hold.

    Returns:
        uint8 (N, C, H, W, T_max).

    Raises:
        ConfigError: no samples, a rate outside [0, 1], or more values than can be held.
    """
    if samples < 1:
        raise ConfigError(f"{samples} samples asked for, at least 1 is possible")
    if not 0 <= rate <= 1:
        raise ConfigError(f"a firing rate of {rate} is outside [0, 1]")
    shape = (samples, *net.input_shape, net.timesteps)
    values = samples * net.timesteps * math.prod(net.input_shape)
    if values > VALUES_LIMIT:
        raise ConfigError(
            f"{values} random inputs of {samples} samples and {net.timesteps} timesteps,"
            f" the limit is {VALUES_LIMIT}",
            "fewer --samples or --timesteps",
        )
    rng = np.random.default_rng(seed)
    inputs = np.empty(values, np.uint8)
    pieces = [inputs[i : i + DRAWN_AT_ONCE] for i in range(0, values, DRAWN_AT_ONCE)]
    for piece in pieces:
        piece[:] = rng.random(piece.size, np.float32) < rate
    if net.input_bits > 1:
        for piece in pieces:
            piece *= rng.integers(1, 1 << net.input_bits, piece.size, np.uint8)
    return inputs.reshape(shape)
