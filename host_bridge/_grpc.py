"""gRPC, imported when it is first needed, and the little of it that both sides share.

grpcio ships no type information, so it is handled as `Any` here and nowhere else has to say so.
"""

from __future__ import annotations

import importlib
import os
import platform
from importlib import metadata
from typing import Any, Final

SERVICE: Final = "neucodex.v1.Bridge"
METHOD: Final = "Infer"

COMMON_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    # A proxy from the environment must not come between the edge and its cloud.
    ("grpc.enable_http_proxy", 0),
    # Two servers on one port would share its sessions silently.
    ("grpc.so_reuseport", 0),
    # Both sides ask an idle connection whether it lives, and allow the other to ask that often: a peer
    # that lost its power says no goodbye.
    ("grpc.keepalive_time_ms", 10_000),
    # Twice: the first alone leaves pings a limit of their own, of 60 s (seen with grpcio 1.85). Not
    # shorter, because on a slow link a ping waits behind a code.
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)


def grpc() -> Any:
    """The module `grpc`; importing it takes longer than `neucodex --help` may."""
    # Its C core writes lines of its own to stderr, for instance when a server says goodbye.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    return importlib.import_module("grpc")


def library_versions() -> dict[str, str]:
    """What this side runs, by name; told to the other side for its log."""
    versions = {"python": platform.python_version()}
    for name in ("neucodex-lava", "numpy", "grpcio"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions
