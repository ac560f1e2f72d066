"""Does pretraining, at T = 1 or as an ANN, reach the same accuracy sooner than training at T_max alone?

    python benchmarks/pretraining.py digits
    NEUCODEX_DATA=... python benchmarks/pretraining.py cifar10

Float phases only. Every way gets the same number of epochs; two thirds of them are the pretraining, and
each phase has its own warm-up and cosine, the second up to half of the learning rate.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from neucodex_lava.config import (
    AugmentConfig,
    DataConfig,
    EncodingConfig,
    TrainConfig,
    architecture,
)
from neucodex_lava.data import SampleSet, load
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.split import SplitModel
from neucodex_lava.training.assessment import accuracy, calibrate_batch_norm
from neucodex_lava.training.batches import count_batches, train_batches
from neucodex_lava.training.losses import every_step_loss
from neucodex_lava.training.optimisation import learning_rate, make_optimiser, set_learning_rate
from neucodex_lava.training.prefetch import prefetched
from neucodex_lava.training.runs import Run

SETUPS = {
    "digits": (architecture("resnet-small"), DataConfig(timesteps=4), TrainConfig(), 24),
    "cifar10": (
        architecture("resnet18", 0.125),
        DataConfig("cifar10", 2, EncodingConfig("direct", 4), train_limit=5_000),
        TrainConfig(batch_size=64, augmentation=AugmentConfig(cutout=8)),
        6,
    ),
}


def train(
    model: SplitModel, run: Run, samples: SampleSet, *, ann: bool = False
) -> tuple[SplitModel, float]:
    """The model after the run's float epochs, and the processor seconds they took."""
    config, started = run.train, time.process_time()
    model.set_artificial(ann)
    steps, optimiser = count_batches(samples, config.batch_size), make_optimiser(model, run.train)
    model.train()
    for epoch in range(config.epochs):
        for step, (x, y) in enumerate(prefetched(train_batches(samples, run.data, config, epoch))):
            set_learning_rate(optimiser, learning_rate(config, epoch + step / steps))
            optimiser.zero_grad(set_to_none=True)
            every_step_loss(model(x), y, 0.0).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
    return model, time.process_time() - started


def main() -> None:
    """Print one line per way and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=SETUPS)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    config, data, recipe, epochs = SETUPS[arguments.dataset]
    samples, test = load(data), load(data, split="test")
    torch.set_num_threads(1)
    for seed in range(arguments.seeds):
        for way in ("T_max alone", "T = 1 first", "ANN first"):
            torch.manual_seed(seed)
            before = 0 if way == "T_max alone" else epochs * 2 // 3
            short = replace(data, timesteps=1)
            first = Run(config, short, replace(recipe, epochs=before, seed=seed), 10, samples.shape)
            last = replace(first, data=data, train=replace(first.train, epochs=epochs - before))
            model, spent = train(first.build(), first, samples, ann=way == "ANN first")
            final = build_base(config, samples.shape, 10, data.timesteps, data.encoding.input_bits)
            final.load_state_dict(model.state_dict())
            if before:
                last = replace(last, train=replace(last.train, lr=recipe.lr / 2))
            final, more = train(final, last, samples)
            calibrate_batch_norm(final, last, samples)
            found = accuracy(final, last, test)
            print(f"seed {seed}  {way:12}  {found:7.2%}  {spent + more:6.0f} s", flush=True)


if __name__ == "__main__":
    main()
