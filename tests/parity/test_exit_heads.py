"""Exit heads: further readouts that are trained with the network, and exact in all its forms."""

from __future__ import annotations

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
    ConvLayer,
    DataConfig,
    ModelConfig,
    ResNetConfig,
    TrainConfig,
    architecture,
    from_dict,
    to_dict,
)
from neucodex_lava.errors import ConfigError
from neucodex_lava.export import export_run
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import pool
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.forward import Forward
from neucodex_lava.training.objective import Objective
from neucodex_lava.training.runs import Run, load_model
from neucodex_lava.training.stages import finetune, train_base

TINY = ResNetConfig("tiny", widths=(4, 8), blocks=(1, 1), exit_heads=(1,))
CHAIN = ChainConfig("chain", (ConvLayer(4, 5, stride=2), ConvLayer(6)), (12,), exit_heads=(1, 3))
SIZE = (2, 18, 18)
DATA = DataConfig(timesteps=2, train_limit=96)
TRAIN = TrainConfig(epochs=1, qat_epochs=1, batch_size=32, threads=1)


def built(config: ModelConfig, bottleneck: BottleneckConfig | None = None) -> SplitModel:
    """In its integer phase, with lively neurons."""
    torch.manual_seed(3)
    model = build_base(config, SIZE, 5, 3)
    if bottleneck:
        model = insert_bottleneck(model, bottleneck)
    for block in model.block_list():
        for link in block.links():
            if link.bn is not None:
                torch.nn.init.constant_(link.bn.bias, 0.8)
    for _ in range(20):
        model(batch()[0])
    model.quantise(batch()[0])
    return model.eval()


def batch() -> tuple[torch.Tensor, np.ndarray]:
    x = np.random.default_rng(1).integers(0, 2, (4, *SIZE, 3)).astype(np.uint8)
    return torch.from_numpy(np.moveaxis(x, -1, 0).copy()).float(), x


@pytest.mark.parametrize("config", [TINY, CHAIN])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_heads_are_exact_in_all_forms(config: ModelConfig, split: int) -> None:
    model = built(config, BottleneckConfig(split, 2) if split else None)
    net = to_integer_net(model)
    heads = [f"exit_sp{i}" for i in config.exit_heads]  # type: ignore[union-attr]
    assert [node.name for node in net.exit_heads] == heads == [h.name for h in model.exit_heads]
    x, spikes_in = batch()
    slayer, twin = model.run_slayer(spikes_in), run_twin(Executor(net), spikes_in, record=True)
    assert twin.spikes is not None
    assert twin.potentials is not None
    for node in net.nodes:
        np.testing.assert_array_equal(slayer.spikes[node.name], twin.spikes[node.name])
        np.testing.assert_array_equal(slayer.potentials[node.name], twin.potentials[node.name])
        assert node.neuron.is_readout or 0.02 < slayer.spikes[node.name].mean() < 0.9, node.name
    np.testing.assert_array_equal(slayer.sums, twin.sums)
    assert twin.exit_sums.keys() == set(heads)
    outputs, values = model.run(x)
    steps = np.arange(1, 4)[:, None, None]
    for name, y in model.early_answers(values).items():
        sums = twin.exit_sums[name]
        np.testing.assert_array_equal(slayer.exit_sums[name], sums)
        assert np.unique(sums).size > 10
        expected = np.moveaxis(sums, -1, 0) / (steps * model.gains[name])
        np.testing.assert_allclose(y.detach().numpy(), expected, rtol=1e-6)
    assert outputs.shape == (3, 4, 5)


def test_a_head_lies_before_the_cut_at_its_split_point() -> None:
    net = to_integer_net(built(TINY))
    names = [node.name for node in net.nodes]
    assert names.index("exit_sp1") == names.index("block1_out") + 1
    model = built(TINY)
    assert model.split_points == {1: 4, 2: 6}
    assert set(model.split_points.values()) <= set(net.legal_cuts())
    cut = to_integer_net(built(TINY, BottleneckConfig(1, 2)))
    assert [n.name for n in cut.edge_nodes][-2:] == ["exit_sp1", "encoder"]
    assert cut.code_shape == (2, 18, 18)
    assert [n.connections[0].source for n in cut.edge_nodes][-2:] == ["block1_out"] * 2


def test_windows_of_a_head_add_up_what_lies_in_them() -> None:
    x = torch.arange(2 * 5 * 7).reshape(2, 5, 7).float()
    found = pool(x, (2, 3))
    assert found.shape == (2, 3, 3)
    assert found[1, 2, 2] == x[1, 4, 6]
    assert found[0, 1, 1] == x[0, 2:4, 3:6].sum()
    assert found.sum() == x.sum()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_heads_loss_trains_it_and_what_lies_before_it_only(weight: float) -> None:
    torch.manual_seed(1)
    model = build_base(replace(TINY, exit_heads=(1,)), SIZE, 5, 3)
    loss = replace(TRAIN.loss, exit_weight=weight)
    sent = Forward(model, potentials=False, recompute=False)(batch()[0])
    objective = Objective(replace(TRAIN, loss=loss), model)
    alone = Objective(replace(TRAIN, loss=replace(loss, exit_weight=0.0)), model)
    targets = torch.tensor([0, 1, 2, 3])
    (objective(batch()[0], sent, targets) - alone(batch()[0], sent, targets)).backward()
    reached = {
        b.name: sum(float(p.grad.abs().sum()) for p in b.parameters() if p.grad is not None)
        for b in model.block_list()
    }
    before = {"stem", "block1_mid", "block1_out", "exit_sp1"}
    assert {name for name, size in reached.items() if size > 0} == (before if weight else set())


