"""A cascade over a small random network, and input of very different activity. Tests only."""

from __future__ import annotations

import numpy as np
from exit_nets import exit_net

from neucodex_lava.evaluation.cascade import Cascade

GAINS = (41.0, 55.5, 38.0)


def small_cascade(seed: int, samples: int, timesteps: int = 4) -> tuple[Cascade, np.ndarray]:
    """Three exits; odd seeds have graded input. Inputs are uint8 (N, C, H, W, T)."""
    net, _ = exit_net(seed, timesteps=timesteps)
    rng = np.random.default_rng(seed + 100)
    shape = (samples, *net.input_shape, timesteps)
    rate = rng.uniform(0.05, 0.9, (samples, 1, 1, 1, 1))
    inputs = rng.integers(1, 2**net.input_bits, shape) * (rng.random(shape) < rate)
    return Cascade(net, GAINS, tuple(net.segments())), inputs.astype(np.uint8)
