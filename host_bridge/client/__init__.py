"""The edge's end of the bridge: sessions that survive their connection, called from a plain loop."""

from __future__ import annotations

from host_bridge.client.channels import Channels
from host_bridge.client.client import EdgeClient
from host_bridge.client.ladder import Source, Verdict, descend
from host_bridge.client.log import LinkCounts, StepReply
from host_bridge.client.pool import EdgePool

__all__ = [
    "Channels",
    "EdgeClient",
    "EdgePool",
    "LinkCounts",
    "Source",
    "StepReply",
    "Verdict",
    "descend",
]
