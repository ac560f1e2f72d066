"""The trained networks that lava-dl's own tests bring along: on all backends, and its own record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from plain import run_plain

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.netx import read_netx
from neucodex_lava.errors import FormatError
from neucodex_lava.evaluation.net_file import load_net_target, random_inputs
from neucodex_lava.verify.on_file import verify_net

FOLDER = Path(h5py.__file__).parents[1] / "tests" / "lava" / "lib" / "dl" / "netx"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="lava-dl came without its tests")

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "PilotNet-LIF": ("gts/pilotnet_lif/network.net", {"timesteps": 5, "input_bits": 2}),
    "MNIST, which ends in an affine block": ("mnist.net", {"timesteps": 8, "input_bits": 4}),
    "N-TIDIGITS, with delays": ("gts/ntidigits/ntidigits.net", {"timesteps": 70, "num_layers": 5}),
    "a small one": ("tiny.net", {"timesteps": 9, "input_bits": 3}),
}


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", NETWORKS)
def test_trained_networks_of_lava_dl_run_everywhere(what: str) -> None:
    name, told = NETWORKS[what]
    net = load_net_target(FOLDER / name, **told)
    twin = run_twin(Executor(net), random_inputs(net, 1, 0.3), record=True)
    assert twin.spikes is not None
    assert all(s.any() for n, s in twin.spikes.items() if not net.node(n).neuron.is_readout)
    assert twin.sums is None or np.unique(twin.sums).size > 2
    report = verify_net(FOLDER / name, **told, samples=1, rate=0.3)
    assert report.first_difference is None
    assert report.skipped == {}
    assert report.backends == ["twin", "fused", "reference", "netx"]


def test_a_small_network_gives_the_spikes_that_lava_dl_recorded() -> None:
    """Its image lies in the input block's bias, as real numbers: plain loops turn it into spikes."""
    net = read_netx(FOLDER / "tiny.net", timesteps=15, skip_layers=1)
    bias = np.load(FOLDER / "gts/tinynet/input_bias.npy").astype(int).transpose(2, 1, 0)
    recorded = np.load(FOLDER / "gts/tinynet/output.npy").astype(np.uint8)
    block = read_netx(FOLDER / "tiny.net", timesteps=15).nodes[0].neuron
    inputs = np.zeros((1, *net.input_shape, net.timesteps), np.uint8)
    v = np.zeros(net.input_shape, int)
    for t in range(net.timesteps):
        v = (v * (4096 - block.voltage_decay) >> 12) + (bias << 6)
        inputs[0, ..., t] = v > block.threshold << 6
        v[inputs[0, ..., t] == 1] = 0
    assert 0.1 < inputs.mean() < 0.9
    # In lava-dl's record the pipeline of SLAYER has shifted everything by one timestep.
    found = run_plain(net, inputs)[0]["conv2"]
    assert np.array_equal(found, recorded[..., 1:])
    assert 0.1 < found.mean() < 0.9


@pytest.mark.parametrize("name", ["network.net", "square_network.net"])
def test_sigma_delta_networks_are_refused_by_name(name: str) -> None:
    with pytest.raises(FormatError, match="neurons of type 'SDNN' are not supported"):
        read_netx(FOLDER / "gts/pilotnet_sdnn" / name, timesteps=4)
