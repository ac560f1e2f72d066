"""The two stages of NeuCODEX: train a base network, then insert the bottleneck and fine-tune all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from neucodex_lava.config import BottleneckConfig, DataConfig, ModelConfig, TrainConfig
from neucodex_lava.data import direct_bits, load
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import WEIGHT_MAX
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.loop import fit
from neucodex_lava.training.runs import (
    CHECKPOINT_FILE,
    RUN_FILE,
    Run,
    load_model,
    read_run,
    write_run,
)

STEM_TAPS = 9
"""Kernel positions of the first convolution, 3x3."""


def with_fitting_bits(data: DataConfig, data_root: Path | None = None) -> DataConfig:
    """For direct coding, the most bits at which no weights of the first layer can overflow.

    More bits are possible (``--bits``): the layer's gain, and with it the precision of its weights,
    is then smaller.

    Raises:
        DataError: the dataset is missing or damaged.
    """
    if data.encoding.name != "direct":
        return data
    channels = load(data, data_root, "test").shape[0]
    bits = direct_bits(STEM_TAPS * channels * WEIGHT_MAX, growth=2.0)
    return replace(data, encoding=replace(data.encoding, bits=bits))


def train_base(
    folder: Path,
    model: ModelConfig,
    data: DataConfig,
    train: TrainConfig,
    *,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Run:
    """Stage 1: a network without a bottleneck. Resumes if the folder holds the same run.

    Args:
        folder: of the run; made if missing.
        model, data, train: what to train.
        data_root: where datasets other than the embedded one lie.
        command: recorded in the run.
        progress: called after every batch.

    Raises:
        ConfigError: the folder holds another run.
        DataError: the dataset is missing or damaged.
    """
    train_set = load(data, data_root, "train")
    test_set = load(data, data_root, "test")
    run = Run(model, data, train, len(train_set.classes), train_set.shape, command=command)
    run = _open(folder, run)
    torch.manual_seed(train.seed)
    return fit(run, folder, run.build(), train_set, test_set, progress)


def finetune(
    folder: Path,
    base_folder: Path,
    bottleneck: BottleneckConfig,
    train: TrainConfig,
    *,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Run:
    """Stage 2: the bottleneck at one split point, and everything fine-tuned. Resumes likewise.

    Raises:
        ConfigError: no such split point, or the folder holds another run.
        FormatError: the base is no finished run.
    """
    base_run, base = load_model(base_folder)
    if base_run.bottleneck is not None:
        raise ConfigError(
            f"run '{base_folder}' has a bottleneck already", "pass the run of the base network"
        )
    run = Run(
        base_run.model,
        base_run.data,
        train,
        base_run.classes,
        base_run.input_shape,
        bottleneck,
        base=str(base_folder),
        base_net=to_integer_net(base).fingerprint(),
        command=command,
    )
    torch.manual_seed(train.seed)
    model = insert_bottleneck(base, bottleneck)
    train_set = load(run.data, data_root, "train")
    test_set = load(run.data, data_root, "test")
    run = _open(folder, run)
    return fit(run, folder, model, train_set, test_set, progress)


def _open(folder: Path, run: Run) -> Run:
    """The run in this folder if it is the same work, else a new one."""
    if not (folder / RUN_FILE).is_file():
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"'{folder}' is not empty and holds no run", "choose another folder with --out"
            )
        write_run(folder, run)
        return run
    found = read_run(folder)
    if not found.same_work(run):
        raise ConfigError(
            f"'{folder}' holds a run with another configuration",
            "choose another folder with --out, or delete it",
        )
    if found.history and not (folder / CHECKPOINT_FILE).is_file():
        return replace(found, history=())
    return found
