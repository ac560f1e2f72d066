"""Links to the cloud, as numbers with sources and as a proxy that behaves, or misbehaves, like one."""

from host_bridge.links.faults import Faults
from host_bridge.links.presets import LOOPBACK, Link, Source, link, links
from host_bridge.links.proxy import FaultProxy

__all__ = ["LOOPBACK", "FaultProxy", "Faults", "Link", "Source", "link", "links"]
