"""A small certificate authority for development: one call makes all that both sides need."""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from host_bridge.security.tokens import token_line
from neucodex_lava.errors import ConfigError, MissingDependencyError

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
MAX_DAYS: Final = 3650

_SKEW: Final = datetime.timedelta(minutes=5)
"""How far another machine's clock may be behind."""


@dataclass(frozen=True)
class Files:
    """What `make_certificates` wrote. Only the first four concern the server, the last three the edge.

    Args:
        ca, server_certificate, server_key, tokens: of the server; `ca` is also its client CA.
        client_certificate, client_key, token: of the edge, which trusts `ca` too.
        ca_key: signs further certificates; no machine in service needs it.
    """

    ca: Path
    server_certificate: Path
    server_key: Path
    tokens: Path
    client_certificate: Path
    client_key: Path
    token: Path
    ca_key: Path


def make_certificates(
    folder: Path,
    *,
    hosts: Sequence[str] = LOOPBACK,
    client: str = "edge",
    days: float = 30,
    valid_from_s: float = 0,
) -> Files:
    """Make an authority, a server's and a client's certificate, and a token. Keys are P-256.

    Args:
        folder: where the files go; made if need be. Files that are there are never overwritten.
        hosts: names and IP addresses that edges will reach the server by.
        client: the edge's name, in its certificate and beside its token.
        days: how long the certificates are valid.
        valid_from_s: when they begin to be, in seconds from now; negative for the past.

    Raises:
        ConfigError: a file exists, a name is none, a length out of range, or the folder cannot be
            written; none of the files is there then.
        MissingDependencyError: the package cryptography is not installed.
    """
    if not 0 < days <= MAX_DAYS:
        raise ConfigError(f"days is {days}, expected above 0 and at most {MAX_DAYS}")
    if not hosts:
        raise ConfigError("no host for the server's certificate", "for instance 127.0.0.1")
    token = secrets.token_urlsafe(32)
    line = token_line(client, token)
    x509 = _library("x509")
    names = [_alternative_name(x509, host) for host in hosts]
    files = Files(
        ca=folder / "ca.crt",
        server_certificate=folder / "server.crt",
        server_key=folder / "server.key",
        tokens=folder / "server.tokens",
        client_certificate=folder / "client.crt",
        client_key=folder / "client.key",
        token=folder / "client.token",
        ca_key=folder / "ca.key",
    )
    _check_new(files)
    start = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=valid_from_s)
    span = (start - _SKEW, start + datetime.timedelta(days=days))
    authority = _Authority(x509, "neucodex development CA", span)
    role = x509.oid.ExtendedKeyUsageOID
    server_key, server = authority.issue(hosts[0][:64], role.SERVER_AUTH, names)
    client_key, edge = authority.issue(client, role.CLIENT_AUTH, [x509.DNSName(client)])
    private = {
        files.ca_key: authority.key_pem,
        files.server_key: server_key,
        files.client_key: client_key,
        files.tokens: f"{line}\n".encode(),
        files.token: f"{token}\n".encode(),
    }
    public = {
        files.ca: authority.certificate_pem,
        files.server_certificate: server,
        files.client_certificate: edge,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_all(private, public)
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return files


class _Authority:
    """Signs certificates; its own is signed by itself."""

    def __init__(
        self, x509: Any, name: str, span: tuple[datetime.datetime, datetime.datetime]
    ) -> None:
        self._x509 = x509
        self._span = span
        self._name = _subject(x509, name)
        self._key = _new_key()
        usage = x509.KeyUsage(*(name in ("cert", "crl") for name in _USAGES))
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        self.key_pem = _pem(self._key)
        self.certificate_pem = self._sign(certificate)

    def issue(self, name: str, role: Any, alternatives: Sequence[Any]) -> tuple[bytes, bytes]:
        """A new key and the certificate for it, both PEM."""
        x509, key = self._x509, _new_key()
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        usage = x509.KeyUsage(*(name == "signature" for name in _USAGES))
        certificate = (
            self._builder(_subject(x509, name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([role]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(authority, critical=False)
        )
        return _pem(key), self._sign(certificate)

    def _builder(self, subject: Any, public_key: Any) -> Any:
        x509 = self._x509
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._span[0])
            .not_valid_after(self._span[1])
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    def _sign(self, builder: Any) -> bytes:
        hashes, serialization = (
            _library("hazmat.primitives.hashes"),
            _library("hazmat.primitives.serialization"),
        )
        signed: bytes = builder.sign(self._key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )
        return signed


# In the order of `x509.KeyUsage`'s arguments.
_USAGES: Final = (
    *("signature", "commitment", "key encipherment", "data encipherment", "key agreement"),
    *("cert", "crl", "encipher only", "decipher only"),
)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.{name}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "certificates are made with the package 'cryptography', which is not installed",
            "pip install 'neucodex-lava[cloud]'",
        ) from error


def _new_key() -> Any:
    ec = _library("hazmat.primitives.asymmetric.ec")
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: Any) -> bytes:
    s = _library("hazmat.primitives.serialization")
    pem: bytes = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    return pem


def _subject(x509: Any, name: str) -> Any:
    return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])


def _alternative_name(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host.isascii() or not host or set(host) - _HOST_CHARACTERS:
        raise ConfigError(f"{ascii(host)[:70]} is neither a host name nor an IP address")
    return x509.DNSName(host)


_HOST_CHARACTERS: Final = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*")


def _check_new(files: Files) -> None:
    for path in vars(files).values():
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path} exists and is not overwritten", "choose another folder")


def _write_all(private: Mapping[Path, bytes], public: Mapping[Path, bytes]) -> None:
    written: list[Path] = []
    try:
        for contents, mode in ((private, 0o600), (public, 0o644)):
            for path, content in contents.items():
                # O_EXCL: neither a file nor a link that appeared since is written through.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                written.append(path)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
    except BaseException:
        # Half a set would be in the way of a whole one.
        for path in written:
            path.unlink(missing_ok=True)
        raise
