"""How a network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from neucodex_lava.config.checking import require


@dataclass(frozen=True)
class TrainConfig:
    """One training run: float epochs, then quantisation-aware epochs on the exact integers.

    Attributes:
        epochs: float epochs (batch statistics).
        qat_epochs: quantisation-aware epochs after them.
        batch_size: images per step.
        lr: peak learning rate of the float phase (AdamW, cosine, one epoch of warm-up).
        qat_lr: peak learning rate of the quantisation-aware phase.
        weight_decay: of AdamW.
        label_smoothing: of the cross-entropy.
        augment: turn, scale and shift drawings, crop and mirror photographs, anew in each epoch.
        seed: of initial weights, shuffling, augmentation.
        threads: CPU threads (0: torch's own choice).
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

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"epochs is {self.epochs}, it cannot be negative")
        require(
            self.qat_epochs >= 1,
            f"qat_epochs is {self.qat_epochs}, every run ends with at least one",
        )
        require(1 <= self.batch_size <= 4096, f"batch_size {self.batch_size} is not in [1, 4096]")
        require(0 < self.lr <= 1, f"lr {self.lr} is outside (0, 1]")
        require(0 < self.qat_lr <= 1, f"qat_lr {self.qat_lr} is outside (0, 1]")
        require(
            0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} not in [0, 1)"
        )
        require(self.weight_decay >= 0, f"weight_decay {self.weight_decay} is negative")
        require(self.threads >= 0, f"threads {self.threads} is negative")
