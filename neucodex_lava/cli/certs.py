"""certs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from neucodex_lava.cli.common import Command


@dataclass(frozen=True, kw_only=True)
class Certs(Command):
    """Make certificates and a token for development: a CA of its own, a server's and an edge's.

    Files that exist are never overwritten. For service, take the certificates of your own CA.
    """

    folder: Positional[Path]
    """Where the files go."""
    host: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    """Names and IP addresses that edges reach the server by."""
    client: str = "edge"
    """The edge's name, in its certificate and beside its token."""
    days: float = 30
    """How long the certificates are valid."""

    def run(self) -> int:
        """Make them."""
        from dataclasses import asdict

        from host_bridge.security.development import make_certificates

        files = make_certificates(self.folder, hosts=self.host, client=self.client, days=self.days)
        server = (
            f"--certificate {files.server_certificate} --key {files.server_key}"
            f" --client-ca {files.ca} --tokens {files.tokens}"
        )
        edge = (
            f"--ca {files.ca} --client-certificate {files.client_certificate}"
            f" --client-key {files.client_key} --token-file {files.token}"
        )
        self.output(
            {**asdict(files), "server_options": server, "edge_options": edge},
            f"neucodex serve BUNDLE {server}",
            f"neucodex infer BUNDLE {edge}",
        )
        return 0
