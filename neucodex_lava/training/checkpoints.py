"""checkpoint.pt: everything a run resumes from, exactly; read with ``weights_only``."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
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
    if not _is_checkpoint(content):
        raise FormatError(f"'{path}' is not a checkpoint", "train it again")
    return content


def _is_checkpoint(content: Any) -> bool:
    """Whether all that is read later is there, and of the type it should be."""
    if not isinstance(content, dict):
        return False
    gains, average = content.get("gains"), content.get("average")
    totals: Any = content.get("totals", {})
    return (
        all(isinstance(content.get(name), dict) for name in ("model", "optimiser"))
        and all(_is_count(content.get(name, 0)) for name in ("epoch", "step"))
        and "epoch" in content
        and isinstance(gains, dict)
        and all(isinstance(g, (int, float)) and 0 <= g < math.inf for g in gains.values())
        and isinstance(totals, dict)
        and set(totals) <= {f.name for f in fields(Totals)}
        and all(isinstance(value, (int, float)) for value in totals.values())
        and (
            average is None
            or (
                isinstance(average, dict)
                and _is_count(average.get("updates"))
                and isinstance(average.get("model"), dict)
            )
        )
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
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
    gains = content["gains"]
    if any(gains.values()):
        if gains.keys() != model.gains.keys():
            raise FormatError(
                f"a checkpoint has gains of {len(gains)} nodes, this network has others",
                "it is of another architecture: choose another folder, or train it again",
            )
        model.set_gains(gains)
