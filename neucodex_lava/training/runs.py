"""A run: one folder with its configuration, its log and a checkpoint it resumes from exactly.

    run.json        what is trained (architecture, data, training, bottleneck), and the history
    checkpoint.pt   weights, optimiser, how far it is (`neucodex_lava.training.checkpoints`)

Every file is written under a temporary name and renamed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from neucodex_lava.config import (
    BottleneckConfig,
    ConversionConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    from_dict,
)
from neucodex_lava.errors import ConfigError, FormatError
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.bottleneck import insert_bottleneck
from neucodex_lava.models.converted import QCFS, Converted
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.checkpoints import load_weights, read_checkpoint, writing

RUN_VERSION = 1
RUN_FILE = "run.json"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch found: phase, mean loss, accuracies (0..1), seconds.

    Accuracies are the whole network's; `exit_accuracy` is each exit head's on the test samples.
    """

    epoch: int
    phase: str
    loss: float
    train_accuracy: float
    test_accuracy: float
    seconds: float
    exit_accuracy: tuple[float, ...] = ()


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
        init: folder of the run whose weights this one started from.
        init_epochs: how many epochs that one had done.
        command: the command line that made it.
        float_accuracy: of the float network before it was quantised, on the whole test split (0..1):
            beside the last record's it says what quantisation costs.
        history: one record per finished epoch.
        conversion: how the artificial network `init` became this one; None where none did.
    """

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    classes: int
    input_shape: tuple[int, int, int]
    bottleneck: BottleneckConfig | None = None
    base: str | None = None
    base_net: str | None = None
    init: str | None = None
    init_epochs: int = 0
    command: str = ""
    version: int = RUN_VERSION
    float_accuracy: float | None = None
    history: tuple[EpochRecord, ...] = field(default=())
    conversion: ConversionConfig | None = None

    @property
    def total_epochs(self) -> int:
        """Epochs of all phases together."""
        return self.train.ann_epochs + self.train.epochs + self.train.qat_epochs

    def same_work(self, other: Run) -> bool:
        """Whether the other run trains the same thing, whatever its command line and progress.

        Wherever the base's run lies, the same base network is the same start.
        """
        return self._work() == other._work()

    def _work(self) -> Run:
        return replace(self, history=(), command="", base=None, init_epochs=0, float_accuracy=None)

    def build(self) -> SplitModel:
        """The model with fresh weights (of this run's shapes)."""
        bits = self.data.encoding.input_bits
        steps = self.data.timesteps
        model = build_base(self.model, self.input_shape, self.classes, steps, bits)
        for block in model.block_list():
            if self.train.activation == "qcfs" and not block.readout:
                block.activation = QCFS(self.train.levels)
            if self.conversion and not block.readout:
                soft = self.conversion.method == "qcfs"
                decay = 0 if soft else self.conversion.voltage_decay
                block.convert(Converted(decay, soft, steps))
        if self.train.norm == "tebn":
            for link in (link for block in model.block_list() for link in block.links()):
                link.scale_steps(steps)
        return insert_bottleneck(model, self.bottleneck) if self.bottleneck else model


def write_run(folder: Path, run: Run) -> None:
    """Write ``run.json``.

    Raises:
        ConfigError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder / RUN_FILE) as file:
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


def load_model(folder: Path) -> tuple[Run, SplitModel]:
    """A finished run's model, in its integer phase and in evaluation mode.

    Raises:
        FormatError: not a run, not finished, or an artificial network.
    """
    run, model = _load_finished(folder)
    if not model.integer:
        raise FormatError(
            f"run '{folder}' holds an artificial network, without spikes",
            f"neucodex convert {folder} makes a spiking network of it",
        )
    return run, model


def load_artificial(folder: Path) -> tuple[Run, SplitModel]:
    """A finished run's artificial network, in its artificial phase and in evaluation mode.

    Raises:
        FormatError: not a run, not finished, or of a spiking network.
    """
    run, model = _load_finished(folder)
    if model.integer:
        raise FormatError(
            f"run '{folder}' holds a spiking network, not an artificial one",
            "train one with --ann-epochs N --epochs 0 --qat-epochs 0",
        )
    model.set_artificial(True)
    return run, model


def _load_finished(folder: Path) -> tuple[Run, SplitModel]:
    run = read_run(folder)
    model = run.build()
    content = read_checkpoint(folder)
    load_weights(folder, content, model)
    epochs = int(content["epoch"])
    artificial = run.train.artificial and run.conversion is None
    if epochs < run.total_epochs or model.integer == artificial:
        raise FormatError(
            f"run '{folder}' has done {epochs} of {run.total_epochs} epochs",
            "run the same train or finetune command again: it resumes",
        )
    return run, model.eval()
