"""NetX files that lava-dl wrote: what they become, and what is refused by name."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foreign_files import NEURON, conv, dense, even, write_foreign
from plain import delayed_net, load_join_net, run_plain

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.edge.netx import read_netx, write_netx
from neucodex_lava.edge.netx.reader import is_own
from neucodex_lava.errors import ConfigError, FormatError, NetError, OverflowInRunError
from neucodex_lava.evaluation import net_file
from neucodex_lava.evaluation.net_file import (
    check_run,
    is_net_file,
    load_net_target,
    random_inputs,
)
from neucodex_lava.evaluation.simulate import SimulateOptions, simulate_file
from neucodex_lava.integer_net import IntegerNet
from neucodex_lava.verify.on_file import verify_net

RNG = np.random.default_rng(3)
W = even(RNG, 6, 6)
C = even(RNG, 4, 2, 3, 3)
INPUT: dict[str, Any] = {"type": "input", "shape": (2, 6, 5)}
FLATTEN: dict[str, Any] = {"type": "flatten", "shape": (120, 1, 1)}
CONV = conv(C, (4, 6, 5), padding=(1, 1))
BLOCK = INPUT | {"neuron": NEURON}


def read(tmp_path: Path, *layers: dict[str, Any], **told: Any) -> IntegerNet:
    return read_netx(write_foreign(tmp_path / "f.net", *layers), **({"timesteps": 4} | told))


def test_an_input_block_becomes_an_identity_connection_from_graded_input(tmp_path: Path) -> None:
    weight, bias = np.float32([-14]), np.float32([6])
    net = read(tmp_path, BLOCK | {"weight": weight, "bias": bias}, CONV)
    block = net.nodes[0]
    assert (net.input_bits, net.input_shape, block.shape) == (8, (2, 6, 5), (2, 6, 5))
    assert [n.name for n in net.nodes] == ["input0", "conv1"]
    link = block.connections[0]
    assert (link.source, link.kind, int(link.weight), link.exponent) == (
        "input",
        "identity",
        -14,
        0,
    )
    assert block.bias.tolist() == [6, 6]
    # Lava adds the bias behind the current: no current decays here.
    assert (block.neuron.current_decay, block.neuron.voltage_decay) == (4096, NEURON["vDecay"])
    assert block.neuron.threshold == NEURON["vThMant"]
    assert read(tmp_path, BLOCK, CONV, input_bits=3).input_bits == 3


@pytest.mark.parametrize(
    ("value", "weight", "exponent"),
    [(None, 64, 0), (254, 254, 0), (-256, -256, 0), (256, 128, 1), (-512, -256, 1), (1016, 254, 2)],
)
def test_an_input_blocks_weight_may_need_an_exponent(
    value: int | None, weight: int, exponent: int, tmp_path: Path
) -> None:
    net = read(tmp_path, BLOCK | {"weight": value}, CONV, input_bits=4)
    link = net.nodes[0].connections[0]
    assert (int(link.weight), link.exponent) == (weight, exponent)


@pytest.mark.parametrize(
    ("delay", "found"),
    [
        (np.float32([0, 1, 2, 3, 4, 62]), [[0], [1], [2], [3], [4], [62]]),
        (np.arange(6).reshape(6, 1) + np.zeros(6, int), [[0], [1], [2], [3], [4], [5]]),
        (np.arange(6) + np.zeros((6, 1), int), [[0, 1, 2, 3, 4, 5]]),
        (5, 5),
        (np.full(6, 3), 3),
        (np.zeros(6), 0),
    ],
)
def test_delays_of_dense_layers(delay: Any, found: Any, tmp_path: Path) -> None:
    """Of one dimension in a square layer they are the targets', as lava-dl reads them."""
    net = read(tmp_path, dense(W, delay=delay))
    assert net.nodes[0].connections[0].delay.tolist() == found


def test_delays_of_as_many_as_sources_are_the_sources(tmp_path: Path) -> None:
    net = read(tmp_path, dense(even(RNG, 3, 5), delay=np.arange(5)))
    assert net.nodes[0].connections[0].delay.tolist() == [[0, 1, 2, 3, 4]]


