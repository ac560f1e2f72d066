"""The edge's side: which server to trust, and what to show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_bridge._grpc import grpc
from host_bridge.address import is_loopback, parse_address
from host_bridge.security.diagnosis import tls_problem
from host_bridge.security.pem import read_ca, read_pair
from host_bridge.security.tokens import check_token
from neucodex_lava.errors import BridgeError, ConfigError


@dataclass(frozen=True)
class ClientSecurity:
    """What an edge trusts and shows. With `ca` the channel is TLS, else plain.

    Args:
        ca: PEM file of the certificates that may have signed the server's; None for a plain channel.
        certificate: PEM file of the edge's own certificate, for servers that ask for one.
        key: PEM file of its private key.
        token: bearer token, for servers that ask for one.

    Raises:
        ConfigError: files that are missing, malformed, expired or do not fit each other; a
            certificate without `ca`; a token that is none.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a client certificate and its key are given together, or neither")
        if self.certificate is not None and self.ca is None:
            raise ConfigError(
                "a client certificate without the CA that the server is checked against",
                "give --ca as well",
            )
        if self.token is not None:
            check_token(self.token)
        self.credentials()

    def __repr__(self) -> str:
        shown = "set" if self.token else "None"
        return (
            f"ClientSecurity(ca={self.ca}, certificate={self.certificate}, key={self.key}, "
            f"token={shown})"
        )

    @property
    def encrypted(self) -> bool:
        """Whether the channel is TLS."""
        return self.ca is not None

    def credentials(self) -> Any:
        """gRPC's channel credentials, for its synchronous and its asyncio channels; None for plain.

        Raises:
            ConfigError: as the class; the files are read and tried anew each time.
        """
        if self.ca is None:
            return None
        roots = read_ca(self.ca, "CA")
        private = chain = None
        if self.certificate is not None and self.key is not None:
            private, chain = read_pair(self.certificate, self.key, server=False)
        return grpc().ssl_channel_credentials(roots, private, chain)

    def channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> Any:
        """A `grpc.Channel` to `target`.

        Raises:
            ConfigError: as the class, and a token that would leave this machine in the clear.
        """
        self.check_target(target)
        credentials = self.credentials()
        if credentials is None:
            return grpc().insecure_channel(target, options=list(options))
        return grpc().secure_channel(target, credentials, options=list(options))

    def check_target(self, target: str) -> None:
        """`ConfigError` when the token would be sent to another machine without TLS."""
        host, _ = parse_address(target)
        if self.token is not None and not self.encrypted and not is_loopback(host):
            raise ConfigError(
                f"the token would go to {target} unencrypted",
                "give --ca, the certificate that the server's is checked against",
            )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries: the token, or nothing."""
        return (("authorization", f"Bearer {self.token}"),) if self.token is not None else ()

    def explain(self, target: str) -> BridgeError | None:
        """Why a channel to `target` does not come about, if TLS is the reason; to be asked when gRPC
        says UNAVAILABLE. Connects once more, and takes two seconds at most.
        """
        return tls_problem(target, self.ca, self.certificate, self.key)
