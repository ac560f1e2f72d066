"""What calibrating bundles found: as JSON, and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neucodex_lava.bundle import Bundle
from neucodex_lava.evaluation.calibration.samples import CalibrationSamples
from neucodex_lava.evaluation.policies import PLACE, STRUCTURAL


@dataclass(frozen=True)
class Check:
    """A policy on samples that it was not calibrated on.

    Attributes:
        samples: how many.
        accuracy_t_max, accuracy: without and with early exits.
        mean_timesteps: timesteps, or exits, run per sample.
        oct: of the oracle.
        lost: share of samples that the reference gets right and this policy does not.
    """

    samples: int
    accuracy_t_max: float
    accuracy: float
    mean_timesteps: float
    oct: float
    lost: float

    @property
    def drop(self) -> float:
        """Accuracy that exits cost, as a share."""
        return self.accuracy_t_max - self.accuracy


@dataclass(frozen=True)
class Calibrated:
    """One kind of calibration of one bundle.

    Attributes:
        kind: one of `KINDS`.
        name: under which ``--policy`` finds it.
        entry: what the manifest keeps: policy and how; empty where it was not possible.
        check: on samples that were not calibrated on; None where it was not possible.
        problem: why it was not possible, with the way out.
    """

    kind: str
    name: str
    entry: dict[str, Any] = field(default_factory=dict)
    check: Check | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        found: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.check is None:
            return found | {"problem": self.problem}
        return found | self.entry | {"check": vars(self.check) | {"drop": self.check.drop}}


@dataclass(frozen=True, eq=False)
class CalibratedBundle:
    """The calibrations of one bundle.

    Attributes:
        bundle: as amended.
        samples: on which it was calibrated and checked.
        policies: by kind.
        removed: names that its manifest kept before, and keeps no more.
    """

    bundle: Bundle
    samples: CalibrationSamples
    policies: list[Calibrated]
    removed: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bundle": str(self.bundle.path),
            "split": self.bundle.manifest.split,
            **self.samples.how(),
            "check_samples": len(self.samples.check),
            "policies": [policy.to_dict() for policy in self.policies],
            "removed": self.removed,
        }

    def table(self) -> Any:
        """A rich table: what each policy costs and saves on both parts of the samples."""
        from rich.table import Table

        how, check = self.samples.how(), next((p.check for p in self.policies if p.check), None)
        of_test = how["data"] == "test"
        where = "test samples" if of_test else "samples held out of training"
        title = (
            f"{self.bundle.path}: calibrated on {how['samples']:,} {where} (seed {how['seed']}),"
            f" checked on {len(self.samples.check):,}{' other' if of_test else ''} test samples"
        )
        if check is not None:
            title += (
                f"; there, all {self.bundle.manifest.t_max} timesteps answer"
                f" {100 * check.accuracy_t_max:.2f} % right and the oracle needs {check.oct:.2f}"
            )
        caption = "\n".join(self._notes())
        table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        table.add_column("--policy", no_wrap=True)
        table.add_column("points lost,\ncalibration", justify="right")
        table.add_column("timesteps,\ncalibration", justify="right")
        table.add_column("points lost,\ncheck", justify="right")
        table.add_column("timesteps,\ncheck", justify="right")
        table.add_column("", overflow="fold")
        for policy in self.policies:
            if policy.check is None:
                table.add_row(policy.name, "", "", "", "", f"not possible: {policy.problem}")
                continue
            report = policy.entry["calibration"]
            table.add_row(
                policy.name,
                f"{100 * report['drop'] + 0.0:.2f}",
                f"{report['mean_timesteps']:.2f}",
                f"{100 * policy.check.drop + 0.0:.2f}",
                f"{policy.check.mean_timesteps:.2f}",
                _said(policy.entry, policy.check),
            )
        return table

    def _notes(self) -> list[str]:
        """What stands beneath the table."""
        notes = [
            "Points lost: accuracy that stopping early costs, in percentage points, on the samples"
            " calibrated on and on those to check on, which no policy saw."
        ]
        names = [policy.name for policy in self.policies]
        if any(name.startswith(STRUCTURAL) for name in names):
            notes.append(
                f"{STRUCTURAL}...: along the exit heads; their timesteps count exits, the last of them"
                " the readout."
            )
        if any(name.startswith(PLACE) for name in names):
            notes.append(
                f"{PLACE}...: after each timestep the exit head before this cut answers, or the cloud,"
                " or the sample goes on (rows P-B, P+B of evaluate)."
            )
        if self.removed:
            notes.append(f"No longer in the bundle, calibrated before: {', '.join(self.removed)}.")
        return notes


def _said(entry: Mapping[str, Any], check: Check) -> str:
    """The policy's numbers in short, and what it promises."""
    report, policy = entry["calibration"], entry["policy"]
    said = [f"{name} {policy[name]:.4g}" for name in ("alpha", "threshold") if name in policy]
    said += [f"patience {policy['patience']}"] if "patience" in policy else []
    if "thresholds" in policy:
        betas = ("never" if b is None else f"{b:.3g}" for b in policy["thresholds"][:-1])
        said.append(f"gaps above {', '.join(betas)}")
    if policy.get("temperature", 1.0) != 1.0:
        said.append(f"temperature {policy['temperature']:.3g}")
    if "level" in report:
        said.append(
            f"at most {100 * report['level']:g} % lost with {100 * report['confidence']:g} %"
            f" confidence (calibration: {report['lost']} samples; check: {100 * check.lost:.2f} %)"
        )
    return "; ".join(said)
