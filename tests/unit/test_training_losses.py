"""Losses and terms follow their equations; potentials and recomputed blocks change no spike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from neucodex_lava.config import (
    BottleneckConfig,
    DataConfig,
    DistillConfig,
    LossConfig,
    ResNetConfig,
    TrainConfig,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.distillation import Distillation
from neucodex_lava.training.forward import Forward
from neucodex_lava.training.losses import each_step, every_step_loss, last_step_loss, tet_loss
from neucodex_lava.training.regularisers import SynOpTerm, code_entropy, steadiness
from neucodex_lava.training.runs import load_model
from neucodex_lava.training.stages import finetune, train_base

TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(1, 1))
DATA = DataConfig(timesteps=2, train_limit=128)
TRAIN = TrainConfig(epochs=1, qat_epochs=1, batch_size=64, threads=1)
SPLIT = BottleneckConfig(1, 2, 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(timesteps: int = 4) -> tuple[SplitModel, torch.Tensor]:
    """A network of random weights that spikes, and an input."""
    torch.manual_seed(1)
    model = build_base(TINY, (1, 8, 8), 10, timesteps)
    return model, (torch.rand(timesteps, 6, 1, 8, 8) < 0.5).float()


def test_the_output_of_each_step_is_the_difference_of_the_sums() -> None:
    own = torch.randn(5, 3, 10, dtype=torch.float64)
    means = own.cumsum(0) / torch.arange(1, 6)[:, None, None]
    assert torch.allclose(each_step(means), own)


def test_losses_are_the_equations_written_out() -> None:
    torch.manual_seed(0)
    means, labels = torch.randn(3, 4, 10), torch.tensor([1, 0, 7, 7])
    own = torch.stack([means[0], 2 * means[1] - means[0], 3 * means[2] - 2 * means[1]])
    every = torch.stack([F.cross_entropy(y, labels) for y in means]).mean()
    assert torch.allclose(every_step_loss(means, labels, 0.0), every)
    assert torch.allclose(last_step_loss(means, labels, 0.0), F.cross_entropy(means[2], labels))
    single = torch.stack([F.cross_entropy(o, labels) for o in own]).mean()
    drawn = torch.stack([F.mse_loss(o, torch.ones_like(o)) for o in own]).mean()
    assert torch.allclose(tet_loss(means, labels, 0.0, 0.05), 0.95 * single + 0.05 * drawn)
    probable = F.one_hot(labels, 10).float()
    for loss in (every_step_loss, last_step_loss):
        assert torch.allclose(loss(means, labels, 0.1), loss(means, probable, 0.1))


def test_the_rate_term_is_the_entropy_of_each_channels_rate() -> None:
    code = torch.zeros(2, 2, 3, 4, 4)
    code[:, :, 0, ::2] = 1  # half of them: one bit each
    code[:, 0, 1] = 0
    code[0, 0, 1, 0] = 1  # 4 of 64
    rate = 4 / 64
    expected = (1 - rate * math.log2(rate) - (1 - rate) * math.log2(1 - rate)) / 3
    assert float(code_entropy(code)) == pytest.approx(expected, abs=2e-3)
    code.requires_grad_(True)
    code_entropy(code).backward()
    assert code.grad is not None
    assert float(code.grad[:, :, 1].min()) > 0, "fewer spikes of a rare channel cost less"
    assert torch.allclose(code.grad[:, :, 0], torch.zeros(()), atol=1e-6), "the most a bit can say"


def test_the_synop_term_counts_as_the_integer_network_does() -> None:
    model, x = network()
    model = insert_bottleneck(model, SPLIT)
    model.set_precision(torch.bfloat16)
    term = SynOpTerm(model)
    model.set_precision(torch.float32)
    _, values = model.run(x)
    full = {name: torch.ones_like(v) for name, v in values.items()}
    assert float(term(full)) == pytest.approx(1)
    model.eval().quantise(x)
    net = to_integer_net(model)
    maps: dict[str, np.ndarray] = {}
    for node, connection in net.connections():
        if connection.source != INPUT:
            shape = net.shape_of(connection.source)
            fan_out = connection.fan_out(shape, node.shape)[0]
            maps[connection.source] = maps.get(connection.source, 0) + fan_out
    assert set(term.fan_outs) == set(maps)
    for name, fan_out in maps.items():
        np.testing.assert_array_equal(term.fan_outs[name].numpy(), fan_out, err_msg=name)
    counted = sum(
        float((values[name].detach().numpy() * fan_out).sum()) for name, fan_out in maps.items()
    )
    dense = sum(int(fan_out.sum()) for fan_out in maps.values()) * x.shape[0] * x.shape[1]
    assert float(term(values)) == pytest.approx(counted / dense, rel=1e-5)


@pytest.mark.parametrize(("timesteps", "last"), [(1, 1), (2, 1), (3, 1), (4, 2), (10, 3)])
def test_steadiness_is_taken_over_the_last_third_and_right_samples(
    timesteps: int, last: int
) -> None:
    torch.manual_seed(timesteps)
    n = 5
    spikes = {k: (torch.rand(timesteps, n, 3, 2, 2) < 0.5).float() for k in "ab"}
    potentials = {k: torch.randn(timesteps, n, 3, 2, 2) for k in "ab"}
    labels = torch.arange(n)
    outputs = F.one_hot(labels, 10).float().repeat(timesteps, 1, 1)
    outputs[-1, 2, 9] = 5  # wrong in the last step
    if timesteps > last:
        outputs[timesteps - last - 1, 3, 9] = 5  # wrong before the last steps: of no matter
    layers: list[float] = []
    for k in "ab":
        found: list[float] = []
        for i in (0, 1, 3, 4):
            r = (spikes[k] + potentials[k].clamp(min=0))[:, i].flatten(1)
            d = r[-last:].mean(0)
            cosine = [float((a @ d) / (a.norm() * d.norm() + 1e-12)) for a in r]
            found.append(1 / (sum(cosine) / timesteps + 1e-5))
        layers.append(max(found))
    value = steadiness(spikes, potentials, outputs, labels)
    assert float(value) == pytest.approx(sum(layers) / 2, rel=1e-3)
    assert float(steadiness(spikes, potentials, outputs, labels + 1)) == 0


def test_potentials_are_slayers_and_change_no_spike_and_no_gradient() -> None:
    model, x = network()
    labels = torch.arange(6)
    grads: list[list[torch.Tensor]] = []
    for potentials in (False, True):
        twin = model.copy()
        sent = Forward(twin, potentials=potentials, recompute=False)(x)
        every_step_loss(sent.outputs, labels, 0.0).backward()
        grads.append([p.grad for p in twin.parameters() if p.grad is not None])
    assert len(grads[0]) == sum(p.requires_grad for p in model.parameters())
    for a, b in zip(*grads):
        assert torch.allclose(a, b, atol=1e-4 * float(a.abs().max()))
    model.train()(x)
    model.eval().quantise(x)
    sent = Forward(model, potentials=True, recompute=False)(x)
    slayer = model.run_slayer(x.permute(1, 2, 3, 4, 0).numpy().astype(np.uint8))
    spiking = [b for b in model.block_list() if not b.readout]
    assert set(sent.potentials) == {b.name for b in spiking}
    for block in spiking:
        spikes = sent.values[block.name].permute(1, 2, 3, 4, 0).detach().numpy()
        np.testing.assert_array_equal(spikes, slayer.spikes[block.name])
        threshold = block.lif.fire / block.lif.scale
        found = sent.potentials[block.name].permute(1, 2, 3, 4, 0).detach().numpy() * threshold
        # SLAYER cuts a potential to whole state units, 1/64, at each timestep.
        assert np.abs(found - slayer.potentials[block.name] / 64).max() < 2 / 64


@pytest.mark.parametrize("potentials", [False, True])
def test_recomputed_blocks_give_the_same_gradients_and_statistics(potentials: bool) -> None:
    model, x = network()
    states: list[dict[str, torch.Tensor]] = []
    grads: list[list[torch.Tensor]] = []
    for recompute in (False, True):
        twin = model.copy()
        sent = Forward(twin, potentials=potentials, recompute=recompute)(x)
        every_step_loss(sent.outputs, torch.arange(6), 0.0).backward()
        states.append({k: v for k, v in twin.state_dict().items() if "running" in k})
        grads.append([p.grad for p in twin.parameters() if p.grad is not None])
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name
    for a, b in zip(*grads):
        assert torch.equal(a, b)


def test_recomputing_keeps_less_memory() -> None:
    model, x = network()
    kept: list[int] = []
    for recompute in (False, True):
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            sent = Forward(model, potentials=False, recompute=recompute)(x)
        kept.append(sum(sizes.values()) + sum(v.numel() * 4 for v in sent.values.values()))
    assert kept[1] < 0.6 * kept[0]


def test_distillation_is_nothing_for_a_twin_and_something_for_another() -> None:
    base, x = network()
    student = insert_bottleneck(base, SPLIT)
    config = DistillConfig(distill_features=1.0, distill_logits=1.0, distill_temperature=2.0)
    term = Distillation(config, base, 1)
    outputs, values = base.run(x)
    twin = values | {"decoder": values["block1_out"]}
    last = outputs[-1:].expand_as(outputs)
    assert float(term(x, last, twin)) == pytest.approx(0, abs=1e-6)
    flipped = values | {"decoder": 1 - values["block1_out"]}
    assert float(term(x, last, flipped)) == pytest.approx(1, abs=1e-6)
    away = outputs[-1:].roll(1, -1).expand_as(outputs)
    p, q = F.softmax(last[0] / 2, -1), F.softmax(away[0] / 2, -1)
    divergence = (p * (p.log() - q.log())).sum(-1).mean()
    assert float(term(x, away, twin)) == pytest.approx(4 * float(divergence), rel=1e-2)
    outputs, values = student.run(x)
    term(x, outputs, values).backward()
    assert all(p.grad is None for p in base.parameters())
    assert any(p.grad is not None for p in student.parameters())


@pytest.fixture(scope="module")
def base_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base"
    terms = LossConfig("tet", synop_weight=0.1, rcs_weight=0.1)
    train_base(folder, TINY, DATA, replace(TRAIN, loss=terms))
    return folder


def test_both_stages_train_with_every_term(base_run: Path, tmp_path: Path) -> None:
    terms = LossConfig("last-step", rate_weight=0.5, synop_weight=0.1, rcs_weight=0.1)
    learns = DistillConfig(1.0, 1.0)
    train = replace(TRAIN, loss=terms, distillation=learns, checkpoint_blocks=True)
    finetune(tmp_path / "a", base_run, SPLIT, train)
    finetune(tmp_path / "b", base_run, SPLIT, replace(train, checkpoint_blocks=False))
    _, found = load_model(tmp_path / "a")
    _, expected = load_model(tmp_path / "b")
    for (name, a), (_, b) in zip(found.state_dict().items(), expected.state_dict().items()):
        if "num_batches_tracked" not in name:
            assert torch.equal(a, b), name


def test_the_rate_term_makes_the_code_cheaper(base_run: Path, tmp_path: Path) -> None:
    found: list[float] = []
    x = torch.from_numpy(np.random.default_rng(0).random((2, 64, 1, 8, 8)) < 0.4).float()
    for weight in (0.0, 20.0):
        train = replace(TRAIN, epochs=6, lr=2e-2, loss=LossConfig(rate_weight=weight))
        finetune(tmp_path / str(weight), base_run, SPLIT, train)
        _, model = load_model(tmp_path / str(weight))
        with torch.no_grad():
            found.append(float(code_entropy(model.run(x)[1]["encoder"])))
    assert found[1] < 0.9 * found[0]


@pytest.mark.parametrize(
    "train",
    [
        replace(TRAIN, loss=LossConfig(rate_weight=1.0)),
        replace(TRAIN, distillation=DistillConfig(distill_logits=1.0)),
    ],
)
def test_a_base_has_no_code_and_no_base(train: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no code to make cheaper and no base to learn from"):
        train_base(tmp_path / "run", TINY, DATA, train)
