"""A server's certificate, read anew when its files change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from host_bridge._grpc import grpc
from host_bridge.security.pem import read_ca, read_pair, stamp
from neucodex_lava.errors import ConfigError

_LOG: Final = logging.getLogger(__name__)


class Renewal:
    """What gRPC asks at every handshake: has the certificate changed?

    Args:
        certificate, key, client_ca: as `ServerSecurity` has them.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._seen = self._stamps()

    def __call__(self) -> Any:
        """The new configuration, or None while the old one is to stay."""
        stamps = self._stamps()
        if stamps == self._seen:
            return None
        try:
            found = self.read()
        except ConfigError as error:
            # Not for ever: the other of the two files may be written a moment later.
            _LOG.error("the old certificate stays: %s", error)
            return None
        self._seen = stamps
        _LOG.info("certificate %s is shown from now on", self._certificate)
        return found

    def read(self) -> Any:
        """gRPC's configuration of the files as they are now; `ConfigError` when they do not do."""
        pair = read_pair(self._certificate, self._key, server=True)
        roots = read_ca(self._client_ca, "client CA") if self._client_ca is not None else None
        return grpc().ssl_server_certificate_configuration([pair], roots)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        paths = (self._certificate, self._key, self._client_ca)
        return tuple(stamp(path) for path in paths if path is not None)
