"""The training loop: epochs as an artificial network, spiking float epochs, then epochs on the exact
integers (quantisation-aware). Any of the first two may be none; a network to be converted has the
first only.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from neucodex_lava.config import DeviceName, require
from neucodex_lava.data import SampleSet
from neucodex_lava.errors import NetError
from neucodex_lava.models.split import SplitModel
from neucodex_lava.progress import Progress, silent
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.assessment import accuracies, accuracy, calibrate_batch_norm, monitored
from neucodex_lava.training.averaging import WeightAverage
from neucodex_lava.training.batches import count_batches, ordered_batches, train_batches
from neucodex_lava.training.checkpoints import (
    CHECKPOINT_FILE,
    Position,
    Totals,
    resume,
    save_checkpoint,
)
from neucodex_lava.training.distillation import Distillation
from neucodex_lava.training.distributed import World, device_of
from neucodex_lava.training.forward import Forward
from neucodex_lava.training.objective import ArtificialObjective, Objective, hard
from neucodex_lava.training.optimisation import learning_rate, make_optimiser, set_learning_rate
from neucodex_lava.training.prefetch import prefetched
from neucodex_lava.training.runs import EpochRecord, Run, write_run


def silent_line(line: str) -> None:
    """Nothing told."""


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; what it computes does not depend on it.

    Attributes:
        device: where it runs; auto: on a GPU if there is one.
        save_minutes: a checkpoint is written at least this often, within an epoch too (0: only after
            each epoch).
        say: called with one line after every epoch.
    """

    device: DeviceName = "auto"
    save_minutes: float = 10.0
    say: Callable[[str], None] = silent_line

    def __post_init__(self) -> None:
        require(self.save_minutes >= 0, f"save_minutes {self.save_minutes} is negative")


HERE = Execution()
"""On what there is, telling nobody."""


