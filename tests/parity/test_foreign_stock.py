"""NetX files that lava-dl wrote, or would read: on all backends the spikes of its own `Network`.

Stock Lava runs the very file; our backends run the IntegerNet that was read from it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import NEURON, conv, dense, even, write_foreign
from plain import run_plain

from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.evaluation.net_file import load_net_target, random_inputs
from neucodex_lava.stock_netx import run_stock_netx
from neucodex_lava.verify.on_file import verify_net

pytest.importorskip("lava.lib.dl.slayer")

import slayer_files

T = 7
RNG = np.random.default_rng(12)
SEEDS = range(24)
RUN = SEEDS[: int(os.environ.get("NEUCODEX_SLAYER_SEEDS", "12"))]


@pytest.mark.lava
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", RUN)
def test_a_network_that_slayer_wrote_spikes_the_same_everywhere(seed: int, tmp_path: Path) -> None:
    """Blocks of SLAYER wrote the file; the plain loops, all our backends and stock Lava agree."""
    path = tmp_path / "slayer.net"
    file = slayer_files.write_random(path, seed)
    told: dict[str, Any] = {
        "timesteps": file.timesteps,
        "input_shape": file.input_shape,
        "input_bits": file.input_bits,
    }
    net = load_net_target(path, **told)
    assert net.input_shape == file.input_shape
    assert [n.name for n in net.nodes if n.name[:4] in ("conv", "dens")] == [
        f"{kind.split()[-1]}{i}" for i, kind in file.layers if kind != "input"
    ]
    inputs = random_inputs(net, 2, 0.4, seed)
    expected = run_plain(net, inputs)[0][net.nodes[-1].name]
    assert np.array_equal(run_stock_netx(path, net, inputs)[0], expected)
    report = verify_net(path, **told, samples=2, rate=0.4, seed=seed)
    assert report.first_difference is None
    ran = {(c.backend, c.schedule) for c in report.checks}
    assert ran == {
        ("fused", "gated"), ("fused", "pipelined"), ("reference", "pipelined"), ("netx", "pipelined"),
    }  # fmt: skip
    assert all(c.spikes_compared >= expected.size for c in report.checks)


def test_the_networks_that_slayer_wrote_prove_something(tmp_path: Path) -> None:
    """They have every kind of layer, delays within and beyond a sample, and do spike."""
    kinds: set[str] = set()
    lively = delayed = lost = biased = 0
    for seed in SEEDS:
        file = slayer_files.write_random(tmp_path / "slayer.net", seed)
        net = read_netx(
            file.path, timesteps=file.timesteps, input_shape=file.input_shape,
            input_bits=file.input_bits,
        )  # fmt: skip
        kinds |= {kind for _, kind in file.layers} | {file.head}
        spikes = run_plain(net, random_inputs(net, 2, 0.4, seed))[0]
        lively += all(0 < s.mean() < 1 for s in spikes.values())
        delays = [c.longest_delay for _, c in net.connections()]
        delayed += any(delays)
        lost += max(delays) >= net.timesteps
        biased += any(n.bias.any() for n in net.nodes)
    assert kinds == {"conv", "dense", "delayed dense", "input", "neurons", "plain", "none"}
    assert lively >= 18
    assert delayed >= 10
    assert lost >= 3
    assert biased >= 12


def _spatial(**fields: Any) -> list[dict[str, Any]]:
    """A plain input, a convolution, and a dense layer with these fields."""
    return [
        {"type": "input", "shape": (2, 5, 4)},
        conv(even(RNG, 3, 2, 3, 3), (3, 5, 4), padding=(1, 1)),
        {"type": "flatten", "shape": (60, 1, 1)},
        dense(even(RNG, 6, 60), **fields),
    ]


def _block(shape: tuple[int, ...], neuron: dict[str, Any] | None = None, **fields: Any) -> Any:
    return {"type": "input", "shape": shape, "neuron": NEURON | (neuron or {})} | fields


W = even(RNG, 6, 6)
CASES: dict[str, list[dict[str, Any]]] = {
    "scalars for pairs": [
        {"type": "input", "shape": (2, 7, 6)},
        conv(even(RNG, 4, 1, 2, 2), (4, 3, 3), stride=2, padding=1, dilation=3, groups=2),
    ],
    "weights of five dimensions": [
        {"type": "input", "shape": (2, 4, 4)},
        conv(even(RNG, 2, 2, 3, 2, 1), (2, 2, 3)),
    ],
    "flat weights and a shape of three numbers": [
        {"type": "input", "shape": (6,)},
        dense(W) | {"weight": W.reshape(-1), "shape": (6, 1, 1)},
    ],
    "an input of one dimension": [{"type": "input", "shape": (6,)}, dense(W)],
    "an input of two dimensions": [
        {"type": "input", "shape": (3, 2)},
        {"type": "flatten", "shape": (6, 1, 1)},
        dense(W),
    ],
    "no input layer": [dense(W), dense(even(RNG, 3, 6))],
    "an input layer that says nothing": [{"type": "input"}, dense(W)],
    "neurons of type LOIHI": [dense(W, neuron=NEURON | {"type": "LOIHI"})],
    "decays of 0 and 4096": [
        dense(W, neuron=NEURON | {"iDecay": 0, "vDecay": 4096, "vThMant": 200}),
        dense(W, neuron=NEURON | {"iDecay": 4096, "vDecay": 0, "vThMant": 200}),
    ],
    "one bias for all of a dense layer": [dense(W, bias=np.array([30.0], np.float32))],
    "a delay per target": _spatial(delay=np.array([0, 1, 2, 5, 6, 62.0])),
    "a delay per source": _spatial(delay=RNG.integers(0, 4, 60).astype(np.float32)),
    "one delay for all": _spatial(delay=2),
    "a square matrix: the targets' delays": [dense(W), dense(W, delay=np.arange(6.0))],
    "delays per synapse that are the sources'": [dense(W, delay=np.tile(np.arange(6), (6, 1)))],
    "delays per synapse that are the targets'": [dense(W, delay=np.tile(np.arange(6), (6, 1)).T)],
    "delays behind neurons that spike by their bias": [
        dense(W),
        dense(W, bias=np.full(6, 90)),
        dense(W, delay=np.arange(6)),
        dense(W, delay=np.array([3, 0, 1, 2, 1, 0])),
    ],
    "dense weights all negative": [
        dense(W),
        dense(-np.abs(W) - 2, bias=np.full(6, 120)),
    ],
    "an input block of one dimension": [
        _block((6,), {"iDecay": 7}, weight=np.array([20.0]), bias=np.array([-6.0])),
        dense(W),
    ],
    "an input block of three dimensions": [
        _block((2, 5, 4), {"vThMant": 700}, bias=np.array([50.0])),
        conv(even(RNG, 3, 2, 3, 3), (3, 5, 4), padding=(1, 1)),
    ],
    "an input block of negative weight": [
        _block((6,), {"vThMant": 100}, weight=np.array([-14.0]), bias=np.array([254.0])),
        dense(W),
    ],
    "an input block with a weight beyond 8 bits": [
        _block((6,), {"vThMant": 4000}, weight=np.array([508.0])),
        dense(W),
    ],
    "an input block alone": [_block((2, 3, 4), {"vThMant": 500})],
}


@pytest.mark.lava
@pytest.mark.parametrize("what", CASES)
def test_what_lava_dl_reads_it_reads_as_we_do(what: str, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "foreign.net", *CASES[what])
    bits = 6 if "block" in what else 1
    net = read_netx(path, timesteps=T, input_bits=bits)
    inputs = random_inputs(net, 2, 0.5, 3)
    expected, _, _ = run_plain(net, inputs)
    for name, out in expected.items():
        assert 0 < out.mean() < 1, f"{name} proves nothing"
    last = expected[net.nodes[-1].name]
    assert np.array_equal(run_stock_netx(path, net, inputs)[0], last)


@pytest.mark.lava
def test_an_affine_block_integrates_in_stock_lava_to_our_running_sums(tmp_path: Path) -> None:
    layers = [dense(W), dense(even(RNG, 5, 6, low=-60), neuron=None)]
    path = write_foreign(tmp_path / "foreign.net", *layers)
    net = read_netx(path, timesteps=T)
    inputs = random_inputs(net, 3, 0.5, 3)
    expected = run_plain(net, inputs)[1]["dense1"][:, :, 0, 0] >> 6
    assert np.unique(expected).size > 15
    spikes, sums = run_stock_netx(path, net, inputs)
    assert not spikes.any()
    assert np.array_equal(sums, expected)


@pytest.mark.lava
@pytest.mark.parametrize("skip", [1, 2])
def test_skipped_layers_are_skipped_as_in_lava_dl(skip: int, tmp_path: Path) -> None:
    layers = CASES["an input block of three dimensions"]
    path = write_foreign(
        tmp_path / "foreign.net", *layers, {"type": "flatten", "shape": (60, 1, 1)},
        dense(even(RNG, 5, 60, low=-30), neuron=NEURON | {"vThMant": 300}),
    )  # fmt: skip
    net = read_netx(path, timesteps=T, skip_layers=skip)
    assert [n.name for n in net.nodes] == ["conv1", "dense3"][skip - 1 :]
    assert net.input_shape == ((2, 5, 4), (3, 5, 4))[skip - 1]
    inputs = random_inputs(net, 2, 0.5, 3)
    expected = run_plain(net, inputs)[0]["dense3"]
    assert 0 < expected.mean() < 1
    assert np.array_equal(run_stock_netx(path, net, inputs, skip)[0], expected)


@pytest.mark.lava
@pytest.mark.parametrize("what", [name for name in CASES if "delay" in name])
def test_our_own_file_of_a_delayed_net_is_read_by_lava_dl(what: str, tmp_path: Path) -> None:
    net = read_netx(write_foreign(tmp_path / "foreign.net", *CASES[what]), timesteps=T)
    path = tmp_path / "own.net"
    write_netx(net, path)
    assert read_netx(path) == net
    inputs = random_inputs(net, 2, 0.5, 3)
    expected = run_plain(net, inputs)[0][net.nodes[-1].name]
    assert np.array_equal(run_stock_netx(path, net, inputs)[0], expected)
