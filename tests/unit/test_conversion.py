"""Artificial networks become spiking ones: rates, exactness, and runs like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import (
    BottleneckConfig,
    ChainConfig,
    ConversionConfig,
    ConvLayer,
    DataConfig,
    EncodingConfig,
    LossConfig,
    ResNetConfig,
    TrainConfig,
)
from neucodex_lava.conversion import Answers, ann_baseline, convert
from neucodex_lava.conversion.baseline import PlainNetwork
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError, FormatError, NetError
from neucodex_lava.export import export_run
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.converted import QCFS, fire, fire_plainly
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.batches import ordered_batches
from neucodex_lava.training.regularisers import peakedness
from neucodex_lava.training.runs import load_artificial, load_model
from neucodex_lava.training.stages import finetune, train_base
from neucodex_lava.verify import verify
from neucodex_lava.verify.on_dataset import verify_on_dataset

CHAIN = ChainConfig("chain", (ConvLayer(8, stride=2),), (16,), exit_heads=(1,))
DATA = DataConfig(timesteps=4, train_limit=1024, encoding=EncodingConfig("direct", 4))
ANN = TrainConfig(
    epochs=0, qat_epochs=0, ann_epochs=8, batch_size=32, lr=1e-2, augment=False, threads=1
)
QCFS_ANN = replace(ANN, activation="qcfs", levels=8)


@pytest.fixture(scope="module")
def artificial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs ``relu`` and ``qcfs`` of a tiny network."""
    folder = tmp_path_factory.mktemp("runs")
    train_base(folder / "relu", CHAIN, DATA, ANN)
    train_base(folder / "qcfs", CHAIN, DATA, QCFS_ANN)
    return folder


def test_an_integrate_and_fire_neuron_spikes_at_the_rate_of_its_activation() -> None:
    qcfs = QCFS(levels=8)
    torch.nn.init.constant_(qcfs.theta, 8.0)
    drive = torch.linspace(-3, 11, 57)
    wanted = qcfs(drive)
    assert wanted.tolist() == [min(8, max(0, int(np.floor(d + 0.5)))) / 8 for d in drive.tolist()]
    # Off the halves, where the paper's neuron spikes at its threshold and ours only above it.
    off = (drive + 0.5) % 1 != 0
    rate = fire(drive.expand(8, -1), 8.0, 4.0).mean(0)
    assert torch.equal(rate[off], wanted[off].detach())
    assert (fire(drive.expand(50, -1), 8.0, 4.0).mean(0) - (drive / 8).clamp(0, 1)).abs().max() <= (
        1 / 50
    )


def test_the_activations_gradient_is_that_of_a_clip() -> None:
    qcfs = QCFS(levels=4)
    drive = torch.tensor([-1.0, 1.0, 3.0, 9.0], requires_grad=True)
    qcfs(drive).sum().backward()
    assert drive.grad is not None
    assert drive.grad.tolist() == [0, 0.25, 0.25, 0]
    assert qcfs.theta.grad is not None
    assert float(qcfs.theta.grad) == pytest.approx(-(1 + 3) / 16)


def test_plain_loops_clip_and_reset_as_the_fast_path_does() -> None:
    drive = torch.from_numpy(np.random.default_rng(0).integers(-90, 90, (6, 50)).astype("f4"))
    drive[:, 0], drive[0, 1] = -100_000, -131_072
    spikes, potentials = fire_plainly(drive.T.reshape(50, 1, 1, 1, 6), 64, 32)
    assert torch.equal(spikes.reshape(50, 6).T, fire(drive, 64.0, 32.0))
    assert 0.1 < float(spikes.mean()) < 0.9
    assert float(potentials[0].min()) == -((1 << 23) - 1) / 64
    assert float(potentials[2:].max()) > 64, "what exceeds the threshold is kept"


