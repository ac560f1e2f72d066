"""Certificate and key files, read and tried out before anyone connects."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Final

from neucodex_lava.errors import ConfigError

_BEGIN: Final = b"-----BEGIN "
_MAX_BYTES: Final = 1 << 20
_MAKE_NEW: Final = "neucodex certs makes new ones for development"


def read_file(path: Path, what: str, *, secret: bool = False) -> bytes:
    """A file's bytes.

    Args:
        path: where it lies.
        what: what it should be, for the error's text.
        secret: refuse it where everyone on the machine may read it.

    Raises:
        ConfigError: it cannot be read, is no file of a sensible size, or is open to everyone.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the {what} {path}: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"the {what} {path} is longer than {_MAX_BYTES} bytes")
    if secret and mode & stat.S_IRWXO:
        raise ConfigError(
            f"the {what} {path} is open to everyone on this machine", f"chmod 600 {path}"
        )
    return raw


def stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written anew; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_pem(path: Path, what: str, *, secret: bool = False) -> bytes:
    """A PEM file's bytes; `ConfigError` as `read_file`, and when it holds no PEM."""
    raw = read_file(path, what, secret=secret)
    if _BEGIN not in raw:
        raise ConfigError(f"the {what} {path} is not a PEM file")
    return raw


def read_ca(path: Path, what: str) -> bytes:
    """A file of certificates to trust; `ConfigError` when there is no certificate in it."""
    raw = read_pem(path, what)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"the {what} {path} holds no certificate") from error
    return raw


def read_pair(certificate: Path, key: Path, *, server: bool) -> tuple[bytes, bytes]:
    """A certificate (its chain after it) and its private key, in this order.

    Raises:
        ConfigError: a file cannot be read or is malformed, the key is open to everyone, encrypted or
            of another certificate, or the certificate is expired, not valid yet, or of the other role.
    """
    chain = read_pem(certificate, "certificate")
    private = read_pem(key, "private key", secret=True)
    _rehearse(certificate, key, server=server)
    return private, chain


def _rehearse(certificate: Path, key: Path, *, server: bool) -> None:
    # A handshake in memory with itself as the only trusted certificate: OpenSSL then says what a
    # stranger would say about dates and role, and no ASN.1 needs to be read here.
    cloud, edge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    edge.check_hostname = False
    judge, judged = (edge, cloud) if server else (cloud, edge)
    judged.verify_mode = ssl.CERT_NONE
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        judge.load_verify_locations(cafile=certificate)
        for side in (cloud, edge):
            side.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise ConfigError(
                f"the key {key} is not that of the certificate {certificate}"
            ) from error
        raise ConfigError(f"the certificate {certificate} or its key {key} is malformed") from error
    to_cloud, to_edge = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        edge.wrap_bio(to_edge, to_cloud, server_side=False),
        cloud.wrap_bio(to_cloud, to_edge, server_side=True),
    ]
    try:
        while ends:
            ends = [end for end in ends if not _advance(end)]
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"the certificate {certificate} is of no use: {error.verify_message}", _MAKE_NEW
        ) from error
    except ssl.SSLError as error:
        raise ConfigError(f"the certificate {certificate} is of no use: {error.reason}") from error


def _advance(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _no_password() -> str:
    raise ConfigError("the private key is encrypted", "gRPC takes plain keys only; chmod 600 it")