REFUSED: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a recurrent layer": ([dense(W) | {"type": "dense_rec"}], "recurrent layers are not supported"),
    "a convolution's delays": ([INPUT, CONV | {"delay": np.float32([0, 1, 0, 0])}], "has delays"),
    "a delay above 62": ([dense(W, delay=np.full(6, 63))], r"must be in \[0, 62\]; lava-dl's own"),
    "a negative delay": ([dense(W, delay=np.full(6, -1))], r"must be in \[0, 62\]"),
    "half a timestep": ([dense(W, delay=np.full(6, 1.5))], "1.5 is not an integer"),
    "delays of another number": ([dense(W, delay=np.arange(5))], r"delays \(5,\) do not fit"),
    "a delay for each synapse": ([dense(W, delay=np.eye(6))], "own for each synapse"),
    "complex weights": (
        [dense(W) | {"weight": {"real": W, "imag": W}}], "complex weights",
    ),
    "decays by channel": (
        [dense(W, neuron=NEURON | {"iDecay": np.full(6, 9)})], r"'iDecay' differs by channel",
    ),
    "a weight exponent": ([dense(W, neuron=NEURON | {"weight_exp": np.arange(3)})], "weight exponent"),
    "graded spikes": ([dense(W, neuron=NEURON | {"gradedSpike": True})], "sends graded spikes"),
    "message bits": ([dense(W, neuron=NEURON | {"messageBits": 8})], "sends graded spikes"),
    "a refractory delay": ([dense(W, neuron=NEURON | {"refDelay": 2})], "refractory delays"),
    "an affine block with biases": ([dense(W, neuron=None, bias=np.ones(6))], "has no neuron"),
    "a convolution without neurons": ([INPUT, CONV | {"neuron": None}], "has no neuron"),
    "an affine block with dynamics": (
        [dense(W, neuron=NEURON | {"vThMant": (1 << 18) - 1})], "threshold 262143 is outside",
    ),
    "sigma-delta": ([dense(W, neuron=NEURON | {"type": "SDNN"})], "type 'SDNN' are not supp"),
    "resonate and fire": ([dense(W, neuron=NEURON | {"type": "RF"})], "type 'RF' are not supp"),
    "an odd weight": ([dense(W + 1)], "is odd, 8-bit weights are even"),
    "half a weight": ([dense(W + 0.5)], "is not an integer"),
    "a weight too large": ([dense(W * 20)], r"is outside \[-256, 254\]"),
    "an odd weight of the input": ([BLOCK | {"weight": 63}], "weight 63 is odd"),
    "too large a weight of the input": ([BLOCK | {"weight": 1 << 16}], r"outside \[-256, 254\]"),
    "too large a bias of the input": ([BLOCK | {"bias": 5000}], "bias 5000 is outside"),
    "dense weights of zero": ([dense(0 * W)], "garbles dense weights"),
    "dense weights of -2": ([dense(0 * W - 2)], "garbles dense weights"),
    "no biases": ([dense(W, bias=np.zeros(0))], "0 biases for 6 channels"),
    "biases of another number": ([INPUT, CONV | {"bias": np.zeros(30)}], "30 biases for 4 channels"),
    "a convolution behind a flatten": ([INPUT, FLATTEN, CONV], "after a flatten has no H and W"),
    "a dense layer that sees a map": ([INPUT, dense(W)], "needs a flatten"),
    "an input in the middle": ([dense(W), INPUT], "input layer must be the first"),
    "nothing but an input": ([INPUT], "no conv or dense layer"),
    "another shape": ([INPUT, CONV | {"shape": (4, 5, 5)}], r"gives shape \(4, 6, 5\), but"),
    "too few inputs": ([INPUT, FLATTEN, dense(W)], "dense weights are"),
    "no shape of the input": ([CONV], r"--input-shape C H W"),
} | {
    f"a layer of type {kind}": ([INPUT, {"type": kind}], "not supported, nor by lava-dl's own")
    for kind in ("pool", "unpool", "convT", "average", "concat")
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(what: str, tmp_path: Path) -> None:
    layers, message = REFUSED[what]
    with pytest.raises((FormatError, NetError), match=message) as caught:
        read(tmp_path, *layers)
    assert "\n" not in str(caught.value)


def test_a_shape_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    assert read(tmp_path, INPUT, CONV, input_shape=(2, 6, 5)).input_shape == (2, 6, 5)
    with pytest.raises(FormatError, match=r"input is \(2, 6, 5\), not \(2, 5, 6\)"):
        read(tmp_path, INPUT, CONV, input_shape=(2, 5, 6))


def test_an_affine_block_becomes_a_readout(tmp_path: Path) -> None:
    """As lava-dl reads it: an integrator that neither leaks nor spikes."""
    net = read(tmp_path, dense(W), dense(even(RNG, 3, 6), neuron=None))
    assert net.nodes[-1].neuron.is_readout
    assert net.ends_in_readout


def test_layers_from_a_number_on_are_left_out(tmp_path: Path) -> None:
    layers = [INPUT, CONV, {"type": "average", "shape": (4, 6, 5)}]
    with pytest.raises(FormatError, match=r"\(--num-layers 2\)"):
        read(tmp_path, *layers)
    assert [n.name for n in read(tmp_path, *layers, num_layers=2).nodes] == ["conv1"]
    with pytest.raises(FormatError, match="no conv or dense layer"):
        read(tmp_path, *layers, num_layers=1)


def wide(tmp_path: Path) -> IntegerNet:
    """As wide as PilotNet's first dense layer, with slow decays: four times the sum, nine timesteps."""
    return read(
        tmp_path, dense(np.full((3, 2560), 120.0), neuron=NEURON | {"vThMant": 50_000}), timesteps=9
    )


def test_a_wide_layer_loads_and_is_watched(tmp_path: Path) -> None:
    """The worst case over all inputs is out of reach; a run that gets there fails, others are exact."""
    net = wide(tmp_path)
    assert net.nodes[0].sum_bound == 131_071 // (4 * 9)
    calm = random_inputs(net, 2, 0.05, 1)
    spikes = run_twin(Executor(net), calm).output
    assert 0 < spikes.mean() < 1
    assert np.array_equal(spikes, run_plain(net, calm)[0]["dense0"])
    with pytest.raises(OverflowInRunError):
        run_twin(Executor(net), random_inputs(net, 2, 1.0, 1))


def test_a_bias_that_no_bound_can_save_is_refused(tmp_path: Path) -> None:
    neuron = NEURON | {"vDecay": 0}
    with pytest.raises(NetError, match="negative potential"):
        read(tmp_path, dense(W, bias=np.full(6, -4000), neuron=neuron), timesteps=100)


def test_one_dataset_under_many_names_is_not_read_for_ever(tmp_path: Path) -> None:
    """A file of a megabyte would become a network of gigabytes."""
    path = write_foreign(tmp_path / "f.net", dense(even(RNG, 512, 512, low=-4, high=6)))
    with h5py.File(path, "r+") as file:
        for i in range(1, 1000):
            file[f"layer/{i}"] = file["layer/0"]
    with pytest.raises(FormatError, match="share their bytes"):
        read_netx(path, timesteps=2)


def test_a_file_of_ours_with_delays_comes_back_equal(tmp_path: Path) -> None:
    net, _ = delayed_net()
    write_netx(net, tmp_path / "own.net")
    assert read_netx(tmp_path / "own.net") == net
    assert is_own(tmp_path / "own.net")
    assert not is_own(write_foreign(tmp_path / "f.net", dense(W)))


def test_another_delay_beside_the_structure_is_found(tmp_path: Path) -> None:
    """What lava-dl would read must be what we read."""
    net = read(tmp_path, dense(W, delay=np.arange(6)))
    path = tmp_path / "own.net"
    write_netx(net, path)
    with h5py.File(path, "r+") as file:
        file["layer/2/delay"][1, 1] = 4
    with pytest.raises(FormatError, match="'delay' does not match"):
        read_netx(path)


def test_a_file_of_ours_says_all_but_the_timesteps_itself(tmp_path: Path) -> None:
    net = load_join_net(5)[0]
    path = tmp_path / "own.net"
    write_netx(net, path)
    assert load_net_target(path) == net
    assert load_net_target(path, timesteps=1) == replace(net, timesteps=1)
    assert load_net_target(path, input_shape=net.input_shape, input_bits=1) == net
    for told in ({"input_shape": (9, 9, 9)}, {"input_bits": 2}, {"skip_layers": 1}):
        with pytest.raises(FormatError, match="says its input and its layers itself"):
            load_net_target(path, **told)


@pytest.mark.parametrize("name", ["timesteps", "input_bits", "skip_layers"])
def test_arguments_out_of_range_are_refused(name: str, tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "f.net", dense(W))
    with pytest.raises(ConfigError, match="at least"):
        load_net_target(path, **({"timesteps": 3} | {name: -1}))
    with pytest.raises(FormatError, match=r"\(--timesteps T\)"):
        load_net_target(path)


def test_random_inputs_are_seeded_sparse_and_in_range(tmp_path: Path) -> None:
    net = read(tmp_path, BLOCK, CONV, input_bits=3)
    x = random_inputs(net, 50, 0.25, seed=4)
    assert (x.dtype, x.shape) == (np.uint8, (50, 2, 6, 5, 4))
    assert np.array_equal(x, random_inputs(net, 50, 0.25, seed=4))
    assert not np.array_equal(x, random_inputs(net, 50, 0.25, seed=5))
    assert np.unique(x).tolist() == list(range(8))
    assert abs((x > 0).mean() - 0.25) < 0.02
    spikes = random_inputs(read(tmp_path, INPUT, CONV), 50, 0.25)
    assert np.unique(spikes).tolist() == [0, 1]
    for told in ({"samples": 0}, {"rate": 1.5}, {"rate": -0.1}, {"samples": 1 << 40}):
        with pytest.raises(ConfigError):
            random_inputs(net, **told)


def test_a_small_file_cannot_ask_for_more_memory_than_a_run_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_foreign(tmp_path / "f.net", BLOCK, CONV)
    net = load_net_target(path, timesteps=1 << 20)
    with pytest.raises(ConfigError, match="629145600 random inputs .* limit is 268435456") as told:
        random_inputs(net)
    assert told.value.hint == "fewer --samples or --timesteps"
    check_run(net, 8)
    with pytest.raises(ConfigError, match="41943040 rows of counts, the limit is 33554432"):
        check_run(net, 10)
    with pytest.raises(
        ConfigError, match="1509949440 recorded potentials, the limit is 1073741824"
    ):
        verify_net(path, timesteps=1 << 20, samples=8)
    with pytest.raises(ConfigError, match="rows of counts"):
        simulate_file(path, SimulateOptions("fused"), timesteps=1 << 20, samples=9, rate=0.0)
    monkeypatch.setattr(net_file, "NEURONS_LIMIT", 180)
    assert sum(n.size for n in load_net_target(path, timesteps=1).nodes) == 180
    monkeypatch.setattr(net_file, "NEURONS_LIMIT", 179)
    with pytest.raises(ConfigError, match="has 180 neurons, a lone file is run up to 179"):
        load_net_target(path, timesteps=1)


def test_random_inputs_need_little_more_than_themselves(tmp_path: Path) -> None:
    net = replace(read(tmp_path, BLOCK, CONV), timesteps=1 << 16)
    tracemalloc.start()
    x = random_inputs(net, 4, 0.25)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert x.nbytes == 4 * 60 << 16
    assert peak < 1.7 * x.nbytes
    assert x.max() == 255
    assert abs((x > 0).mean() - 0.25) < 0.001


def test_a_file_is_told_from_a_bundle(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "f.net", dense(W))
    (tmp_path / "folder.net").mkdir()
    assert is_net_file(path)
    assert is_net_file(tmp_path / "missing.net")
    assert not is_net_file(tmp_path)
    assert not is_net_file(tmp_path / "folder.net")
