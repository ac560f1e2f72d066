"""The exported tail gives, timestep by timestep, the very integers that the executor gives."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_tails import MODEL, assert_same_run, executor_sums, exported
from plain import delayed_net, leaky_net, random_net

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cli.main import run
from neucodex_lava.cloud.onnx import onnx_tail
from neucodex_lava.cloud.onnx_run import OnnxRun, differences
from neucodex_lava.cloud.triton import triton_config, write_triton
from neucodex_lava.errors import ConfigError, NetError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

RELEASED = Path(__file__).parents[2] / "netx_exports"


@pytest.mark.parametrize("name", ["digits/sp1", "digits/sp2", "digits/sp3", "w1.5-nmnist/sp2"])
def test_released_tails_give_the_golden_sums(name: str) -> None:
    bundle = load_bundle(RELEASED / f"resnet-small-{name}")
    codes = bundle.golden.spikes[bundle.net.output]
    wrong = bundle.golden.sums.copy()
    wrong[1, 3, 2] += 1
    ran = exported(bundle.net)
    assert differences(ran, codes, bundle.golden.sums) == 0
    assert differences(ran, codes, wrong) == 1


def test_samples_at_timesteps_of_their_own_share_a_batch() -> None:
    bundle = load_bundle(RELEASED / "resnet-small-digits" / "sp1")
    codes, sums = bundle.golden.spikes[bundle.net.output], bundle.golden.sums
    ran = exported(bundle.net)
    state = ran.new_state(3)
    for array in state.values():
        array[:] = np.nan  # `start` says where a sample begins, whatever lay there before
    first = np.array([0, 2, 1])
    for now in range(9):
        t = (now - first) % 4
        codes_now = np.stack([codes[n, ..., t[n]] for n in range(3)])
        state, found = ran.step(state, codes_now, t == 0)
        for n in range(3):
            if now >= first[n]:
                np.testing.assert_array_equal(found[n], sums[n, :, t[n]])


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_of_every_decay(seed: int) -> None:
    net, inputs = random_net(seed, readout=True)
    for cut in {0, net.cut} - {len(net.nodes)}:
        cut_net = net.with_cut(cut)
        rng = np.random.default_rng(seed)
        codes = inputs
        if cut:
            codes = rng.integers(0, 2, (3, *cut_net.code_shape, net.timesteps), np.uint8)
        assert_same_run(cut_net, codes)


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("make", [leaky_net, delayed_net])
def test_leaks_delays_soft_resets_and_initial_potentials(make: Any, reset: Any) -> None:
    net, inputs = make()
    hidden = replace(net.nodes[0].neuron, reset=reset, initial=-net.nodes[0].neuron.threshold // 3)
    nodes = [replace(net.nodes[0], neuron=hidden), *net.nodes[1:]]
    size = nodes[-1].size
    weight = 2 * np.arange(-size, size, dtype=np.int16).reshape(2, size) % 20
    out = Connection(nodes[-1].name, "dense", weight)
    nodes.append(Node("out", (2, 1, 1), READOUT, np.zeros(2, int), (out,)))
    net = IntegerNet(net.input_shape, tuple(nodes), 0, net.timesteps, net.input_bits)
    assert_same_run(net, inputs)


def wide_net(bound: int | None, kind: Any = "conv", channels: int = 2) -> IntegerNet:
    weight = np.full((1, channels, 1, 1), 254, np.int16)
    link = Connection("input", "conv", weight, exponent=7)
    if kind == "dense":
        link = Connection("input", "dense", weight.reshape(1, channels), exponent=7)
    body = Node("body", (1, 1, 1), Neuron(threshold=9), np.zeros(1, int), (link,), bound)
    out = Connection("body", "dense", np.full((2, 1), 2, np.int16))
    readout = Node("out", (2, 1, 1), READOUT, np.zeros(2, int), (out,))
    return IntegerNet((channels, 1, 1), (body, readout), 0, 3)


def test_a_sum_that_leaves_the_24_bit_range_is_an_error_as_in_the_executor() -> None:
    net = wide_net(9000, channels=8)
    codes = np.zeros((2, 8, 1, 1, 1), np.uint8)
    codes[1, :4] = 1
    ran = exported(net)
    fine, _ = ran.step(ran.new_state(), codes[:1, ..., 0], np.array([True]))
    assert fine
    codes[1] = 1  # 8 x 254 << 7 is more than 2^17
    with pytest.raises(OverflowInRunError):
        executor_sums(net, codes)
    with pytest.raises(OverflowInRunError):
        ran.step(ran.new_state(2), codes[..., 0], np.array([True, True]))


def test_convolutions_too_wide_for_float32_are_refused_and_dense_ones_take_float64() -> None:
    with pytest.raises(NetError, match=r"node 'body'.*16906240.*16777216"):
        onnx_tail(wide_net(9000, channels=520), MODEL, 1.0)
    net = wide_net(9000, "dense", channels=520)
    codes = np.zeros((1, 520, 1, 1, 3), np.uint8)
    codes[0, 3] = 1
    assert differences(exported(net), codes, executor_sums(net, codes)) == 0


def test_a_tail_without_a_readout_is_refused() -> None:
    net, _ = random_net(0, readout=False)
    with pytest.raises(NetError, match="readout"):
        onnx_tail(net, MODEL, 1.0)


def test_export_tail_writes_a_file_that_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RELEASED / "resnet-small-digits" / "sp3"
    assert run(["export-tail", str(folder), "--out", str(tmp_path / "o"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    made = onnx.load(said["path"])
    about = json.loads({p.key: p.value for p in made.metadata_props}["neucodex"])
    bundle = load_bundle(folder)
    assert about["model"] == said["model"] == bundle.sha256
    assert (about["gain"], about["t_max"]) == (bundle.readout_gain, bundle.net.timesteps)
    assert list(tmp_path.rglob("*.tmp")) == []
    codes = bundle.golden.spikes[bundle.net.output]
    assert differences(OnnxRun(Path(said["path"])), codes, bundle.golden.sums) == 0


def test_export_tail_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(RELEASED / "resnet-small-digits" / "base")
    assert run(["export-tail", base, "--out", str(tmp_path)]) == 2
    assert "pass --split" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(["export-tail", base, "--split", "SP3", "--out", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def parsed(text: str) -> Any:
    """The configuration, read by the schema that NVIDIA's own client ships."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("needs tritonclient (extra dev)")
    from google.protobuf import text_format

    # The package itself wants an older protobuf; its schema alone does not.
    path = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    found = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault("model_config_pb2", module)
    found.loader.exec_module(module)
    return text_format.Parse(text, module.ModelConfig())


