"""Two processes that torchrun starts train one network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neucodex_lava.config import DataConfig, TrainConfig
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError
from neucodex_lava.training.batches import train_batches
from neucodex_lava.training.distributed import World, device_of
from neucodex_lava.training.runs import load_model, read_run

TRAIN = TrainConfig(batch_size=48, seed=3, augment=False)
DATA = DataConfig(timesteps=2, train_limit=150)

TOGETHER = """
import hashlib, sys
from pathlib import Path
import torch
from neucodex_lava.config import DataConfig, ResNetConfig, TrainConfig
from neucodex_lava.data import load
from neucodex_lava.training.distributed import joined
from neucodex_lava.training.loop import Execution, fit
from neucodex_lava.training.runs import Run

folder = Path(sys.argv[1])
data = DataConfig(timesteps=2, train_limit=192)
train = TrainConfig(epochs=1, qat_epochs=1, batch_size=64, ema=0.9, threads=1)
run = Run(ResNetConfig("tiny", (4, 8), (1, 1)), data, train, 10, (1, 8, 8))
torch.manual_seed(0)
model = run.build()
with joined("cpu") as world:
    run = fit(run, folder, model, load(data), load(data, split="test"), execution=Execution(say=print))
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if "num_batches" not in name:
            digest.update(value.numpy().tobytes())
    (folder / f"rank{world.rank}").write_text(
        f"{digest.hexdigest()} {world.size} {[h.loss for h in run.history]}"
        f" {[h.test_accuracy for h in run.history]}"
    )
"""


def torchrun(*args: object) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*start, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=580,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_end_with_the_same_weights_and_one_of_them_writes(tmp_path: Path) -> None:
    script, folder = tmp_path / "together.py", tmp_path / "run"
    script.write_text(TOGETHER)
    done = torchrun(script, folder)
    assert done.returncode == 0, done.stderr
    told = [(folder / f"rank{i}").read_text() for i in (0, 1)]
    assert told[0] == told[1]
    assert told[0].split()[1] == "2"
    assert done.stdout.count("epoch 2/2") == 1
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.pt",
        "rank0",
        "rank1",
        "run.json",
    ]
    assert len(read_run(folder).history) == 2
    _, model = load_model(folder)
    assert model.integer


def test_the_processes_share_each_batch_of_the_same_order() -> None:
    samples = load(DATA)
    whole = list(train_batches(samples, DATA, TRAIN, 1))
    shares = [list(train_batches(samples, DATA, TRAIN, 1, World(rank, 3))) for rank in range(3)]
    assert [len(labels) for _, labels in whole] == [48, 48, 48]
    for i, (x, labels) in enumerate(whole):
        for rank in range(3):
            assert torch.equal(shares[rank][i][0], x[:, rank::3])
            assert torch.equal(shares[rank][i][1], labels[rank::3])
    chance = TrainConfig(batch_size=48, seed=3)
    first = [next(train_batches(samples, DATA, chance, 1, World(rank, 2)))[0] for rank in (0, 1)]
    again = next(train_batches(samples, DATA, chance, 1, World(1, 2)))[0]
    assert torch.equal(first[1], again)
    same = load(DATA)
    np.copyto(same.pixels, same.pixels[:1])
    drawn = [next(train_batches(same, DATA, chance, 1, World(rank, 2)))[0] for rank in (0, 1)]
    assert not torch.equal(*drawn), "each process augments by chance of its own"


def test_a_gpu_that_is_not_there_is_one_clear_line() -> None:
    assert device_of("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert device_of("auto") == torch.device("cpu")
        with pytest.raises(ConfigError, match="no CUDA device"):
            device_of("cuda")
