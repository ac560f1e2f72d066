"""The main job, end to end: train, fine-tune, export, verify, simulate, bridge, exit, report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from neucodex_lava.config import RESNETS, BottleneckConfig, DataConfig, TrainConfig, require
from neucodex_lava.errors import SimulationError
from neucodex_lava.evaluation.calibration.bundles import calibrate_bundles
from neucodex_lava.evaluation.policies import (
    ALL,
    OWN,
    Numbers,
    exit_name,
    parts_of,
    require_known,
)
from neucodex_lava.evaluation.sweep import evaluate_bundles
from neucodex_lava.exits.calibration import KINDS
from neucodex_lava.export import export_run
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Results
from neucodex_lava.training.stages import finetune, train_base
from neucodex_lava.verify import verify

DATA = DataConfig(dataset="digits", timesteps=4)
BOTTLENECKS = (
    BottleneckConfig(split=1, channels=8, stride=2),
    BottleneckConfig(split=2, channels=8, stride=2),
    BottleneckConfig(split=3, channels=8, stride=1),
)

THREADS = 2
"""More threads than that cost such small convolutions more than they give."""


def base_training(seed: int) -> TrainConfig:
    """How the demo trains its base network."""
    return TrainConfig(epochs=60, qat_epochs=10, seed=seed, threads=THREADS)


def split_training(seed: int) -> TrainConfig:
    """How the demo fine-tunes each bottleneck."""
    return TrainConfig(epochs=20, qat_epochs=6, lr=2e-3, seed=seed, threads=THREADS)


def demo(
    out: Path,
    *,
    confirm: int = 100,
    policies: Sequence[str] = ("confidence",),
    alpha: float = 0.9,
    seed: int = 0,
    command: str = "",
    say: Callable[[str], None] = lambda text: None,
    progress: Progress = silent,
) -> Results:
    """Run the main job on the embedded digits.

    Args:
        out: folder for runs, bundles and report; what is there already is taken up again.
        confirm: test digits that also run for real.
        policies: exit policies; those that need it are calibrated on half of the test digits, which are
            then left out of the evaluation.
        alpha: of the confidence policy: the confidence to reach, in (0, 1].
        seed: of the training.
        command: recorded.
        say: called with one line per stage.
        progress: called as work goes on.

    Raises:
        NeucodexError: whatever stands in the way, with the way out.
        SimulationError: a bundle that does not verify.
    """
    require(0 < alpha <= 1, f"alpha {alpha} is outside (0, 1]", "0.9 is the usual confidence")
    require(confirm >= 0, f"--confirm {confirm} is negative")
    require_known(policies)
    model = RESNETS["resnet-small"]
    runs, exports = out / "runs", out / "netx_exports" / f"{model.architecture}-{DATA.dataset}"
    say("1/5 train the base network on 1,437 scanned digits")
    train_base(runs / "base", model, DATA, base_training(seed), command=command, progress=progress)
    say("2/5 insert a bottleneck at each split point and fine-tune")
    for bottleneck in BOTTLENECKS:
        finetune(
            runs / f"sp{bottleneck.split}",
            runs / "base",
            bottleneck,
            split_training(seed),
            command=command,
            progress=progress,
        )
    say("3/5 export and verify: SLAYER = executor = Lava fused = Lava reference, spike for spike")
    bundles = []
    for name in ("base", *(f"sp{b.split}" for b in BOTTLENECKS)):
        bundle = export_run(runs / name, exports / name)
        report = verify(bundle, run=runs / name, progress=progress)
        if not report.exact:
            raise SimulationError(
                f"bundle '{bundle.path}' differs: {report.first_difference}", "please report this"
            )
        say(f"    {name}: exact on {', '.join(report.backends)}")
        bundles.append(bundle)
    parts = {part for policy in policies for part in parts_of(policy)}
    kinds = [kind for kind in KINDS if exit_name(kind) in parts]
    if kinds or ALL in policies:
        say("    calibrate the exit policies on half of the test digits")
        kinds = [] if ALL in policies else kinds
        found = calibrate_bundles(exports, kinds=kinds, command=command, progress=progress)
        bundles = [one.bundle for one in found]
    say(f"4/5 evaluate: all test digits in the executor, {confirm} in Lava and over gRPC")
    results = evaluate_bundles(
        bundles[0],
        bundles[1:],
        confirm=confirm,
        policies=policies,
        numbers=Numbers(alpha=alpha) if {"confidence", ALL} & parts else OWN,
        out=out / "report",
        command=command,
        progress=progress,
    )
    say("5/5 report")
    return results
