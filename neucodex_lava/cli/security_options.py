"""Options that say who may talk to whom over the bridge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from host_bridge.security import ClientSecurity, ServerSecurity

File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]

TOKEN_VARIABLE = "NEUCODEX_TOKEN"


@dataclass(frozen=True, kw_only=True)
class ServerSecurityOptions:
    """Of a server; neucodex certs makes the files."""

    certificate: File = None
    """PEM file of the server's certificate, its chain after it: the port is TLS."""
    key: File = None
    """PEM file of its private key."""
    client_ca: File = None
    """PEM file of a CA: only edges with a certificate that it signed are let in."""
    tokens: File = None
    """File of lines NAME:SHA256-OF-TOKEN: only edges with such a token are let in."""

    def security(self) -> ServerSecurity | None:
        """What they say; None for a plain port that lets anyone in.

        Raises:
            ConfigError: as `ServerSecurity`.
        """
        from host_bridge.security import ServerSecurity

        if not (self.certificate or self.key or self.client_ca or self.tokens):
            return None
        return ServerSecurity(self.certificate, self.key, self.client_ca, self.tokens)


@dataclass(frozen=True, kw_only=True)
class ClientSecurityOptions:
    """Of an edge; neucodex certs makes the files."""

    ca: File = None
    """PEM file of the certificates that may have signed the server's: the connection is TLS."""
    client_certificate: File = None
    """PEM file of a certificate, for servers with --client-ca."""
    client_key: File = None
    """PEM file of its private key."""
    token_file: File = None
    """File with the token, for servers with --tokens; or the environment variable NEUCODEX_TOKEN."""

    def security(self) -> ClientSecurity | None:
        """What they say; None for a plain connection.

        Raises:
            ConfigError: as `ClientSecurity`, and a token file that cannot be read.
        """
        import os

        from host_bridge.security import ClientSecurity
        from host_bridge.security.tokens import read_token

        token = os.environ.get(TOKEN_VARIABLE)
        if self.token_file is not None:
            token = read_token(self.token_file)
        if not (self.ca or self.client_certificate or self.client_key or token):
            return None
        return ClientSecurity(self.ca, self.client_certificate, self.client_key, token)
