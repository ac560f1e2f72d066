"""What exit heads add to an evaluation: structural exits of the base, and answers on the edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energy.devices import DeviceModel
from neucodex_lava.bundle import Bundle
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.evaluation.cascade.offline import Cascade
from neucodex_lava.evaluation.cascade.rows import structural_choices, structural_rows
from neucodex_lava.evaluation.cascade.session import CascadeSession
from neucodex_lava.evaluation.halves import CalibrationHalf
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.place.placement import LinkPrices, Placement, placement, sites
from neucodex_lava.evaluation.place.rows import place_rows
from neucodex_lava.evaluation.policies import OWN, STRUCTURAL, Choice, Numbers
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Row


@dataclass(frozen=True, eq=False)
class HeadSessions:
    """Lava sessions of what runs for real.

    Attributes:
        chosen: which samples.
        cascade: of the base; None where it has no row.
        places: one for each placement.
    """

    chosen: NDArray[np.intp]
    cascade: CascadeSession | None
    places: list[EdgeSession]


@dataclass(frozen=True, eq=False)
class Heads:
    """The rows that a base and its split bundles have for their exit heads; none without any.

    Attributes:
        base: the base bundle.
        choices: policies over its exit heads.
        placements: cuts at which the edge may answer.
    """

    base: Bundle
    choices: list[Choice]
    placements: list[Placement]

    @classmethod
    def of(
        cls,
        base: Bundle,
        bundles: Sequence[Bundle],
        splits: Sequence[str],
        names: Sequence[str],
        numbers: Numbers = OWN,
        costs: LinkPrices | None = None,
    ) -> Heads:
        """What is calibrated, and policies over exit heads that need no calibration.

        Args:
            base, bundles, splits: that are evaluated.
            names, numbers: policies asked for.
            costs: of the link.
        """
        found = [
            placement(site, costs or LinkPrices())
            for bundle in (base, *bundles)
            for site in sites(bundle)
            if site.split in splits
        ]
        placements = [p for p in found if p is not None]
        return cls(base, structural_choices(base, names, numbers), placements)

    @property
    def halves(self) -> set[CalibrationHalf]:
        """Test samples that something here was calibrated on."""
        found = {choice.half for choice in self.choices}
        found |= {CalibrationHalf.of(p.calibration) for p in self.placements}
        return {half for half in found if half is not None}

    @property
    def calibrations(self) -> dict[str, str]:
        """How policies over exit heads were found, by name."""
        return {STRUCTURAL + c.name: c.how for c in self.choices if c.how}

    @contextmanager
    def opened(self, samples: int, confirm: int) -> Iterator[HeadSessions]:
        """Start Lava for some samples, spread evenly; before anything of gRPC, since it forks."""
        chosen = np.unique(np.linspace(0, samples - 1, min(confirm, samples)).astype(int))
        with ExitStack() as stack:
            cascade: CascadeSession | None = None
            places: list[EdgeSession] = []
            if confirm and self.choices:
                cascade = stack.enter_context(CascadeSession(Cascade.of(self.base)))
            for p in self.placements if confirm else ():
                session = EdgeSession(p.site.net, keep_ledger=True)
                places.append(stack.enter_context(session))
            yield HeadSessions(chosen, cascade, places)

    def rows(
        self,
        sessions: HeadSessions,
        twins: TwinRuns,
        labels: NDArray[np.int64],
        *,
        energy_model: DeviceModel,
        progress: Progress = silent,
    ) -> list[Row]:
        """One row for each policy over exit heads, and one for each placement.

        Raises:
            SimulationError: Lava and the executor disagree.
        """
        told = sessions.chosen, twins, labels
        rows = structural_rows(
            self.base,
            self.choices,
            sessions.cascade,
            *told,
            energy_model=energy_model,
            progress=progress,
        )
        return rows + place_rows(
            self.placements,
            sessions.places,
            *told,
            energy_model=energy_model,
            progress=progress,
        )
