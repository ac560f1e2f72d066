"""A run: one folder with its configuration, its log and a checkpoint it resumes from exactly.

    run.json        what is trained (architecture, data, training, bottleneck), and the history
    checkpoint.pt   weights, optimiser, epoch; read with ``weights_only``

Every file is written under a temporary name and renamed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from neucodex_lava.config import (
    BottleneckConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    from_dict,
)
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.files import replacing
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.split import SplitModel

RUN_VERSION = 1
RUN_FILE, CHECKPOINT_FILE = "run.json", "checkpoint.pt"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch found: phase, mean loss, accuracies (0..1), seconds."""

    epoch: int
    phase: str
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """What is trained and how far it is.

    Attributes:
        model, data, train: configurations.
        classes: outputs of the network.
        input_shape: (C, H, W) of an image.
        bottleneck: of stage 2, None for a base.
        base: folder of the base's run that stage 2 started from.
        base_net: fingerprint of the base's integer network, by which its bundle is known.
        command: the command line that made it.
        history: one record per finished epoch.
    """

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    classes: int
    input_shape: tuple[int, int, int]
    bottleneck: BottleneckConfig | None = None
    base: str | None = None
    base_net: str | None = None
    command: str = ""
    version: int = RUN_VERSION
    history: tuple[EpochRecord, ...] = field(default=())

    @property
    def total_epochs(self) -> int:
        """Float and quantisation-aware epochs together."""
        return self.train.epochs + self.train.qat_epochs

    def same_work(self, other: Run) -> bool:
        """Whether the other run trains the same thing, whatever its command line and progress.

        Wherever the base's run lies, the same base network is the same start.
        """
        return self._work() == other._work()

    def _work(self) -> Run:
        return replace(self, history=(), command="", base=None)

    def build(self) -> SplitModel:
        """The model with fresh weights (of this run's shapes)."""
        bits = self.data.encoding.input_bits
        model = build_base(self.model, self.input_shape, self.classes, self.data.timesteps, bits)
        return insert_bottleneck(model, self.bottleneck) if self.bottleneck else model


def write_run(folder: Path, run: Run) -> None:
    """Write ``run.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RUN_FILE) as file:
        file.write((json.dumps(asdict(run), indent=2) + "\n").encode())


def read_run(folder: Path) -> Run:
    """Read ``run.json``.

    Raises:
        FormatError: it is missing or not a run's.
    """
    path = folder / RUN_FILE
    hint = "pass a folder that train or finetune wrote"
    if not path.is_file():
        raise FormatError(f"'{folder}' is not a run: it has no {RUN_FILE}", hint)
    try:
        raw = json.loads(path.read_text())
        if not isinstance(raw, dict) or raw.get("version") != RUN_VERSION:
            raise FormatError(f"'{path}' is not of version {RUN_VERSION}", hint)
        return from_dict(Run, raw)
    except (ValueError, ConfigError) as error:
        raise FormatError(f"'{path}' is not a run: {error}", hint) from error


def save_checkpoint(folder: Path, model: SplitModel, optimiser: dict[str, Any], epoch: int) -> None:
    """Write ``checkpoint.pt``: everything a resumed run needs after `epoch` finished epochs."""
    content = {
        "epoch": epoch,
        "gains": model.gains,
        "model": model.state_dict(),
        "optimiser": optimiser,
    }
    with replacing(folder / CHECKPOINT_FILE) as file:
        torch.save(content, file)


def load_checkpoint(folder: Path, model: SplitModel) -> tuple[int, dict[str, Any]]:
    """Load weights and phase into `model`.

    Returns:
        Finished epochs and the optimiser's state.

    Raises:
        FormatError: the file is missing, damaged, or of another network.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise FormatError(f"'{folder}' has no {CHECKPOINT_FILE}", "train it first")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(content["model"])
        if any(content["gains"].values()):
            model.set_gains(content["gains"])
        return int(content["epoch"]), content["optimiser"]
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(
            f"'{path}' cannot be loaded into this network: {first_line}", "train it again"
        ) from error
    except Exception as error:  # torch raises pickle.UnpicklingError for anything it refuses
        raise FormatError(f"'{path}' is not a checkpoint", "train it again") from error


def load_model(folder: Path) -> tuple[Run, SplitModel]:
    """A finished run's model, in its integer phase and in evaluation mode.

    Raises:
        FormatError: not a run, or not finished.
    """
    run = read_run(folder)
    model = run.build()
    epochs, _ = load_checkpoint(folder, model)
    if epochs < run.total_epochs or not model.integer:
        raise FormatError(
            f"run '{folder}' has done {epochs} of {run.total_epochs} epochs",
            "run the same train or finetune command again: it resumes",
        )
    return run, model.eval()
