"""train, finetune, convert, export."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command, DataRoot, command_line
from neucodex_lava.cli.data_options import DataOptions
from neucodex_lava.config import (
    ActivationName,
    AugmentConfig,
    BottleneckConfig,
    ConversionConfig,
    DeviceName,
    DistillConfig,
    LossConfig,
    MethodName,
    NormName,
    OptimizerName,
    PrecisionName,
    TrainConfig,
    architecture,
    parse_split,
    require,
)
from neucodex_lava.config.conversion import LEAK
from neucodex_lava.progress import Progress


def say(line: str) -> None:
    """A line on stderr; above the progress bars, which take stderr's place while they are shown."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@dataclass(frozen=True, kw_only=True)
class Training(Command):
    """Options of both training stages."""

    epochs: int
    """Float epochs."""
    qat_epochs: int
    """Quantisation-aware epochs after them, on the exact integers."""
    lr: float
    """Peak learning rate of the float epochs."""
    qat_lr: float = TrainConfig.qat_lr
    """Peak learning rate of the quantisation-aware epochs."""
    batch_size: int = TrainConfig.batch_size
    """Samples per step."""
    optimizer: OptimizerName = TrainConfig.optimizer
    """adamw, or sgd with Nesterov momentum 0.9 (which wants an lr of about 0.1)."""
    weight_decay: float = TrainConfig.weight_decay
    """Of the optimizer; norms and biases do not decay."""
    warmup: float = TrainConfig.warmup
    """Epochs of linear warm-up, before a cosine to 0."""
    clip: float = TrainConfig.clip
    """Largest norm of a step's gradient; 0 for any."""
    ema: float = TrainConfig.ema
    """Decay per step of the averaged weights that are evaluated and exported, e.g. 0.999; 0: none."""
    label_smoothing: float = TrainConfig.label_smoothing
    """Of the cross-entropy."""
    no_augment: bool = False
    """Train on the samples as they are: not turned, shifted, mirrored, recoloured or thinned."""
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    precision: PrecisionName = TrainConfig.precision
    """Of convolutions, spikes and gradients; sums on integers are exact in both."""
    checkpoint_blocks: bool = False
    """Keep the spikes between blocks only and run blocks twice: half the memory, 1.6 times the time."""
    seed: int = TrainConfig.seed
    """Of initial weights, order and augmentation."""
    threads: int = TrainConfig.threads
    """CPU threads; 0 lets torch choose."""
    device: DeviceName = "auto"
    """Where it runs; auto: on a GPU if there is one."""
    save_minutes: float = 10.0
    """A checkpoint is written at least this often, within an epoch too; 0: only after each epoch."""
    init: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Start from the weights of this run of the same network that left the same samples out; T_max and
    recipe may differ."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the run; a run that is there already is resumed."""

    def train_config(self) -> TrainConfig:
        """The options as a configuration."""
        shared = {
            f.name: getattr(self, f.name) for f in fields(TrainConfig) if hasattr(self, f.name)
        }
        return TrainConfig(augment=not self.no_augment, **shared)

    def how(self, progress: Progress) -> dict[str, Any]:
        """Arguments that both stages take and that change nothing about the result."""
        from neucodex_lava.training.loop import Execution

        return {
            "init": self.init,
            "data_root": self.data_root,
            "command": command_line(),
            "progress": progress,
            "execution": Execution(self.device, self.save_minutes, say),
        }

    def finish(self, folder: Path, run: Any) -> int:
        """Print how the run ended."""
        from neucodex_lava.training.distributed import is_first_process

        if not is_first_process():
            return 0
        last = run.history[-1]
        result = {
            "run": str(folder.resolve()),
            "epochs": len(run.history),
            "loss": last.loss,
            "train_accuracy": last.train_accuracy,
            "test_accuracy": last.test_accuracy,
            "exit_accuracy": list(last.exit_accuracy),
            "float_accuracy": run.float_accuracy,
            "seconds": sum(h.seconds for h in run.history),
        }
        form = "as an artificial network" if run.train.artificial else "in integers"
        before = f", {run.float_accuracy:.2%} before" if run.float_accuracy is not None else ""
        text = (
            f"{folder}: {len(run.history)} epochs, test accuracy {last.test_accuracy:.2%} {form}"
            f"{before}, {result['seconds']:.0f} s"
        )
        verb = "convert" if run.train.artificial else "export"
        self.output(result, text, f"next: neucodex {verb} {folder}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Train(Training, DataOptions):
    """Train a base network (stage 1): float epochs, then epochs on the exact integers.

    Interrupt it at any time; the same command goes on from the last checkpoint.
    """

    arch: str = "resnet-small"
    """Architecture: resnet-small, resnet18, vgg16, mlp, lenet5, alexnet or vggsnn."""
    width: float = 1.0
    """Factor on all channel counts, e.g. 0.25."""
    head: str | None = None
    """Split point up to which the network has another width, e.g. SP3: a narrower edge head."""
    head_width: float = 1.0
    """Factor on the channel counts of that head, e.g. 0.5."""
    exit_heads: tuple[str, ...] = ()
    """Split points behind which a further readout answers early, e.g. --exit-heads SP1 SP2."""
    ann_epochs: int = 0
    """Epochs before all others as an artificial network (ReLU in place of neurons, one timestep).
    With --epochs 0 --qat-epochs 0 it stays one, to be converted."""
    ann_lr: float = 0.0
    """Peak learning rate of those epochs; 0: as --lr."""
    activation: ActivationName = "relu"
    """Of an artificial network to be converted: relu (then plain weight transfer), or qcfs."""
    levels: int = TrainConfig.levels
    """Steps L of qcfs: about the timesteps it will need."""
    norm: NormName = TrainConfig.norm
    """tdbn, or tebn: a factor for each timestep beside it, of which the integers keep the mean."""
    epochs: int = 60
    qat_epochs: int = 10
    lr: float = TrainConfig.lr

    def run(self) -> int:
        """Train."""
        head = parse_split(self.head) if self.head else 0
        exits = tuple(sorted({parse_split(split) for split in self.exit_heads}))
        model = architecture(self.arch, self.width, head, self.head_width, exits)
        data = self.data_config()
        config = self.train_config()
        folder = self.out or Path("runs") / f"{model.architecture}-{self.dataset}" / "base"
        from neucodex_lava.training.stages import train_base, with_fitting_bits

        if self.bits is None:
            data = with_fitting_bits(data, self.data_root, model)
        with self.progress() as progress:
            run = train_base(
                folder,
                model,
                data,
                config,
                **self.how(progress),
            )
        return self.finish(folder, run)


@dataclass(frozen=True, kw_only=True)
class Finetune(Training):
    """Insert the bottleneck at a split point and fine-tune everything (stage 2)."""

    base: Positional[Path]
    """Folder of the base network's run."""
    split: str = "SP1"
    """Split point, SP1 ... (after residual block i, convolution i of a VGG, or layer i of a chain)."""
    channels: int = 2
    """C', channels of the code."""
    stride: int = 1
    """Stride of the encoder: the code's height and width are divided by it."""
    kernel: int = 3
    """Side of the encoder's and decoder's kernels."""
    exit_heads: tuple[str, ...] = ()
    """Split points that get an exit head, beside those that the base has."""
    distillation: DistillConfig = field(default_factory=DistillConfig)
    epochs: int = 20
    qat_epochs: int = 6
    lr: float = 2e-3

    def run(self) -> int:
        """Fine-tune."""
        split = parse_split(self.split)
        bottleneck = BottleneckConfig(split, self.channels, self.stride, self.kernel)
        config = self.train_config()
        folder = self.out or self.base.parent / f"sp{split}"
        from neucodex_lava.training.stages import finetune

        with self.progress() as progress:
            run = finetune(
                folder,
                self.base,
                bottleneck,
                config,
                exit_heads=tuple(parse_split(split) for split in self.exit_heads),
                **self.how(progress),
            )
        return self.finish(folder, run)


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Make a spiking network of a trained artificial one, without training it further.

    Train the artificial network with: neucodex train --ann-epochs N --epochs 0 --qat-epochs 0.
    """

    source: Annotated[Positional[Path], tyro.conf.arg(name="run")]
    """Folder of the artificial network's run."""
    method: MethodName = "qcfs"
    """qcfs: neurons that keep what exceeds their threshold, of a network trained with --activation qcfs
    (no stock Lava process or Loihi 2 neuron does that). transfer: leaky neurons as anywhere, of a ReLU
    network."""
    timesteps: int = 8
    """T_max; qcfs is exact from about its levels on, transfer wants 32."""
    leak: float | None = None
    """Of transfer: the share of its potential that a neuron loses per timestep; by default 0.1."""
    data_root: DataRoot = None
    """Folder with the datasets; by default the environment variable NEUCODEX_DATA."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the new run; by default RUN-METHOD-tT beside the old one."""

    def run(self) -> int:
        """Convert."""
        conversion = ConversionConfig(self.method, self._voltage_decay())
        name = f"{self.source.name}-{self.method}-t{self.timesteps}"
        folder = self.out or self.source.parent / name
        from neucodex_lava.conversion import convert

        with self.progress() as progress:
            run, found = convert(
                folder,
                self.source,
                conversion,
                timesteps=self.timesteps,
                data_root=self.data_root,
                command=command_line(),
                progress=progress,
            )
        result = {
            "run": str(folder.resolve()),
            "method": self.method,
            "timesteps": self.timesteps,
            "test_accuracy": found[-1],
            "exit_accuracy": list(found[:-1]),
            "artificial_accuracy": run.float_accuracy,
        }
        text = (
            f"{folder}: test accuracy {found[-1]:.2%} in {self.timesteps} timesteps, in integers;"
            f" {run.float_accuracy:.2%} of the artificial network"
        )
        self.output(result, text, f"next: neucodex export {folder}")
        return 0

    def _voltage_decay(self) -> int:
        """The leak in 4096ths."""
        if self.leak is None:
            return LEAK
        require(
            self.method == "transfer",
            f"--leak has no effect on {self.method}, whose neurons lose nothing",
            "leave --leak out, or choose --method transfer",
        )
        require(
            0 <= self.leak <= 1,  # NaN is refused too.
            f"--leak {self.leak:g} is outside [0, 1]",
            "0.1 loses a tenth of the potential per timestep",
        )
        return round(4096 * self.leak)


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Export a finished run as a bundle: NetX HDF5, tail, manifest and golden spikes.

    A split bundle names its base by sha256: export the base first.
    """

    source: Annotated[Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished train or finetune run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the bundle; by default netx_exports/<architecture>-<dataset>/<base or spN>."""
    base: Annotated[Path | None, tyro.conf.arg(metavar="BUNDLE")] = None
    """Bundle of the base network, for a split run; by default the sibling folder 'base'."""
    data_root: DataRoot = None
    """Folder with the datasets, for the measured accuracy."""

    def run(self) -> int:
        """Export."""
        from neucodex_lava.bundle.manifest import CODING_FILE
        from neucodex_lava.export import export_run

        with self.progress() as progress:
            bundle = export_run(
                self.source,
                self.out,
                base=self.base,
                data_root=self.data_root,
                progress=progress,
            )
        m = bundle.manifest
        result = {
            "bundle": str(bundle.path.resolve()),
            "kind": m.kind,
            "split": m.split,
            "sha256": bundle.sha256,
            "code_shape": list(m.code_shape),
            "accuracy": m.accuracy,
            "coding": m.files.get(CODING_FILE),
        }
        without = "no coding tables: the training samples are not here (neucodex calibrate BUNDLE)"
        self.output(
            result,
            f"{bundle.path}: {m.kind} bundle of {m.architecture} on {m.dataset},"
            f" sha256 {bundle.sha256[:12]}…",
            *([] if CODING_FILE in m.files else [without]),
            f"next: neucodex verify {bundle.path}",
        )
        return 0
