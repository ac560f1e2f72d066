"""The edge's end of the bridge: sessions that survive their connection, called from a plain loop."""

from __future__ import annotations

from host_bridge.client.client import EdgeClient
from host_bridge.client.log import LinkCounts, StepReply

__all__ = ["EdgeClient", "LinkCounts", "StepReply"]
