"""SNNCutoff's table as data, and as it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from neucodex_lava.evaluation.paper.figures import PaperWords
from neucodex_lava.evaluation.paper.sheet import Sheet, SheetGroup
from neucodex_lava.report.si import DASH, interval, percent
from neucodex_lava.statistics import wilson_interval

NAME = "cutoff"
HEAD = "SNNCutoff's table: ours, and the paper's"
COLUMNS = ("training", "exit", "accuracy", "mean T", "times fewer", "paper", "paper's T")
LEGEND = (
    "Accuracy: share of right test answers with its 95 % Wilson interval (measured). Mean T: timesteps"
    " run per sample (measured). OCT: the oracle, which stops as soon as an answer is right and stays"
    " right. Top-K(e): SNNCutoff's thresholds by its authors' algorithm, for a loss of e among those"
    " that exit; their code runs it on the training set with a dropout of 0.3 active, here it runs on"
    " the samples named below each network, without dropout. Top-K of equal risk and confidence are"
    " ours, calibrated to lose at most 0.1 points. – : not known to us."
)


@dataclass(frozen=True)
class CutoffRow:
    """One way to stop one network.

    Attributes:
        training: loss and regulariser, ``TET + RCS`` say.
        exit: ``T = 4``, ``OCT`` or a policy.
        samples, correct: of the test split.
        mean_timesteps: per sample.
        paper_accuracy, paper_timesteps, paper_source: the paper's; None where not known to us.
    """

    training: str
    exit: str
    samples: int
    correct: int
    mean_timesteps: float
    paper_accuracy: float | None
    paper_timesteps: float | None
    paper_source: str | None


@dataclass(frozen=True)
class CutoffGroup:
    """One network: a base bundle.

    Attributes:
        folder, architecture, width, dataset, t_max, coding, seed: which.
        calibrated_on: how many samples of what.
        rows: its exits.
    """

    folder: str
    architecture: str
    width: float
    dataset: str
    t_max: int
    coding: str
    seed: int
    calibrated_on: str
    rows: tuple[CutoffRow, ...]

    @property
    def title(self) -> str:
        """In one line."""
        return (
            f"{self.architecture}, width {self.width:g}, {self.dataset}, T_max {self.t_max},"
            f" {self.coding} input, seed {self.seed}"
        )


@dataclass(frozen=True)
class CutoffTable:
    """The whole table.

    Attributes:
        paper: what it is compared with.
        groups: one for each base bundle.
        notes: what was not run, and why.
        command: that made it.
        report: its files by kind.
    """

    paper: PaperWords
    groups: tuple[CutoffGroup, ...]
    notes: tuple[str, ...]
    command: str = ""
    report: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def sheet(self) -> Sheet:
        """As it is shown."""
        groups = [
            SheetGroup(
                group.title,
                tuple(_cells(row, group.t_max) for row in group.rows),
                (f"Bundle: {group.folder}; calibrated on {group.calibrated_on}",),
            )
            for group in self.groups
        ]
        records = [
            {k: v for k, v in vars(group).items() if k != "rows"} | vars(row)
            for group in self.groups
            for row in group.rows
        ]
        notes = (*self.notes, *self.paper.notes(), LEGEND)
        return Sheet(NAME, HEAD, COLUMNS, tuple(groups), notes, tuple(records))


def _cells(row: CutoffRow, t_max: int) -> tuple[str, ...]:
    accuracy, bounds = row.correct / row.samples, wilson_interval(row.correct, row.samples)
    return (
        row.training,
        row.exit,
        f"{percent(accuracy, 2)} ({interval(*bounds)})",
        f"{row.mean_timesteps:.2f}",
        f"{t_max / row.mean_timesteps:.2f}",
        DASH if row.paper_accuracy is None else percent(row.paper_accuracy),
        DASH if row.paper_timesteps is None else f"{row.paper_timesteps:.2f}",
    )
