"""Batch norms with a factor for each timestep, of which integers keep the mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import BottleneckConfig, DataConfig, ResNetConfig, TrainConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.runs import Run, load_model
from neucodex_lava.training.stages import finetune, train_base

TINY = ResNetConfig("tiny", widths=(4,), blocks=(1,))
DATA = DataConfig(timesteps=3, train_limit=96)
TRAIN = TrainConfig(epochs=1, qat_epochs=1, batch_size=32, threads=1, norm="tebn")


def built(norm: str) -> SplitModel:
    torch.manual_seed(2)
    return Run(TINY, DATA, replace(TRAIN, norm=norm), 10, (1, 8, 8)).build()  # type: ignore[arg-type]


def test_factors_of_one_change_nothing_and_each_timestep_learns_its_own() -> None:
    plain, scaled = built("tdbn"), built("tebn")
    x = (torch.rand(3, 16, 1, 8, 8) < 0.5).float()
    torch.testing.assert_close(plain(x), scaled(x))
    scaled(x).square().sum().backward()
    (link,) = scaled.block_list()[0].links()
    assert link.steps is not None
    assert link.steps.grad is not None
    assert len(set(link.steps.grad.tolist())) == 3
    with torch.no_grad():
        link.steps.copy_(torch.tensor([1.0, 0.0, 2.0]))
    norm = link.eval().float_part(x).z
    assert norm[1].abs().max() == 0
    first = link.float_part(x[[0, 0, 0]]).z
    torch.testing.assert_close(first[2], 2 * first[0])


def test_integers_keep_the_mean_and_are_exact(tmp_path: Path) -> None:
    train_base(tmp_path / "base", TINY, DATA, TRAIN)
    _, model = load_model(tmp_path / "base")
    (link,) = model.block_list()[0].links()
    assert link.steps is not None
    before = link.fold()
    with torch.no_grad():
        link.steps.add_(torch.tensor([0.5, -0.5, 0.75]))
    scale = float(link.steps.mean()) / float(link.steps.mean() - 0.25)
    after = link.fold()
    torch.testing.assert_close(after[0], before[0] * scale)
    torch.testing.assert_close(after[1], before[1] * scale)
    link.fold_steps()
    assert link.steps is None
    torch.testing.assert_close(link.fold()[0], after[0])
    inputs = np.random.default_rng(0).integers(0, 2, (4, 1, 8, 8, 3)).astype(np.uint8)
    twin = run_twin(Executor(to_integer_net(model)), inputs)
    np.testing.assert_array_equal(model.run_slayer(inputs).sums, twin.sums)


def test_a_split_run_has_plain_norms(tmp_path: Path) -> None:
    train_base(tmp_path / "base", TINY, DATA, TRAIN)
    bottleneck = BottleneckConfig(1, 1)
    with pytest.raises(ConfigError, match="only a base network's batch norms"):
        finetune(tmp_path / "no", tmp_path / "base", bottleneck, TRAIN)
    finetune(tmp_path / "sp1", tmp_path / "base", bottleneck, replace(TRAIN, norm="tdbn"))
    _, model = load_model(tmp_path / "sp1")
    assert all(link.steps is None for block in model.block_list() for link in block.links())
