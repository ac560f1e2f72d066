"""checkpoint.pt: everything a run resumes from, exactly; read with ``weights_only``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.files import replacing
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.averaging import WeightAverage

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class Totals:
    """What an epoch has summed up so far."""

    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0


@dataclass
class Position:
    """How far a run is: finished epochs, and steps of the epoch that is under way."""

    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file of a run that takes the place of `path` once it is whole.

    Raises:
        ConfigError: it cannot be written; what was there before is still there.
    """
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise ConfigError(
            f"'{path}' cannot be written: {error.strerror or error}",
            "nothing before it is lost: make room, then the same command goes on from there",
        ) from error


def save_checkpoint(
    folder: Path,
    position: Position,
    model: SplitModel,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None = None,
) -> None:
    """Write ``checkpoint.pt``; one that fails leaves the old one as it was.

    Raises:
        ConfigError: it cannot be written, for one because the disk is full.
    """
    content = {
        "epoch": position.epoch,
        "step": position.step,
        "totals": vars(position.totals),
        "gains": model.gains,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average.state() if average else None,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with writing(folder / CHECKPOINT_FILE) as file:
        file.write(buffer.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, or a version before it.

    Raises:
        FormatError: the file is missing or damaged.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise FormatError(f"'{folder}' has no {CHECKPOINT_FILE}", "train it first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle.UnpicklingError for anything it refuses
        raise FormatError(f"'{path}' is not a checkpoint", "train it again") from error
    if (
        not isinstance(content, dict)
        or not {"epoch", "gains", "model", "optimiser"} <= content.keys()
    ):
        raise FormatError(f"'{path}' is not a checkpoint", "train it again")
    return content


def position_of(content: dict[str, Any]) -> Position:
    """How far the run was."""
    totals = Totals(**content.get("totals", {}))
    return Position(int(content["epoch"]), int(content.get("step", 0)), totals)


def resume(
    folder: Path, model: SplitModel, optimiser: torch.optim.Optimizer
) -> tuple[Position, dict[str, Any] | None]:
    """Load the last step's weights, the phase and the optimiser.

    Returns:
        How far the run was, and the state of its average (None without one).

    Raises:
        FormatError: the file is missing, damaged, or of another network.
    """
    content = read_checkpoint(folder)
    load_into(model, content["model"], folder)
    set_phase(model, content)
    try:
        optimiser.load_state_dict(content["optimiser"])
        return position_of(content), content.get("average")
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"'{folder / CHECKPOINT_FILE}' is no checkpoint of this run: {error}", "train it again"
        ) from error


def load_weights(folder: Path, content: dict[str, Any], model: SplitModel) -> None:
    """The weights that are judged and quantised, and the phase.

    Raises:
        FormatError: they are of another network.
    """
    load_into(model, weights_of(content), folder)
    set_phase(model, content)


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """The averaged weights, or the last step's where none were averaged."""
    average = content.get("average")
    return average["model"] if average else content["model"]


def load_into(model: SplitModel, weights: dict[str, Tensor], folder: Path) -> None:
    """Weights of the checkpoint in `folder` into a model.

    Raises:
        FormatError: they are of another network.
    """
    try:
        model.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        told = [line.strip() for line in str(error).splitlines()]
        reason = told[1] if len(told) > 1 else (told or [type(error).__name__])[0]
        raise FormatError(
            f"'{folder / CHECKPOINT_FILE}' cannot be loaded into this network: {reason}",
            "it is of another architecture: choose another folder, or train it again",
        ) from error


def set_phase(model: SplitModel, content: dict[str, Any]) -> None:
    """The integer phase, if the checkpoint was in it."""
    if any(content["gains"].values()):
        model.set_gains(content["gains"])