@pytest.mark.parametrize("method", ["qcfs", "transfer"])
def test_a_converted_network_answers_as_its_artificial_one_and_is_exact(
    method: str, artificial: Path, tmp_path: Path
) -> None:
    source = artificial / ("relu" if method == "transfer" else "qcfs")
    steps = 32 if method == "transfer" else 16
    config = ConversionConfig(method)  # type: ignore[arg-type]
    run, found = convert(tmp_path / "run", source, config, timesteps=steps)
    assert run.float_accuracy is not None
    assert run.float_accuracy > 0.85
    assert found[-1] > run.float_accuracy - 0.03
    assert len(found) == 2
    bundle = export_run(tmp_path / "run", tmp_path / "bundle")
    assert bundle.manifest.accuracy_of("test").value == found[-1]
    papers = bundle.manifest.training
    assert papers is not None
    soft = method == "qcfs"
    assert papers["golden"] == ("plain loops (models/converted.py)" if soft else "SLAYER")
    assert len(papers["log"]) == 8
    neurons = {n.name: n.neuron for n in bundle.net.nodes if not n.neuron.is_readout}
    assert {n.reset for n in neurons.values()} == {"subtract" if soft else "zero"}
    assert {n.voltage_decay for n in neurons.values()} == {0 if soft else 410}
    assert {n.initial for n in neurons.values()} == (
        {n.threshold // 2 for n in neurons.values()} if soft else {0}
    )
    witness, other = ("plain", "slayer") if soft else ("slayer", "plain")
    report = verify(bundle, run=tmp_path / "run", backends=(witness, "twin", "fused"))
    assert report.exact, report.first_difference
    assert ("slayer" in report.skipped) == soft
    with pytest.raises(ConfigError, match=f"backend {other} cannot run: SLAYER has"):
        verify(bundle, run=tmp_path / "run", backends=(other,))
    if soft:
        with pytest.raises(ConfigError, match="SLAYER has no neuron that keeps what exceeds"):
            verify_on_dataset(bundle, tmp_path / "run", 4)
    assert all(
        golden.mean() > 0.01 for name, golden in bundle.golden.spikes.items() if name in neurons
    )


def test_rates_of_a_converted_network_are_the_activations(artificial: Path, tmp_path: Path) -> None:
    _, model = load_artificial(artificial / "qcfs")
    steps = QCFS_ANN.levels
    convert(tmp_path / "run", artificial / "qcfs", ConversionConfig("qcfs"), timesteps=steps)
    run, spiking = load_model(tmp_path / "run")
    inputs = load(run.data, None, "test").take(slice(0, 64)).inputs(run.data)
    _, wanted = model.run(torch.from_numpy(np.moveaxis(inputs, -1, 0).copy()).float())
    twin = run_twin(Executor(to_integer_net(spiking)), inputs, record=True)
    assert twin.spikes is not None
    rates, activations = twin.spikes["conv1"].mean(-1), wanted["conv1"][0].detach().numpy()
    # The input is constant, and T is L: only the rounding of weights can move a rate by one spike.
    assert np.abs(rates - activations).max() <= 1 / steps
    assert (rates == activations).mean() > 0.97
    assert 0.05 < activations.mean() < 0.9


def test_a_converted_residual_network_is_exact(tmp_path: Path) -> None:
    tiny = ResNetConfig("tiny", widths=(4,), blocks=(1,))
    train_base(
        tmp_path / "ann", tiny, replace(DATA, train_limit=64), replace(QCFS_ANN, ann_epochs=1)
    )
    convert(tmp_path / "run", tmp_path / "ann", ConversionConfig("qcfs"), timesteps=8)
    _, model = load_model(tmp_path / "run")
    inputs = np.random.default_rng(0).integers(0, 16, (4, 1, 8, 8, 8)).astype(np.uint8)
    plain, twin = model.run_slayer(inputs), run_twin(Executor(to_integer_net(model)), inputs)
    np.testing.assert_array_equal(plain.sums, twin.sums)
    fast = model(torch.from_numpy(np.moveaxis(inputs, -1, 0).copy()).float())
    expected = plain.sums[..., -1] / (8 * model.readout.gain)
    np.testing.assert_allclose(fast[-1].detach().numpy(), expected, rtol=1e-5)
    train_base(tmp_path / "relu", tiny, replace(DATA, train_limit=64), replace(ANN, ann_epochs=1))
    with pytest.raises(NetError, match="node 'block1_out' joins spikes of other layers"):
        convert(tmp_path / "no", tmp_path / "relu", ConversionConfig("transfer"), timesteps=8)
    assert not (tmp_path / "no").exists()


def test_what_cannot_be_converted_is_refused(artificial: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="activation relu is not converted by qcfs"):
        convert(tmp_path / "a", artificial / "relu", ConversionConfig("qcfs"), timesteps=8)
    with pytest.raises(FormatError, match="holds an artificial network"):
        export_run(artificial / "relu", tmp_path / "x")
    convert(tmp_path / "run", artificial / "relu", ConversionConfig("transfer"), timesteps=8)
    with pytest.raises(FormatError, match="holds a spiking network, not an artificial"):
        convert(tmp_path / "b", tmp_path / "run", ConversionConfig("transfer"), timesteps=8)
    with pytest.raises(ConfigError, match="is not empty"):
        convert(tmp_path / "run", artificial / "relu", ConversionConfig("transfer"), timesteps=8)
    with pytest.raises(ConfigError, match="converted network, which cannot be trained on"):
        finetune(tmp_path / "c", tmp_path / "run", BottleneckConfig(1, 1), TrainConfig())
    with pytest.raises(ConfigError, match="a network of qcfs is converted"):
        TrainConfig(ann_epochs=2, activation="qcfs")
    raw = json.loads((tmp_path / "run" / "run.json").read_text())
    assert raw["conversion"] == {"method": "transfer", "voltage_decay": 410}


def test_spiking_training_starts_from_an_artificial_network(
    artificial: Path, tmp_path: Path
) -> None:
    spiking = TrainConfig(epochs=1, qat_epochs=1, batch_size=64, threads=1)
    # Of a network of QCFS the steps' heights are left out.
    run = train_base(tmp_path / "steps", CHAIN, DATA, spiking, init=artificial / "qcfs")
    assert run.history[0].test_accuracy > 0.5
    run = train_base(tmp_path / "snn", CHAIN, DATA, spiking, init=artificial / "relu")
    assert run.init_epochs == 8
    assert run.history[0].test_accuracy > 0.5


def test_peaks_are_the_largest_activation_over_the_root_mean_square() -> None:
    maps = torch.tensor([[1.0, 1.0], [0.0, 4.0]]).reshape(1, 2, 1, 1, 2)
    expected = (4 / 1 + 4 / np.sqrt(8)) / 2
    assert float(peakedness([maps])) == pytest.approx(expected, rel=1e-3)
    neurons = torch.tensor([[3.0, 0.0, 0.0, 4.0]]).reshape(1, 1, 4, 1, 1)
    assert float(peakedness([neurons])) == pytest.approx(4 / 2.5, rel=1e-3)


def test_rcs_makes_an_artificial_networks_activations_more_even(tmp_path: Path) -> None:
    def peaks(weight: float) -> float:
        loss = LossConfig(rcs_weight=weight)
        folder = tmp_path / str(weight)
        train_base(folder, CHAIN, DATA, replace(ANN, ann_epochs=3, loss=loss))
        _, model = load_artificial(folder)
        x, _ = next(ordered_batches(load(DATA, None, "train"), DATA, 64))
        _, values = model.run(x)
        return float(peakedness([values["conv1"], values["dense1"]]))

    assert peaks(1.0) < 0.8 * peaks(0.0)


def test_artificial_networks_in_float_and_in_8_bits(artificial: Path) -> None:
    run, model = load_artificial(artificial / "relu")
    exact, rounded = (ann_baseline(artificial / "relu", int8=int8) for int8 in (False, True))
    assert exact.exits == rounded.exits == ("exit_sp1", "readout")
    # conv1 8x4x4 from 3x3; the head sees its 128 neurons, as dense1 of 16 does; the readout those.
    assert exact.macs.tolist() == [1152 + 1280, 1152 + 1280 + 2048 + 160]
    shares = exact.correct / len(exact.labels)
    assert (*shares,) == (*run.history[-1].exit_accuracy, run.history[-1].test_accuracy)
    plain = PlainNetwork(model)(torch.zeros(2, 1, 8, 8) + 3.0)
    outputs, values = model.run(torch.zeros(1, 2, 1, 8, 8) + 3.0)
    torch.testing.assert_close(plain[:, 1], outputs[0])
    torch.testing.assert_close(plain[:, 0], model.early_answers(values)["exit_sp1"][0])
    assert not np.array_equal(exact.logits, rounded.logits)
    assert np.abs(exact.logits - rounded.logits).max() < 0.1 * np.abs(exact.logits).max()
    assert np.abs(exact.correct - rounded.correct).max() <= 10


def test_a_pooled_head_is_spread_over_its_windows() -> None:
    torch.manual_seed(0)
    chain = ChainConfig("c", (ConvLayer(3),), (4,), exit_heads=(1,))
    model = build_base(chain, (1, 19, 17), 5, 1).eval()
    model.set_artificial(True)
    x = torch.rand(2, 1, 19, 17)
    _, values = model.run(x[None])
    expected = model.early_answers(values)["exit_sp1"][0]
    torch.testing.assert_close(PlainNetwork(model)(x)[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_right_answers_are_counted_at_each_exit() -> None:
    logits = np.array([[[5, 0], [0, 5]], [[0.1, 0], [0, 5]], [[0, 0.1], [0.1, 0]]], np.float32)
    answers = Answers(("a", "b"), logits, np.array([0, 1, 0]), np.array([10, 100]), 8)
    assert answers.correct.tolist() == [1, 2]


def test_only_relu_chains_run_in_8_bits(artificial: Path) -> None:
    with pytest.raises(NetError, match="'conv1': 8-bit artificial networks are chains of ReLU"):
        ann_baseline(artificial / "qcfs")
    assert ann_baseline(artificial / "qcfs", int8=False).bits == 32
