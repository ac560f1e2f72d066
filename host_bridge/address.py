"""host:port, as people write it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from neucodex_lava.errors import ConfigError

_TARGET: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})"
)


def parse_address(target: str) -> tuple[str, int]:
    """Split `host:port` or `[ipv6]:port`; `ConfigError` when it is neither."""
    hint = "write it as HOST:PORT, for instance 127.0.0.1:50051"
    match = _TARGET.fullmatch(target)
    if match is None:
        raise ConfigError(f"{ascii(target)[:80]} is not the address of a cloud server", hint)
    host, port = match["v6"] or match["name"], int(match["port"])
    if not 1 <= port <= 0xFFFF:
        raise ConfigError(f"port {port} in {target}, expected 1..65535", hint)
    if match["v6"]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ConfigError(f"[{host}] is not an IPv6 address", hint) from error
    return host, port


def join_address(host: str, port: int) -> str:
    """host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