def fit(
    run: Run,
    folder: Path,
    model: SplitModel,
    train_set: SampleSet,
    test_set: SampleSet,
    progress: Progress = silent,
    execution: Execution = HERE,
    base: SplitModel | None = None,
) -> Run:
    """Train until the run's last epoch; resumes from the folder's checkpoint if there is one.

    Args:
        run: what to train; its history says how far it is.
        folder: of the run.
        model: with its initial weights; trained in place.
        train_set, test_set: samples. The test set is only looked at, nothing is chosen by it.
        progress: called after every batch.
        execution: where it runs, and who is told.
        base: the base network, for a run that learns from it.

    Returns:
        The run with its whole history.

    Raises:
        NetError: the loss is no number any more, or the trained integers break a hardware limit.
        FormatError: the checkpoint does not fit.
        ConfigError: a checkpoint cannot be written.
    """
    config = run.train
    if config.threads:
        torch.set_num_threads(config.threads)
    world, device = World.current(), device_of(execution.device)
    say = execution.say if world.first else silent_line
    progress = progress if world.first else silent
    require(
        config.batch_size % world.size == 0,
        f"batch size {config.batch_size} cannot be shared equally by {world.size} processes",
        "choose a multiple of the number of processes",
    )
    require(
        len(train_set) >= world.size,
        f"{len(train_set)} training samples cannot be shared by {world.size} processes",
        "use fewer processes",
    )
    model.to(device)
    for network in (model, base):
        if network:
            network.set_precision(getattr(torch, config.precision))
    forward = world.share(
        Forward(model, potentials=config.loss.rcs_weight > 0, recompute=config.checkpoint_blocks)
    )
    distillation = None
    if base and run.bottleneck and config.distillation.wanted:
        distillation = Distillation(config.distillation, base.to(device), run.bottleneck.split)
    objective = Objective(config, model, distillation)
    artificial = ArtificialObjective(config, model)
    steps = count_batches(train_set, config.batch_size)
    title = f"train SP{run.bottleneck.split} bottleneck" if run.bottleneck else "train base"

    at, averaged = Position(), None
    optimiser = make_optimiser(model, config)
    if (folder / CHECKPOINT_FILE).is_file():
        at, averaged = resume(folder, model, optimiser)
    average = WeightAverage(model, config.ema, averaged) if config.ema else None
    run = replace(run, history=run.history[: at.epoch])

    while at.epoch < run.total_epochs:
        started = time.perf_counter() - at.totals.seconds
        phase = config.phase(at.epoch)
        for network in (model, average.model if average else model):
            network.set_artificial(phase == "ann")
        if phase == "float" and at.epoch == config.ann_epochs > 0 and at.step == 0:
            if average:
                model.load_state_dict(average.model.state_dict())
            optimiser = make_optimiser(model, config)
            average = WeightAverage(model, config.ema) if config.ema else None
        if phase == "integer" and not model.integer:
            if average:
                model.load_state_dict(average.model.state_dict())
            calibrate_batch_norm(model, run, train_set)
            if config.epochs:
                run = replace(run, float_accuracy=accuracy(model, run, test_set))
                if world.first:
                    write_run(folder, run)
                say(f"{title}: float network, test {run.float_accuracy:.2%}")
            first, _ = next(ordered_batches(train_set, run.data, config.batch_size))
            model.quantise(first.to(device))
            optimiser = make_optimiser(model, config)
            average = WeightAverage(model, config.ema) if config.ema else None

        model.train()
        saved_at = time.perf_counter()
        rest = islice(train_batches(train_set, run.data, config, at.epoch, world), at.step, None)
        with contextlib.closing(prefetched(rest)) as batches:
            for x, targets in batches:
                set_learning_rate(optimiser, learning_rate(config, at.epoch + at.step / steps))
                x, targets = x.to(device), targets.to(device)
                sent = forward(x)
                if phase == "ann":
                    loss = artificial(sent, targets)
                else:
                    loss = objective(x, sent, targets)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
                _require_finite(loss, norm, at, steps, folder)
                optimiser.step()
                if average:
                    average.update(model)

                at.step += 1
                _add_up(at.totals, loss.detach(), sent.outputs[-1].detach(), targets, world)
                progress(title, at.epoch * steps + at.step, run.total_epochs * steps)
                due = 0 < 60 * execution.save_minutes < time.perf_counter() - saved_at
                if due and world.first:
                    at.totals.seconds = time.perf_counter() - started
                    save_checkpoint(folder, at, model, optimiser, average)
                    saved_at = time.perf_counter()

        totals, judged = at.totals, average.model if average else model
        world.same_buffers(judged)
        at = Position(at.epoch + 1)
        found = accuracies(judged, run, monitored(test_set, at.epoch == run.total_epochs))
        record = EpochRecord(
            epoch=at.epoch,
            phase=phase,
            loss=totals.loss / totals.seen,
            train_accuracy=totals.correct / totals.seen,
            test_accuracy=found[-1],
            seconds=time.perf_counter() - started,
            exit_accuracy=found[:-1],
        )
        run = replace(run, history=(*run.history, record))
        if world.first:
            # In this order: a checkpoint is never ahead of the history, which is cut to it on resuming.
            write_run(folder, run)
            save_checkpoint(folder, at, model, optimiser, average)
        say(f"{title}: {_line(record, run.total_epochs)}")

    if average:
        model.load_state_dict(average.model.state_dict())
    if not config.artificial:
        to_integer_net(model)  # raises now, not at export, if a limit is broken
    return run


def _require_finite(loss: Tensor, norm: Tensor, at: Position, steps: int, folder: Path) -> None:
    if torch.isfinite(loss) and torch.isfinite(norm):
        return
    what = "loss" if not torch.isfinite(loss) else "gradient"
    kept = (
        f"'{folder / CHECKPOINT_FILE}' is kept as it was" if _kept(folder) else "nothing is saved"
    )
    raise NetError(
        f"the {what} is no number any more in epoch {at.epoch + 1}, step {at.step + 1} of {steps};"
        f" {kept}",
        f"train into another --out with a smaller --lr or --clip, from --init {folder}"
        if _kept(folder)
        else "choose a smaller --lr or --clip",
    )


def _kept(folder: Path) -> bool:
    return (folder / CHECKPOINT_FILE).is_file()


def _add_up(totals: Totals, loss: Tensor, last: Tensor, targets: Tensor, world: World) -> None:
    labels = hard(targets)
    correct = int((last.argmax(1) == labels).sum())
    sums = world.sum(float(loss) * len(labels), correct, len(labels))
    totals.loss += sums[0]
    totals.correct += int(sums[1])
    totals.seen += int(sums[2])


def _line(record: EpochRecord, epochs: int) -> str:
    heads = "".join(f"{share:.2%}, " for share in record.exit_accuracy)
    exits = f" (exit heads {heads[:-2]})" if heads else ""
    return (
        f"epoch {record.epoch}/{epochs} ({record.phase}): loss {record.loss:.4f}, train"
        f" {record.train_accuracy:.2%}, test {record.test_accuracy:.2%}{exits},"
        f" {record.seconds:.0f} s"
    )