def test_runs_record_each_heads_accuracy_and_split_runs_keep_the_heads(tmp_path: Path) -> None:
    run = train_base(tmp_path / "base", TINY, DATA, TRAIN)
    assert all(len(epoch.exit_accuracy) == 1 for epoch in run.history)
    bundle = export_run(tmp_path / "base", tmp_path / "x" / "base")
    assert bundle.manifest.accuracy.keys() == {"test", "exit_sp1"}
    assert bundle.manifest.accuracy_of("exit_sp1").value == run.history[-1].exit_accuracy[0]
    assert bundle.manifest.gains.keys() >= {"exit_sp1", "readout"}
    tuned = finetune(
        tmp_path / "sp1", tmp_path / "base", BottleneckConfig(1, 2), TRAIN, exit_heads=(2,)
    )
    assert tuned.model == replace(TINY, exit_heads=(1, 2))
    split = export_run(tmp_path / "sp1", tmp_path / "x" / "sp1")
    assert [n.name for n in split.net.exit_heads] == ["exit_sp1", "exit_sp2"]
    assert split.net.edge_nodes[-2].name == "exit_sp1"
    assert len(tuned.history[-1].exit_accuracy) == 2


def test_a_network_without_heads_gets_them_from_init(tmp_path: Path) -> None:
    train_base(tmp_path / "bare", replace(TINY, exit_heads=()), DATA, TRAIN)
    late = replace(TRAIN, epochs=0, qat_lr=1e-9)
    run = train_base(tmp_path / "headed", TINY, DATA, late, init=tmp_path / "bare")
    bare, headed = (load_model(tmp_path / name)[1] for name in ("bare", "headed"))
    stem = "blocks.stem.synapses.0.synapse.weight"
    assert torch.allclose(bare.state_dict()[stem], headed.state_dict()[stem], atol=1e-5)
    assert run.init_epochs == 2
    assert [h.name for h in headed.exit_heads] == ["exit_sp1"]


def test_old_configurations_load() -> None:
    old = to_dict(TINY)
    del old["exit_heads"]
    run = Run(TINY, DATA, TRAIN, 10, (1, 8, 8))
    raw = to_dict(run) | {"model": old}
    for name in ("exit_weight",):
        del raw["train"]["loss"][name]
    for name in ("activation", "levels", "norm"):
        del raw["train"][name]
    found = from_dict(Run, raw)
    assert found == replace(run, model=replace(TINY, exit_heads=()))
    for config in (CHAIN, architecture("vgg16", exit_heads=(4,)), architecture("alexnet", 0.5)):
        again = from_dict(Run, to_dict(replace(run, model=config)))
        assert again.model == config
        assert type(again.model) is type(config)


def test_heads_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="no exit head can be at SP4: the split points are SP1"):
        architecture("resnet-small", exit_heads=(1, 4))
    with pytest.raises(ConfigError, match="SP2, SP1: each once, from the input on"):
        architecture("mlp", exit_heads=(2, 1))
    with pytest.raises(ConfigError, match="head of 'lenet5' cannot have another width"):
        architecture("lenet5", head=1, head_width=0.5)


@pytest.mark.parametrize(
    ("name", "size", "shapes"),
    [
        ("mlp", (1, 28, 28), [(512, 1, 1), (256, 1, 1), (128, 1, 1), (64, 1, 1)]),
        ("lenet5", (1, 28, 28), [(6, 14, 14), (16, 7, 7), (120, 1, 1), (84, 1, 1)]),
        (
            "alexnet",
            (3, 32, 32),
            [(64, 16, 16), (192, 8, 8), (384, 4, 4), (256, 4, 4), (256, 2, 2)] + [(4096, 1, 1)] * 2,
        ),
        (
            "vggsnn",
            (2, 48, 48),
            [
                (64, 48, 48),
                (128, 24, 24),
                (256, 24, 24),
                (256, 12, 12),
                (512, 12, 12),
                (512, 6, 6),
                (512, 6, 6),
                (512, 3, 3),
            ],
        ),
    ],
)
def test_the_papers_small_networks(
    name: str, size: tuple[int, int, int], shapes: list[tuple[int, int, int]]
) -> None:
    with torch.device("meta"):
        model = build_base(architecture(name), size, 10, 4)
    assert [block.shape for block in model.block_list()] == [*shapes, (10, 1, 1)]
    assert model.split_points == {i: i for i in range(1, len(shapes) + 1)}
    narrow = architecture(name, 0.25)
    assert narrow.architecture == f"{name}-w0.25"
    with torch.device("meta"):
        first = build_base(narrow, size, 10, 4).block_list()[0].shape
    assert first[0] == max(4, round(shapes[0][0] / 16) * 4)
