"""What the papers measured, as data with its sources; what has no source is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

CONFIGURATIONS = ("F-B", "D-B", "F+B", "D+B")


@dataclass(frozen=True)
class PaperFigure:
    """One cell of a paper's table.

    Attributes:
        architecture, dataset, configuration: which; names as ours, at full width.
        accuracy: share of right answers.
        mean_timesteps: None where not known.
        source: where it is from.
    """

    architecture: str
    dataset: str
    configuration: str
    accuracy: float
    mean_timesteps: float | None
    source: str


@dataclass(frozen=True)
class PaperTable:
    """A paper's table as far as it is known.

    Attributes:
        paper: title and number.
        known: how we know it.
        width, encoding, t_max: what it was measured with.
        conditions_source: where those are from.
        figures: its cells.
        claims: what the paper says of itself, each with its source.
    """

    paper: str
    known: str
    width: float
    encoding: str
    t_max: int
    conditions_source: str
    figures: tuple[PaperFigure, ...]
    claims: tuple[str, ...]

    def find(self, architecture: str, dataset: str, configuration: str) -> PaperFigure | None:
        """The cell of an architecture (without its width) and dataset; None where not known."""
        wanted = (architecture, dataset, configuration)
        for figure in self.figures:
            if (figure.architecture, figure.dataset, figure.configuration) == wanted:
                return figure
        return None


@dataclass(frozen=True)
class PaperWords:
    """What is known of a paper whose table we do not have.

    Attributes:
        paper: title and number.
        known: how we know it.
        claims: what the paper says of itself, each with its source.
        figures: cells, should any become known: what they are of, their values, and their source.
    """

    paper: str
    known: str
    claims: tuple[str, ...]
    figures: tuple[Mapping[str, Any], ...]

    def find(self, **of: str) -> Mapping[str, Any]:
        """The cell with these values; empty where not known."""
        wanted = of.items()
        return next((cell for cell in self.figures if wanted <= cell.items()), {})

    def notes(self) -> tuple[str, ...]:
        """For the foot of a table."""
        return (
            f"The paper: {self.paper}. {self.known}",
            f"It says of itself: {'; '.join(self.claims)}.",
        )


@cache
def words(name: str) -> PaperWords:
    """What is known of ``sparq`` or ``cutoff`` (SNNCutoff)."""
    raw = _read(f"{name}.json")
    return PaperWords(raw["paper"], raw["known"], _claims(raw), tuple(raw["figures"]))


def _read(name: str) -> dict[str, Any]:
    text = files("neucodex_lava.evaluation.paper").joinpath(name).read_text("utf-8")
    return json.loads(text)


def _claims(raw: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{c['claim']} ({c['source']})" for c in raw["claims"])


@cache
def table1() -> PaperTable:
    """Table I of NeuCODEX (arXiv 2509.19156), as far as it is known to us."""
    raw = _read("table1.json")
    conditions = raw["conditions"]
    return PaperTable(
        paper=raw["paper"],
        known=raw["known"],
        width=conditions["width"],
        encoding=conditions["encoding"],
        t_max=conditions["t_max"],
        conditions_source=conditions["source"],
        figures=tuple(PaperFigure(**figure) for figure in raw["figures"]),
        claims=_claims(raw),
    )
