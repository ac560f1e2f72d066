"""Ledgers, device models and pricing under this package's name.

This is the documented path: the package index has an unrelated package called ``energy``.
"""

from energy import (
    DEFAULT_MODEL,
    DeviceModel,
    EnergyReport,
    Ledger,
    Overhead,
    Term,
    device,
    devices,
    event_counts,
    paper_energy_j,
    price,
    price_ann,
    read_ledger,
    write_ledger,
)

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
