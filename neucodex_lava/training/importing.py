"""A user's own trained SLAYER network becomes the run of a base: from there on the usual commands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from neucodex_lava.config import DataConfig, TrainConfig, require
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.models.imported import read_blocks
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.checkpoints import Position, save_checkpoint
from neucodex_lava.training.runs import Run, write_run

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NOTHING_TRAINED = TrainConfig(epochs=0, qat_epochs=1)
"""What the run says of its training: one epoch on the integers, which was the user's own."""
WRAPPERS = ("module.", "blocks.")
"""Prefixes that a checkpoint's keys may have and the blocks' do not."""
SIZED_BY_FIRST_RUN = (".running_mean", ".delay")
"""Tensors that SLAYER gives their size in the first forward pass."""


def import_blocks(
    network: nn.Module | Sequence[nn.Module],
    folder: Path | str,
    *,
    data: DataConfig,
    checkpoint: Path | str | None = None,
    name: str = "own",
    data_root: Path | None = None,
) -> Run:
    """Write the run of a base network that gives, spike for spike, what a SLAYER network gives.

    Its layers have the same weights, biases, thresholds, decays, geometry and delays in integers,
    so that before any further training each of them spikes as the user's own does in evaluation.
    SPi lies after spiking block i; an output layer that spikes is none, its spikes are counted by the
    readout. See docs/howto/bring_your_own.md.

    Args:
        network: CUBA blocks of `slayer.block.cuba` in order, or a module that has them as ``blocks``.
        folder: of the new run.
        data: what it was trained on: dataset, encoding and T_max; says the input's shape.
        checkpoint: state dict of the network or of its blocks, as `torch.save` wrote it; it is loaded
            into `network`. Without one the weights are taken as they are.
        name: of the architecture, in folders and reports.
        data_root: where datasets other than the embedded ones lie.

    Returns:
        The run, as `finetune` and `export` take its folder.

    Raises:
        ConfigError: a name that is none, a folder that is not empty, a network without `blocks`,
            classes that do not fit the data.
        DataError: the dataset is missing or damaged.
        FormatError: the checkpoint is damaged, or of another network.
        NetError: a block that cannot be imported: which one, and the way out.
    """
    folder = Path(folder)
    require(NAME.fullmatch(name) is not None, f"'{name}' is no name for a folder")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"'{folder}' is not empty", "choose another folder")
    found: Any = getattr(network, "blocks", network)
    require(
        not isinstance(found, nn.Module) or isinstance(found, (nn.ModuleList, nn.Sequential)),
        f"the network, a {type(network).__name__}, has no list of layers called 'blocks'",
        "pass its SLAYER blocks in the order in which they run: import_blocks([net.conv1, ...], ...)",
    )
    blocks = list(cast("Iterable[nn.Module]", found))
    if checkpoint is not None:
        _load(nn.ModuleList(blocks), Path(checkpoint))
    samples = load(data, data_root, "test")
    bits = data.encoding.input_bits
    model_config, weights = read_blocks(blocks, samples.shape, data.timesteps, name, bits)
    classes = model_config.layers[-1].out
    require(
        classes == len(samples.classes),
        f"the network has {classes} outputs, but {samples.name} has {len(samples.classes)} classes",
    )
    run = Run(
        model_config,
        data,
        NOTHING_TRAINED,
        classes,
        samples.shape,
        command=f"neucodex_lava.import_blocks(..., name={name!r})",
    )
    model = run.build()
    for block, read in zip(model.block_list(), weights):
        (link,) = block.links()
        with torch.no_grad():
            link.synapse.weight.copy_(read.weight.reshape(link.synapse.weight.shape))
            assert link.bias is not None
            link.bias.copy_(read.bias)
    model.set_gains({b.name: read.gain for b, read in zip(model.block_list(), weights)})
    to_integer_net(model)
    write_run(folder, run)
    nothing = torch.optim.SGD(model.parameters(), lr=NOTHING_TRAINED.qat_lr)
    save_checkpoint(folder, Position(epoch=run.total_epochs), model, nothing)
    return run


def _load(blocks: nn.ModuleList, path: Path) -> None:
    """A checkpoint into blocks, whether it was saved from them or from the network around them."""
    hint = "pass what torch.save(network.state_dict(), ...) wrote"
    if not path.is_file():
        raise FormatError(f"'{path}' is not a file", hint)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle.UnpicklingError for anything it refuses
        raise FormatError(f"'{path}' holds no plain weights", hint) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise FormatError(f"'{path}' holds no state dict", hint)
    state: dict[str, Tensor] = {_without_wrappers(str(k)): v for k, v in content.items()}
    own = blocks.state_dict()
    for key, value in state.items():
        if key.endswith(SIZED_BY_FIRST_RUN) and key in own and own[key].shape != value.shape:
            _resize(blocks, key, value)
    try:
        blocks.load_state_dict(state)
    except RuntimeError as error:
        told = [line.strip() for line in str(error).splitlines()]
        raise FormatError(
            f"'{path}' does not fit the blocks: {told[min(1, len(told) - 1)]}",
            "build the blocks as they were when it was saved",
        ) from error


def _without_wrappers(key: str) -> str:
    for prefix in WRAPPERS:
        key = key.removeprefix(prefix)
    return key


def _resize(blocks: nn.ModuleList, key: str, value: Tensor) -> None:
    """Give a norm's mean or a delay the size that SLAYER gives it when it first runs."""
    owner, _, attribute = key.rpartition(".")
    module: Any = blocks.get_submodule(owner)
    getattr(module, attribute).data = torch.zeros_like(value)
    if hasattr(module, "init"):
        module.init = True
    if hasattr(module, "num_features"):
        module.num_features = len(value)
