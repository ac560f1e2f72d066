"""How a network is trained."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Literal

from neucodex_lava.config.checking import require

OptimizerName = Literal["adamw", "sgd"]
PolicyName = Literal["none", "randaugment", "trivialaugment"]
DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["float32", "bfloat16"]
PhaseName = Literal["ann", "float", "integer"]
LossName = Literal["every-step", "last-step", "tet"]
NormName = Literal["tdbn", "tebn"]
ActivationName = Literal["relu", "qcfs"]


def _require_one_of(value: str, names: object, what: str) -> None:
    known: tuple[str, ...] = typing.get_args(names)
    require(value in known, f"unknown {what} '{value}'", f"choose one of {', '.join(known)}")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to training samples beyond the usual shift and mirror image.

    Attributes:
        policy: colours, shears and turns of photographs: randaugment (two operations of one strength)
            or trivialaugment (one of any strength).
        strength: of randaugment, from 0 to 30.
        cutout: side in pixels of a square erased from each photograph; 0: none.
        mixup: alpha of the Beta distribution by which two images and their labels are mixed; 0: never.
        event_drop: the largest share of a recording's events that may go missing.
    """

    policy: PolicyName = "none"
    strength: int = 9
    cutout: int = 0
    mixup: float = 0.0
    event_drop: float = 0.25

    def __post_init__(self) -> None:
        _require_one_of(self.policy, PolicyName, "augmentation policy")
        require(0 <= self.strength <= 30, f"strength {self.strength} is outside [0, 30]")
        require(self.cutout >= 0, f"cutout {self.cutout} is negative")
        require(0 <= self.mixup <= 10, f"mixup {self.mixup} is outside [0, 10]")
        require(0 <= self.event_drop < 1, f"event_drop {self.event_drop} is outside [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: a cross-entropy, and weighted terms beside it.

    Attributes:
        loss: cross-entropy of the mean output after every timestep (every-step), after T_max alone
            (last-step), or of each timestep's own output (tet).
        tet_mse: share of tet's regulariser, which draws each output to 1.
        rate_weight: of the bits per timestep that the code costs after entropy coding, per raw bit.
        synop_weight: of the SynOps per timestep, per SynOp that a network spiking everywhere would do.
        rcs_weight: of SNNCutoff's regulariser for early exits; such epochs take about twice as long.
        exit_weight: of the cross-entropy of each exit head, beside 1 of the network's own answer.
    """

    loss: LossName = "every-step"
    tet_mse: float = 0.05
    rate_weight: float = 0.0
    synop_weight: float = 0.0
    rcs_weight: float = 0.0
    exit_weight: float = 0.3

    def __post_init__(self) -> None:
        _require_one_of(self.loss, LossName, "loss")
        require(0 <= self.tet_mse < 1, f"tet_mse {self.tet_mse} is outside [0, 1)")
        for name in ("rate_weight", "synop_weight", "rcs_weight", "exit_weight"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")


@dataclass(frozen=True)
class DistillConfig:
    """What stage 2 learns from the base network beside the labels.

    Attributes:
        distill_features: weight of the decoder's distance from the base's spikes at the split point.
        distill_logits: weight of the answers' divergence from the base's.
        distill_temperature: by which answers are softened.
    """

    distill_features: float = 0.0
    distill_logits: float = 0.0
    distill_temperature: float = 2.0

    def __post_init__(self) -> None:
        for name in ("distill_features", "distill_logits"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        require(
            self.distill_temperature > 0,
            f"distill_temperature {self.distill_temperature} is not positive",
        )

    @property
    def wanted(self) -> bool:
        """Whether anything is learnt from the base."""
        return bool(self.distill_features or self.distill_logits)


@dataclass(frozen=True)
class TrainConfig:
    """One training run: float epochs, then quantisation-aware epochs on the exact integers.

    Attributes:
        ann_epochs: epochs before those as an artificial network: ReLU in place of neurons, on the mean
            of the input's timesteps.
        ann_lr: peak learning rate of those (0: as `lr`; spiking epochs want less).
        activation: of the artificial network: relu, or one of `levels` steps that integrate-and-fire
            neurons give exactly (qcfs); spiking epochs only follow the former.
        levels: L, of qcfs.
        norm: batch norms over all timesteps (tdbn), or with a factor for each of them too (tebn), of
            which the integers keep the mean.
        epochs: float epochs (batch statistics).
        qat_epochs: quantisation-aware epochs after them.
        batch_size: samples per step.
        lr: peak learning rate of the float phase (warm-up, then a cosine to 0).
        qat_lr: peak learning rate of the quantisation-aware phase (a cosine of its own).
        weight_decay: of the optimiser; norms and biases do not decay.
        label_smoothing: of the cross-entropy.
        augment: turn, scale and shift drawings, crop and mirror photographs, anew in each epoch.
        seed: of initial weights, shuffling, augmentation.
        threads: CPU threads (0: torch's own choice).
        optimizer: adamw, or sgd with Nesterov momentum.
        warmup: epochs of linear warm-up.
        clip: largest norm of a step's gradient (0: any).
        ema: decay per step of the averaged weights that are evaluated and quantised (0: no average).
        precision: of the float phase's convolutions.
        augmentation: what else is done to training samples.
        loss: what is minimised.
        distillation: what stage 2 learns from its base.
        checkpoint_blocks: keep only the spikes between blocks and run each block once more in the
            backward pass: half the memory, 1.6 times the time.
    """

    epochs: int = 30
    qat_epochs: int = 8
    batch_size: int = 64
    lr: float = 4e-3
    qat_lr: float = 5e-4
    weight_decay: float = 1e-3
    label_smoothing: float = 0.0
    augment: bool = True
    seed: int = 0
    threads: int = 0
    optimizer: OptimizerName = "adamw"
    warmup: float = 1.0
    clip: float = 5.0
    ema: float = 0.0
    precision: PrecisionName = "float32"
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillConfig = field(default_factory=DistillConfig)
    checkpoint_blocks: bool = False
    ann_epochs: int = 0
    ann_lr: float = 0.0
    activation: ActivationName = "relu"
    levels: int = 8
    norm: NormName = "tdbn"

    def __post_init__(self) -> None:
        require(self.ann_epochs >= 0, f"ann_epochs is {self.ann_epochs}, it cannot be negative")
        require(
            not self.ann_epochs or self.epochs > 0 or self.qat_epochs == 0,
            "an artificial network cannot be quantised: spiking epochs must follow",
            "add some with --epochs, or with --qat-epochs 0 train one to convert",
        )
        _require_one_of(self.norm, NormName, "norm")
        _require_one_of(self.activation, ActivationName, "activation")
        require(
            self.activation == "relu" or self.artificial,
            f"a network of {self.activation} is converted, no spiking epochs can follow",
            "train it with --epochs 0 --qat-epochs 0",
        )
        require(1 <= self.levels <= 256, f"levels {self.levels} is outside [1, 256]")
        require(0 <= self.ann_lr <= 1, f"ann_lr {self.ann_lr} is outside [0, 1]")
        require(self.epochs >= 0, f"epochs is {self.epochs}, it cannot be negative")
        require(
            self.qat_epochs >= 1 or self.artificial,
            f"qat_epochs is {self.qat_epochs}, every run ends with at least one",
            "only a network to be converted has none: --ann-epochs N --epochs 0 --qat-epochs 0",
        )
        require(1 <= self.batch_size <= 4096, f"batch_size {self.batch_size} is not in [1, 4096]")
        require(0 < self.lr <= 1, f"lr {self.lr} is outside (0, 1]")
        require(0 < self.qat_lr <= 1, f"qat_lr {self.qat_lr} is outside (0, 1]")
        require(
            0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} not in [0, 1)"
        )
        require(self.weight_decay >= 0, f"weight_decay {self.weight_decay} is negative")
        require(self.threads >= 0, f"threads {self.threads} is negative")
        _require_one_of(self.optimizer, OptimizerName, "optimizer")
        require(self.warmup >= 0, f"warmup {self.warmup} is negative")
        require(self.clip >= 0, f"clip {self.clip} is negative")
        require(0 <= self.ema < 1, f"ema {self.ema} is outside [0, 1)")
        _require_one_of(self.precision, PrecisionName, "precision")
        options = self.augmentation
        require(
            self.augment or (options.policy == "none" and not options.cutout and not options.mixup),
            "samples are trained on as they are, yet a policy, cutout or mixup is asked for",
            "leave --no-augment out, or those",
        )

    @property
    def artificial(self) -> bool:
        """Whether the run ends as an artificial network, to be converted."""
        return self.ann_epochs > 0 and self.epochs == self.qat_epochs == 0

    def phase(self, epoch: float) -> PhaseName:
        """What the network is in an epoch, counted from 0."""
        if epoch < self.ann_epochs:
            return "ann"
        return "float" if epoch < self.ann_epochs + self.epochs else "integer"
