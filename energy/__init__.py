"""What was counted, and what it costs: ledgers and device models. Needs numpy only.

Import it as ``neucodex_lava.energy``: the package index has an unrelated package called ``energy``.
"""

from energy.devices import DEFAULT_MODEL, DeviceModel, Term, device, devices
from energy.ledger import Ledger, Overhead
from energy.ledger_file import read_ledger, write_ledger
from energy.paper import paper_energy_j
from energy.pricing import EnergyReport, event_counts, price, price_ann

__all__ = [
    "DEFAULT_MODEL",
    "DeviceModel",
    "EnergyReport",
    "Ledger",
    "Overhead",
    "Term",
    "device",
    "devices",
    "event_counts",
    "paper_energy_j",
    "price",
    "price_ann",
    "read_ledger",
    "write_ledger",
]