def test_triton_reads_the_configuration_and_it_fits_the_model(tmp_path: Path) -> None:
    bundle = load_bundle(RELEASED / "resnet-small-digits" / "sp2")
    tail = onnx_tail(bundle.net, bundle.sha256, bundle.readout_gain)
    raw = tail.model.SerializeToString()
    folder = write_triton(tail, raw, tmp_path, "digits-sp2")
    config = parsed((folder / "config.pbtxt").read_text())
    graph = onnx.load(folder / "1" / "model.onnx").graph

    def shapes(values: Any) -> dict[str, list[int]]:
        return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim[1:]] for v in values}

    sequence = config.sequence_batching
    assert (config.name, config.backend) == ("digits-sp2", "onnxruntime")
    assert sequence.WhichOneof("strategy_choice") == "oldest"
    start = sequence.control_input[0]
    assert (start.name, list(start.control[0].bool_false_true)) == ("start", [False, True])
    assert start.control[0].kind == 0  # CONTROL_SEQUENCE_START
    told = {i.name: list(i.dims) for i in config.input} | {"start": [1]}
    told |= {s.input_name: list(s.dims) for s in sequence.state}
    assert told == shapes(graph.input)
    told = {o.name: list(o.dims) for o in config.output}
    told |= {s.output_name: list(s.dims) for s in sequence.state}
    assert told == shapes(graph.output)


@pytest.mark.parametrize("name", ["", "a/b", "../up", 'a"b', "x" * 200])
def test_a_name_that_triton_or_the_disk_would_not_take_is_refused(name: str) -> None:
    tail = onnx_tail(wide_net(None, channels=1), MODEL, 1.0)
    with pytest.raises(ConfigError):
        triton_config(tail, name)
