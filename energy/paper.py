"""The papers' estimate, beside the counted one: MACs x firing rate x timesteps x 23 pJ.

    E = sum over layers of  MACs_l * r_l * T * 23 pJ

with r_l the mean firing rate of the layer's input (NeuCODEX, arXiv 2509.19156, after the usual
estimate for spiking networks). It takes every input neuron's fan-out for the mean one, so it differs
from counted SynOps wherever borders, strides and activity go together; there is nothing to compare
it with but the count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.devices import DEFAULT_MODEL, device
from neucodex_lava.errors import ConfigError

Numbers = NDArray[np.integer[Any]]


def paper_energy_j(
    spikes_in: Numbers, dense_macs: Numbers, input_sizes: Numbers, timesteps: Numbers
) -> NDArray[np.float64]:
    """Energy of each sample by the papers' formula, in joules (modelled).

    Args:
        spikes_in: nonzero inputs of each connection, (N, connections, T); timesteps that were not
            run hold zeros, as in a ledger.
        dense_macs: MACs of each connection if all its inputs were nonzero: the sum of its fan-out
            map, (connections,).
        input_sizes: neurons each connection reads, (connections,).
        timesteps: timesteps run by each sample, (N,), from 1.

    Returns:
        (N,).

    Raises:
        ConfigError: shapes that do not fit, an input without neurons, less than one timestep.
    """
    samples, connections = spikes_in.shape[:2]
    fits = dense_macs.shape == input_sizes.shape == (connections,)
    if spikes_in.ndim != 3 or not fits or timesteps.shape != (samples,):
        raise ConfigError(
            f"spikes {spikes_in.shape}, MACs {dense_macs.shape}, sizes {input_sizes.shape} and"
            f" timesteps {timesteps.shape} do not fit together"
        )
    if (input_sizes < 1).any() or (timesteps < 1).any():
        raise ConfigError("the paper's formula needs at least one input neuron and one timestep")
    run = timesteps[:, None].astype(np.float64)
    rate = spikes_in.sum(axis=2) / (input_sizes * run)
    price_pj = next(t.energy_pj for t in device(DEFAULT_MODEL).terms if t.event == "macs")
    return (dense_macs * rate * run).sum(axis=1) * price_pj * 1e-12
