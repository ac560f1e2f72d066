"""The cloud's side: who is let in."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from host_bridge._grpc import grpc
from host_bridge.address import is_loopback
from host_bridge.security.renewal import Renewal
from host_bridge.security.tokens import MAX_TOKEN_CHARACTERS, Tokens
from neucodex_lava.errors import BridgeError, ConfigError

ANYONE: Final = "anyone"
"""The name of a peer whose identity nobody asked for."""

_UNAUTHENTICATED: Final = "UNAUTHENTICATED"
_BEARER: Final = "bearer "
_MAX_NAME: Final = 80
_TOKEN_HINT: Final = "give the edge one that the server knows: neucodex infer --token-file FILE"


@dataclass(frozen=True)
class ServerSecurity:
    """What a server shows, and what it asks of its peers. All that is given is asked for.

    Args:
        certificate: PEM file of the server's certificate, its chain after it; None for a plain port.
        key: PEM file of its private key.
        client_ca: PEM file of the certificates that must have signed a peer's; None asks for none.
        tokens: file of ``name:sha256 of the token`` lines, one of which a peer must show; None asks
            for none.

    Raises:
        ConfigError: files that are missing, malformed, expired, open to everyone or do not fit each
            other; a `client_ca` without a certificate of the server's own.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    tokens: Path | None = None
    _tokens: Tokens | None = field(init=False, repr=False, default=None, compare=False)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a certificate and its key are given together, or neither")
        if self.client_ca is not None and self.certificate is None:
            raise ConfigError(
                "client certificates are asked for over TLS only",
                "give --certificate and --key as well",
            )
        self.credentials()
        if self.tokens is not None:
            object.__setattr__(self, "_tokens", Tokens(self.tokens))

    @property
    def encrypted(self) -> bool:
        """Whether the port is TLS."""
        return self.certificate is not None

    @property
    def protects(self) -> bool:
        """TLS with tokens or client certificates: what listening beyond loopback needs."""
        return self.encrypted and (self.client_ca is not None or self.tokens is not None)

    def check_host(self, host: str) -> None:
        """`ConfigError` when `host` is beyond loopback and this does not protect it."""
        if self.protects or is_loopback(host):
            return
        lacks, give = (
            ("the server would let anyone in", "--tokens or --client-ca")
            if self.encrypted
            else (
                "nothing would be encrypted",
                "--certificate and --key, and --tokens or --client-ca",
            )
        )
        raise ConfigError(
            f"host {host} is not loopback, and {lacks}",
            f"listen on 127.0.0.1, or give {give}; neucodex certs makes such files",
        )

    def credentials(self) -> Any:
        """gRPC's server credentials; None for a plain port.

        The files are read anew when they change, so that a certificate is renewed, for connections to
        come, without a restart; while they do not do, the old ones stay.

        Raises:
            ConfigError: as the class.
        """
        if self.certificate is None or self.key is None:
            return None
        renewal = Renewal(self.certificate, self.key, self.client_ca)
        return grpc().dynamic_ssl_server_credentials(
            renewal.read(), renewal, self.client_ca is not None
        )

    def add_port(self, server: Any, address: str) -> int:
        """Let a gRPC server, synchronous or asyncio, listen on ``host:port``; returns the port.

        Raises:
            ConfigError: as the class.
            RuntimeError: from gRPC, when the address cannot be bound.
        """
        credentials = self.credentials()
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))

    def authorise(
        self,
        invocation_metadata: Iterable[Sequence[Any]] | None,
        auth_context: Mapping[str, Iterable[bytes]],
    ) -> str:
        """Who opens this stream. TLS has checked the certificate before; this checks the token.

        Args:
            invocation_metadata: pairs of key and value, as the gRPC context gives them.
            auth_context: the same context's.

        Returns:
            The peer's name, for logs, limits and whose a session is: of its token, else of its
            certificate (the common name, or where that is not 1 to 80 printable ASCII characters
            without spaces the SHA-256 fingerprint), else `ANYONE`.

        Raises:
            BridgeError: no token or a wrong one; status UNAUTHENTICATED.
        """
        if self._tokens is None:
            return _certificate_name(auth_context) or ANYONE
        shown = [
            str(value) for key, value, *_ in invocation_metadata or () if key == "authorization"
        ]
        if not shown:
            raise BridgeError("the server asks for a token", _TOKEN_HINT, _UNAUTHENTICATED)
        scheme, token = shown[0][: len(_BEARER)].lower(), shown[0][len(_BEARER) :]
        name = None
        if len(shown) == 1 and scheme == _BEARER and len(token) <= MAX_TOKEN_CHARACTERS:
            name = self._tokens.name_of(token)
        if name is None:
            raise BridgeError("the server does not know this token", _TOKEN_HINT, _UNAUTHENTICATED)
        return name


def _certificate_name(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    text = _first(auth_context, "x509_common_name").decode("ascii", "replace")
    # It goes into logs, and a CA may have signed anything.
    if 0 < len(text) <= _MAX_NAME and all("!" <= c <= "~" for c in text):
        return text
    # What was cut or replaced could be another's name; with a space in it, it is no common name.
    pem = _first(auth_context, "x509_pem_cert").decode("ascii")
    return f"certificate {sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}" if pem else ""


def _first(auth_context: Mapping[str, Iterable[bytes]], key: str) -> bytes:
    return next((bytes(value) for value in auth_context.get(key, ())), b"")
