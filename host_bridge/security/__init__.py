"""Who may talk to whom: TLS, client certificates, bearer tokens; see docs/security.md."""

from host_bridge.security.client import ClientSecurity
from host_bridge.security.server import ServerSecurity

__all__ = ["ClientSecurity", "ServerSecurity"]
