"""Device models: what a counted event costs on a chip, as data with a source for every number.

The numbers are in ``devices.json``. None of them is a measurement of ours: whatever is priced with
them is *modelled*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neucodex_lava.errors import ConfigError, FormatError

DEFAULT_MODEL = "paper-23pJ"
SYNAPSE_CLASSES = ("conv", "sparse", "dense")
EVENTS = (
    "syn_ops",
    "macs",
    *(f"{count}_{cls}" for count in ("syn_ops", "macs") for cls in SYNAPSE_CLASSES),
    "weight_reads",
    "dendrite_updates",
    "axon_out",
)
"""Events that may have a price: ledger counts, synapses also by the kind of their connection.
``weight_reads`` are syn_ops and macs together: each takes one weight from memory."""
STATUSES = ("published", "fitted", "assumed")

DATA = Path(__file__).with_name("devices.json")


@dataclass(frozen=True)
class Term:
    """The price of one kind of event.

    Attributes:
        event: one of `EVENTS`.
        energy_pj: picojoules each.
        low_pj: the least it can be, where the counts leave that open; else equal to energy_pj.
        status: ``published`` (read in a paper), ``fitted`` (to measured silicon) or ``assumed``.
        source: where the number comes from.
    """

    event: str
    energy_pj: float
    low_pj: float
    status: str
    source: str


@dataclass(frozen=True)
class DeviceModel:
    """What the events of a ledger cost on one chip.

    Attributes:
        name: of the model.
        description: one line.
        reference: the publication.
        terms: prices; events without one are free.
        left_out: what the model knows to cost energy but cannot count.
    """

    name: str
    description: str
    reference: str
    terms: tuple[Term, ...]
    left_out: tuple[str, ...]

    @property
    def by_connection(self) -> bool:
        """Whether synapses cost differently by the kind of their connection."""
        return any(term.event.startswith(("syn_ops_", "macs_")) for term in self.terms)

    @classmethod
    def from_dict(cls, name: str, raw: Mapping[str, Any]) -> DeviceModel:
        """A model from plain JSON values.

        Raises:
            FormatError: a missing field, an unknown event or status, an energy below zero.
        """
        try:
            terms = tuple(_term(name, t) for t in raw["terms"])
            left_out = tuple(str(line) for line in raw["left_out"])
            model = cls(name, str(raw["description"]), str(raw["reference"]), terms, left_out)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"device model '{name}': {error!r}") from error
        events = [term.event for term in terms]
        if len(set(events)) != len(events):
            raise FormatError(f"device model '{name}': an event is priced twice")
        return model


def _term(model: str, raw: Mapping[str, Any]) -> Term:
    energy = float(raw["energy_pj"])
    term = Term(
        event=str(raw["event"]),
        energy_pj=energy,
        low_pj=float(raw.get("low_pj", energy)),
        status=str(raw["status"]),
        source=str(raw["source"]),
    )
    where = f"device model '{model}', event '{term.event}'"
    if term.event not in EVENTS:
        raise FormatError(f"{where}: no ledger counts it", f"one of {', '.join(EVENTS)}")
    if term.status not in STATUSES:
        raise FormatError(f"{where}: status '{term.status}' is not {', '.join(STATUSES)}")
    if not 0 <= term.low_pj <= term.energy_pj < float("inf"):
        raise FormatError(f"{where}: {term.low_pj} to {term.energy_pj} pJ is no range of energies")
    if not term.source:
        raise FormatError(f"{where}: it names no source")
    return term


@cache
def devices() -> Mapping[str, DeviceModel]:
    """All device models by name, the default one first."""
    raw: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return MappingProxyType({name: DeviceModel.from_dict(name, m) for name, m in raw.items()})


def device(name: str = DEFAULT_MODEL) -> DeviceModel:
    """The device model of this name.

    Raises:
        ConfigError: no such model.
    """
    models = devices()
    if name not in models:
        raise ConfigError(f"unknown energy model '{name}'", f"choose one of {', '.join(models)}")
    return models[name]
