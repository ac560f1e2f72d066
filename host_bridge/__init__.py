"""The host bridge: codes from the edge to the cloud's tail, running sums back.

Names are loaded when they are first used: importing this package imports neither gRPC nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from host_bridge.client import EdgeClient, StepReply
    from host_bridge.codecs import pack, packed_bits, raw_bits, unpack
    from host_bridge.server.background import serve_forever, serving
    from host_bridge.server.server import BridgeServer, start_server
    from host_bridge.tail import Tail

__all__ = [
    "BridgeServer",
    "EdgeClient",
    "StepReply",
    "Tail",
    "pack",
    "packed_bits",
    "raw_bits",
    "serve_forever",
    "serving",
    "start_server",
    "unpack",
]

_HOME: Final = {
    "BridgeServer": "server.server",
    "EdgeClient": "client",
    "StepReply": "client",
    "Tail": "tail",
    "pack": "codecs",
    "packed_bits": "codecs",
    "raw_bits": "codecs",
    "serve_forever": "server.background",
    "serving": "server.background",
    "start_server": "server.server",
    "unpack": "codecs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
