"""The two stages of NeuCODEX: train a base network, then insert the bottleneck and fine-tune all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from neucodex_lava.config import (
    BottleneckConfig,
    ChainConfig,
    DataConfig,
    ModelConfig,
    OwnConfig,
    TrainConfig,
    require,
)
from neucodex_lava.data import ImageSet, SampleSet, direct_bits, load
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import WEIGHT_MAX
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.exit_heads import with_exit_heads
from neucodex_lava.models.split import SplitModel
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.checkpoints import CHECKPOINT_FILE, load_into
from neucodex_lava.training.distributed import World, joined
from neucodex_lava.training.loop import HERE, Execution, fit
from neucodex_lava.training.runs import RUN_FILE, Run, load_model, read_run, write_run
from neucodex_lava.training.starting import fitting, start_of

STEM_TAPS = 9
"""Kernel positions of the first convolution, 3x3, of ResNets and VGGs."""
DENSE_BITS = 4


def with_fitting_bits(
    data: DataConfig, data_root: Path | None = None, model: ModelConfig | None = None
) -> DataConfig:
    """For direct coding, the most bits at which no weights of the first layer can overflow.

    More bits are possible (``--bits``): the layer's gain, and with it the precision of its weights,
    is then smaller. A dense first layer has too many inputs for any: it gets `DENSE_BITS`, and gives
    way.

    Raises:
        DataError: the dataset is missing or damaged.
    """
    if data.encoding.name != "direct":
        return data
    taps = STEM_TAPS
    if isinstance(model, ChainConfig):
        if not model.maps:
            return replace(data, encoding=replace(data.encoding, bits=DENSE_BITS))
        taps = model.maps[0].kernel ** 2
    channels = load(data, data_root, "test").shape[0]
    bits = direct_bits(taps * channels * WEIGHT_MAX, growth=2.0)
    return replace(data, encoding=replace(data.encoding, bits=bits))


def train_base(
    folder: Path,
    model: ModelConfig,
    data: DataConfig,
    train: TrainConfig,
    *,
    init: Path | None = None,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
    execution: Execution = HERE,
) -> Run:
    """Stage 1: a network without a bottleneck. Resumes if the folder holds the same run.

    Args:
        folder: of the run; made if missing.
        model, data, train: what to train.
        init: a run to start from, of the same architecture, that left the same samples out; T_max and
            everything else may differ, and it may be unfinished.
        data_root: where datasets other than the embedded one lie.
        command: recorded in the run.
        progress: called after every batch.
        execution: where it runs, and who is told.

    Raises:
        ConfigError: the folder holds another run, or `init` is of another architecture or was trained
            on what this run holds out or tests on.
        FormatError: `init` is no run.
        DataError: the dataset is missing or damaged.
    """
    train_set = load(data, data_root, "train")
    test_set = load(data, data_root, "test")
    _require_fitting(train, train_set, model)
    require(
        not train.loss.rate_weight and not train.distillation.wanted,
        "a base network has no code to make cheaper and no base to learn from",
        "leave rate and distillation weights to finetune",
    )
    run = Run(
        model,
        data,
        train,
        len(train_set.classes),
        train_set.shape,
        init=str(init) if init else None,
        command=command,
    )
    torch.manual_seed(train.seed)
    network = run.build()
    with joined(execution.device):
        run = _prepared(run, folder, network)
        return fit(run, folder, network, train_set, test_set, progress, execution)


def finetune(
    folder: Path,
    base_folder: Path,
    bottleneck: BottleneckConfig,
    train: TrainConfig,
    *,
    exit_heads: tuple[int, ...] = (),
    init: Path | None = None,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
    execution: Execution = HERE,
) -> Run:
    """Stage 2: the bottleneck at one split point, and everything fine-tuned. Resumes likewise.

    Args:
        folder: of the run; made if missing.
        base_folder: of the base's run.
        bottleneck: where and how large the code is.
        train: how to train.
        exit_heads: i of every SPi that gets an exit head, beside those that the base has.
        init: a run with the same split point and code to start from, as in `train_base`.
        data_root, command, progress, execution: as in `train_base`.

    Raises:
        ConfigError: no such split point, the folder holds another run, or `init` is of another network.
        FormatError: the base is no finished run, or `init` is no run.
    """
    base_run, base = load_model(base_folder)
    if base_run.bottleneck is not None:
        raise ConfigError(
            f"run '{base_folder}' has a bottleneck already", "pass the run of the base network"
        )
    if base_run.conversion is not None:
        raise ConfigError(
            f"run '{base_folder}' is of a converted network, which cannot be trained on",
            "train a spiking network from the artificial one's weights: train --init RUN",
        )
    run = Run(
        with_heads_at(base_run.model, exit_heads),
        base_run.data,
        train,
        base_run.classes,
        base_run.input_shape,
        bottleneck,
        base=str(base_folder),
        base_net=to_integer_net(base).fingerprint(),
        init=str(init) if init else None,
        command=command,
    )
    require(
        train.norm == "tdbn",
        "only a base network's batch norms can have a factor for each timestep",
        "leave --norm out",
    )
    torch.manual_seed(train.seed)
    for block in base.block_list():
        for link in block.links():
            link.fold_steps()
    model = insert_bottleneck(with_exit_heads(base, exit_heads), bottleneck)
    train_set = load(run.data, data_root, "train")
    test_set = load(run.data, data_root, "test")
    _require_fitting(train, train_set, run.model)
    with joined(execution.device):
        run = _prepared(run, folder, model)
        return fit(run, folder, model, train_set, test_set, progress, execution, base)


def with_heads_at(model: ModelConfig, splits: tuple[int, ...]) -> ModelConfig:
    """The configuration with exit heads at these split points too.

    Raises:
        ConfigError: no such split point, or an imported network.
    """
    if not splits:
        return model
    if isinstance(model, OwnConfig):
        raise ConfigError(
            "an imported network cannot have exit heads", "train one of the project's architectures"
        )
    return replace(model, exit_heads=tuple(sorted({*model.exit_heads, *splits})))


def _prepared(run: Run, folder: Path, model: SplitModel) -> Run:
    """The run in its folder, its model with the weights that it starts from."""
    run, start = start_of(run, folder)
    world = World.current()
    if not world.first:
        world.wait()  # until the first has written run.json
    run = _open(folder, run)
    if world.first:
        world.wait()
    if start:
        load_into(model, fitting(start, model), Path(str(run.init)))
    return run


def _require_fitting(train: TrainConfig, samples: SampleSet, model: ModelConfig) -> None:
    """What the recipe asks for can be done to such samples and such a network."""
    require(
        not train.loss.rcs_weight or not isinstance(model, OwnConfig),
        "the regulariser RCS knows neurons without current memory only, an own network may have others",
        "leave --rcs-weight out",
    )
    options = train.augmentation
    pictures = isinstance(samples, ImageSet)
    require(
        pictures or not options.mixup,
        f"mixup blends images, and {samples.name} holds recordings of events",
        "leave --mixup out",
    )
    photographs = pictures and samples.flip_ok and samples.scale == 255
    require(
        photographs or (options.policy == "none" and not options.cutout),
        f"augmentation policies and cutout are for photographs, and {samples.name} holds none",
        "leave --policy and --cutout out",
    )


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
