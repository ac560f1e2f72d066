"""An artificial network's run becomes that of a spiking one: from there on the usual commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from neucodex_lava.config import ConversionConfig, require
from neucodex_lava.conversion.transfer import balance
from neucodex_lava.data import load
from neucodex_lava.errors import ConfigError
from neucodex_lava.models.split import SplitModel
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.assessment import accuracies
from neucodex_lava.training.batches import ordered_batches
from neucodex_lava.training.checkpoints import CHECKPOINT_FILE, Position, load_into, save_checkpoint
from neucodex_lava.training.runs import Run, load_artificial, write_run

CALIBRATION_SAMPLES = 256
"""Training samples by which thresholds are balanced and readouts' sums measured."""


def convert(
    folder: Path,
    source: Path,
    conversion: ConversionConfig,
    *,
    timesteps: int,
    data_root: Path | None = None,
    command: str = "",
    progress: Progress = silent,
) -> tuple[Run, tuple[float, ...]]:
    """Write the run of a spiking network that answers as an artificial one does.

    ``qcfs``: thresholds are the activation's, weights and biases stay as they are. ``transfer``:
    weights stay as they are, thresholds are balanced layer by layer (`transfer.balance`). Then both are
    rounded to 8-bit weights, without further training.

    Args:
        folder: of the new run; made if missing.
        source: folder of the artificial network's run.
        conversion: how.
        timesteps: T_max.
        data_root: where datasets other than the embedded ones lie.
        command: recorded in the run.
        progress: called as steps finish.

    Returns:
        The run, as `export` takes its folder, and the accuracies of the spiking network on the test
        split, in integers: of each exit head, and of the whole network last. The run's
        `float_accuracy` is the artificial network's.

    Raises:
        ConfigError: a method that is not the activation's, a folder that is not empty, recordings.
        FormatError: `source` holds no finished artificial network.
        NetError: a layer that no gain fits.
        DataError: the dataset is missing or damaged.
    """
    old, artificial = load_artificial(source)
    _require_fitting(old, conversion, folder)
    run = replace(
        old,
        data=replace(old.data, timesteps=timesteps),
        conversion=conversion,
        init=str(source),
        init_epochs=len(old.history),
        command=command,
        history=(),
    )
    model = run.build().eval()
    load_into(model, artificial.state_dict(), source)
    test_set, train_set = (load(run.data, data_root, split) for split in ("test", "train"))
    samples = train_set.take(slice(0, CALIBRATION_SAMPLES))
    x, _ = next(ordered_batches(samples, run.data, CALIBRATION_SAMPLES))
    progress("convert", 0, 4)
    if conversion.method == "transfer":
        balance(model, artificial, x)
    progress("convert", 1, 4)
    model.quantise(x)
    to_integer_net(model)
    progress("convert", 2, 4)
    before = accuracies(artificial, old, test_set)
    progress("convert", 3, 4)
    found = accuracies(model, run, test_set)
    run = replace(run, float_accuracy=before[-1])
    # In this order: what has a run.json is whole.
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder, run, model)
    write_run(folder, run)
    progress("convert", 4, 4)
    return run, found


def _require_fitting(run: Run, conversion: ConversionConfig, folder: Path) -> None:
    fitting = {"qcfs": "qcfs", "transfer": "relu"}[conversion.method]
    require(
        run.train.activation == fitting,
        f"an artificial network of activation {run.train.activation} is not converted by"
        f" {conversion.method}",
        f"train one with --activation {fitting}, or choose the other --method",
    )
    require(
        not run.data.events,
        f"'{run.data.dataset}' holds recordings, of which an artificial network sees the mean only",
        "train a spiking network on them",
    )
    if folder.exists() and any(file.name != CHECKPOINT_FILE for file in folder.iterdir()):
        raise ConfigError(f"'{folder}' is not empty", "choose another folder with --out")


def _save(folder: Path, run: Run, model: SplitModel) -> None:
    """A checkpoint as of a finished run; nothing will be trained on."""
    nothing = torch.optim.SGD(model.parameters(), lr=run.train.lr)
    save_checkpoint(folder, Position(epoch=run.total_epochs), model, nothing)
