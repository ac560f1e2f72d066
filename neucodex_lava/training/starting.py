"""Starting a run from another one's weights: which may be used, and what of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from neucodex_lava.config import DataConfig, ModelConfig, OwnConfig, require
from neucodex_lava.models.exit_heads import with_new_heads
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.checkpoints import (
    CHECKPOINT_FILE,
    position_of,
    read_checkpoint,
    weights_of,
)
from neucodex_lava.training.runs import Run, read_run


def start_of(run: Run, folder: Path) -> tuple[Run, dict[str, Tensor] | None]:
    """The weights of the run that this one starts from, if there is one and nothing is trained yet.

    Args:
        run: this one.
        folder: of this one.

    Returns:
        The run, with the epochs that the other one had done; and the other one's weights, or None.

    Raises:
        ConfigError: the other one is of another network, or as `require_unseen`.
        FormatError: it is no run.
    """
    if run.init is None or (folder / CHECKPOINT_FILE).is_file():
        return run, None
    source = Path(run.init)
    other = read_run(source)
    for what, theirs, ours in (
        ("the architecture", _without_heads(other.model), _without_heads(run.model)),
        ("classes", other.classes, run.classes),
        ("an input of", other.input_shape, run.input_shape),
        ("the bottleneck", other.bottleneck, run.bottleneck),
    ):
        require(
            theirs == ours,
            f"cannot start from run '{source}': it has {what} {theirs}, this run has {ours}",
            "choose a run of the same network; T_max, encoding and recipe may differ",
        )
    require_unseen(run.data, other.data, source)
    content = read_checkpoint(source)
    return replace(run, init_epochs=position_of(content).epoch), weights_of(content)


def fitting(weights: dict[str, Tensor], model: SplitModel) -> dict[str, Tensor]:
    """Another run's weights without what only that one has (exit heads, steps of QCFS), and with the
    new exit heads of this one as they are.
    """
    own = model.state_dict()
    kept = {
        name: value
        for name, value in weights.items()
        if name in own or not (name.startswith("blocks.exit_") or ".activation." in name)
    }
    return with_new_heads(kept, model)


def require_unseen(data: DataConfig, theirs: DataConfig, source: Path) -> None:
    """What this run holds out or tests on is nothing that the weights of the other were trained on.

    Args:
        data: of this run.
        theirs: of the run whose weights it starts from.
        source: folder of that one.

    Raises:
        ConfigError: names the option in which they differ.
    """
    chosen, aim = ("classes", "split_seed"), "test"
    if data.holdout:
        chosen, aim = ("dataset", "train_limit", "holdout", *chosen), "calibrate"
    elif data.dataset != theirs.dataset:
        return
    for name in chosen:
        found, wanted = getattr(theirs, name), getattr(data, name)
        option = f"--{name.replace('_', '-')}"
        require(
            found == wanted,
            f"cannot start from run '{source}': its {option} is {_shown(found)}, this run's is"
            f" {_shown(wanted)}: this run would {aim} on samples that those weights have seen",
            f"choose a run with the same {option}"
            + (", or leave --holdout out" if name == "holdout" else ""),
        )


def _shown(value: object) -> str:
    """A value as it is written on the command line."""
    return " ".join(map(str, value)) or "the default" if isinstance(value, tuple) else str(value)


def _without_heads(model: ModelConfig) -> ModelConfig:
    """Exit heads may be new: they then start from random weights."""
    return model if isinstance(model, OwnConfig) else replace(model, exit_heads=())
