"""What a policy is calibrated on, what may be asked of it, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.config import require
from neucodex_lava.errors import DataError
from neucodex_lava.exits.logits import Reading, require_reading
from neucodex_lava.exits.metrics import Labels, right
from neucodex_lava.exits.policy import ExitPolicy, Sums, decide

FamilyName = Literal["confidence", "topk"]


@dataclass(frozen=True)
class CalibrationOptions:
    """What a calibrated policy has to keep to; each kind reads what concerns it.

    Attributes:
        drop: accuracy that may be lost against T_max, as a share: 0.001 is a tenth of a point.
        epsilon: of `topk-snncutoff`, the share that may be lost among those that exit.
        level: of `guaranteed`, the extra error that must not be exceeded.
        confidence: of `guaranteed`, how sure that must be.
        family: of `guaranteed`, the policies it chooses from.
        alpha: of `temperature`, the confidence to reach.
        logits: ``mean`` or ``sum`` of the outputs; `topk-snncutoff` always takes the sum.
        episodes: of `qlearning`.
        weight: of `qlearning`, how much cost counts against being right (SPARQ's alpha).
        seed: source of all chance, 0 or more.

    Raises:
        ConfigError: numbers out of range.
    """

    drop: float = 0.001
    epsilon: float = 0.0
    level: float = 0.01
    confidence: float = 0.9
    family: FamilyName = "confidence"
    alpha: float = 0.9
    logits: Reading = "mean"
    episodes: int = 10_000
    weight: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.drop < 1, f"accuracy drop {self.drop} is outside [0, 1)")
        require(0 <= self.epsilon < 1, f"epsilon {self.epsilon} is outside [0, 1)")
        require(
            0 < self.level < 1,
            f"level {self.level} is outside (0, 1)",
            "0.01 allows one extra error in a hundred samples",
        )
        require(0 < self.confidence < 1, f"confidence {self.confidence} is outside (0, 1)")
        require(self.family in ("confidence", "topk"), f"unknown family '{self.family}'")
        require(self.episodes >= 1, f"{self.episodes} episodes, at least 1 is needed")
        require(self.weight >= 0, f"weight of the cost {self.weight} is negative")
        require(self.seed >= 0, f"seed {self.seed} is negative", "take 0 or more")


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Whole runs on samples that are neither trained nor tested on.

    Attributes:
        sums: S_t, (N, K, T).
        labels: classes, (N,).
        gain: the readout's gain; 1 where the sums are logits already.
        class_names: of the K classes, or empty.
        reference: answers that are to be kept, (N,): the base network's, say; None for the network's
            own at T_max. Only `guaranteed` reads it.
        syn_ops: SynOps spent up to each timestep or exit, (N, T), or (T,); None counts timesteps. Only
            `qlearning` reads it.

    Raises:
        DataError: no samples, or labels that are no classes.
        ConfigError: arrays whose shapes do not fit, a gain that is not positive.
    """

    sums: Sums
    labels: Labels
    gain: float
    class_names: tuple[str, ...] = ()
    reference: Labels | None = None
    syn_ops: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        shape = self.sums.shape
        require(
            len(shape) == 3 and min(shape[1:]) >= 1,
            f"running sums have shape {shape}, expected (samples, classes, timesteps)",
        )
        if shape[0] == 0:
            raise DataError("no calibration samples")
        self._fits("labels", self.labels, shape[:1])
        if self.reference is not None:
            self._fits("reference answers", self.reference, shape[:1])
        if self.syn_ops is not None:
            self._fits("SynOps", self.syn_ops, (shape[0], shape[2]), shape[2:])
        require_reading(shape[2], self.gain, "mean", 1.0)
        outside = (self.labels < 0) | (self.labels >= shape[1])
        if outside.any():
            raise DataError(f"label {self.labels[outside][0]} is outside 0..{shape[1] - 1}")

    @staticmethod
    def _fits(name: str, array: NDArray[Any], *shapes: tuple[int, ...]) -> None:
        require(array.shape in shapes, f"{name} have shape {array.shape}, expected {shapes[0]}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def t_max(self) -> int:
        """T."""
        return int(self.sums.shape[2])

    @property
    def classes(self) -> int:
        """K."""
        return int(self.sums.shape[1])

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction after each timestep is right, (N, T)."""
        return right(self.sums, self.labels)

    def require_all_classes(self) -> None:
        """Refuse data in which a class is missing.

        Raises:
            DataError: names the first such class.
        """
        missing = np.flatnonzero(np.bincount(self.labels, minlength=self.classes) == 0)
        if len(missing):
            name = self.class_names[missing[0]] if self.class_names else ""
            raise DataError(
                f"the calibration data has no sample of class {missing[0]}"
                + (f" ('{name}')" if name else "")
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                "calibrate on more samples, drawn at random",
            )

    def rows(self, chosen: NDArray[np.intp]) -> CalibrationData:
        """Some of the samples."""

        def some(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return array[chosen] if array is not None and len(array) == len(self) else array

        return CalibrationData(
            self.sums[chosen],
            self.labels[chosen],
            self.gain,
            self.class_names,
            some(self.reference),
            some(self.syn_ops),
        )


@dataclass(frozen=True)
class Calibration:
    """A calibrated policy, and how it did on the data it was calibrated on.

    Attributes:
        policy: for the bundle.
        report: plain numbers, shares and timesteps; on calibration data, so of no use as a result.
    """

    policy: ExitPolicy
    report: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(policy: ExitPolicy, data: CalibrationData, **numbers: Any) -> Calibration:
        """With what every kind reports."""
        exits = decide(policy, data.sums)
        whole, accuracy = data.right[:, -1].mean(), (exits.predictions == data.labels).mean()
        return Calibration(
            policy,
            {
                "samples": len(data),
                "t_max": data.t_max,
                "accuracy_t_max": float(whole),
                "accuracy": float(accuracy),
                "drop": float(whole - accuracy),
                "mean_timesteps": float(exits.timesteps.mean()),
                "not_numbers": exits.not_numbers,
                **numbers,
            },
        )
