"""Why a connection did not come about: gRPC says UNAVAILABLE for every reason, OpenSSL knows which."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final

from host_bridge.address import parse_address
from neucodex_lava.errors import BridgeError

_STATUS: Final = "UNAUTHENTICATED"


def tls_problem(
    target: str,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    timeout_s: float = 1.0,
) -> BridgeError | None:
    """What TLS has against a connection to `target`, found by trying once more without gRPC.

    Args:
        target: host:port.
        ca, certificate, key: as `ClientSecurity` has them; `ca` None for a plain channel.
        timeout_s: longest wait for each answer, in seconds.

    Returns:
        An error of status UNAUTHENTICATED, or None when TLS is not the reason.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    host, port = parse_address(target)
    try:
        if ca is not None:
            context.load_verify_locations(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        plain = socket.create_connection((host, port), timeout_s)
    except OSError:
        return None
    with plain:
        try:
            end = context.wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            return BridgeError(
                f"the certificate of {target} is refused: {error.verify_message}",
                "is --ca the authority that signed it, and HOST a name in it?",
                _STATUS,
            )
        except ssl.SSLError as error:
            if "ALERT" in (error.reason or ""):
                return _speaks_tls(target) if ca is None else _refused(target, certificate)
            return None if ca is None else _speaks_no_tls(target)
        except OSError:
            return None
        with end:
            if ca is None:
                return _speaks_tls(target)
            return None if _greets(end) else _refused(target, certificate)


def _greets(end: ssl.SSLSocket) -> bool:
    # TLS 1.3 lets the client finish before the server has looked at its certificate; a gRPC server
    # that likes it speaks first (SETTINGS), one that does not hangs up, mostly without an alert.
    try:
        return bool(end.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


def _refused(target: str, certificate: Path | None) -> BridgeError:
    asks = "refuses this edge's certificate" if certificate else "asks for a client certificate"
    return BridgeError(
        f"{target} {asks}",
        "give --client-certificate and --client-key, valid and signed by the server's client CA",
        _STATUS,
    )


def _speaks_no_tls(target: str) -> BridgeError:
    return BridgeError(
        f"{target} speaks no TLS", "leave --ca out, or give the server --certificate", _STATUS
    )


def _speaks_tls(target: str) -> BridgeError:
    return BridgeError(
        f"{target} speaks TLS only", "give --ca, the certificate that its own is signed by", _STATUS
    )
