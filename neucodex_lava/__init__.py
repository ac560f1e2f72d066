"""neucodex-lava: split a spiking network between a neuromorphic edge chip and the cloud.

The names below are loaded when first used, so that importing the package costs nothing and a machine
needs only the packages of the parts it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from neucodex_lava.bundle import Bundle, load_bundle, load_tail
    from neucodex_lava.cloud.executor import Executor
    from neucodex_lava.cloud.tail import TorchTail
    from neucodex_lava.cloud.twin import run_twin
    from neucodex_lava.edge.netx import read_netx, write_netx
    from neucodex_lava.edge.session import EdgeSession
    from neucodex_lava.edge.simulation import simulate
    from neucodex_lava.errors import NeucodexError
    from neucodex_lava.exits import ConfidencePolicy
    from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node
    from neucodex_lava.models.dropin import accelerate
    from neucodex_lava.training.importing import import_blocks

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "ConfidencePolicy",
    "Connection",
    "EdgeSession",
    "Executor",
    "IntegerNet",
    "NeucodexError",
    "Neuron",
    "Node",
    "TorchTail",
    "accelerate",
    "import_blocks",
    "load_bundle",
    "load_tail",
    "read_netx",
    "run_twin",
    "simulate",
    "write_netx",
]

_HOME: Final = {
    "Bundle": "bundle",
    "ConfidencePolicy": "exits",
    "Connection": "integer_net",
    "EdgeSession": "edge.session",
    "Executor": "cloud.executor",
    "IntegerNet": "integer_net",
    "NeucodexError": "errors",
    "Neuron": "integer_net",
    "Node": "integer_net",
    "TorchTail": "cloud.tail",
    "accelerate": "models.dropin",
    "import_blocks": "training.importing",
    "load_bundle": "bundle",
    "load_tail": "bundle",
    "read_netx": "edge.netx",
    "run_twin": "cloud.twin",
    "simulate": "edge.simulation",
    "write_netx": "edge.netx",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
