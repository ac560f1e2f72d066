"""Bearer tokens: the server keeps their sha256 only, by name."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from pathlib import Path
from typing import Final

from host_bridge.security.pem import read_file, stamp
from neucodex_lava.errors import ConfigError

MIN_TOKEN_CHARACTERS: Final = 16
MAX_TOKEN_CHARACTERS: Final = 512

_LINE: Final = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64}):(?P<digest>[0-9a-f]{64})")
_TOKEN: Final = re.compile(rf"[!-~]{{{MIN_TOKEN_CHARACTERS},{MAX_TOKEN_CHARACTERS}}}")
_HINT: Final = "lines of NAME:SHA256-OF-TOKEN; neucodex certs writes one"
_LOG: Final = logging.getLogger(__name__)


def check_token(token: str) -> str:
    """The token itself; `ConfigError` when it is none: 16 to 512 printable ASCII characters."""
    if not _TOKEN.fullmatch(token):
        # Not shown: it may be a real one with one character too many.
        raise ConfigError(
            f"the token is not {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} printable characters",
            "a random one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def read_token(path: Path) -> str:
    """An edge's token from its file; `ConfigError` when it cannot be read or is none."""
    return check_token(read_file(path, "token", secret=True).decode("utf-8", "replace").strip())


def token_line(name: str, token: str) -> str:
    """The line of a server's token file that lets `token` in as `name`."""
    line = f"{name}:{hashlib.sha256(check_token(token).encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise ConfigError(f"{ascii(name)[:70]} is not a name of letters, digits and . _ @ -")
    return line


class Tokens:
    """The tokens a server takes. The file is read anew when it changes, so a line removed is a token
    revoked (for new sessions) without a restart.

    Args:
        path: file of lines ``name:sha256 of the token``, in hex; empty lines and ``#`` are passed over.

    Raises:
        ConfigError: the file cannot be read, is open to everyone, malformed, or names no token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = stamp(path)
        self._digests = _read(path)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None when it is nobody's. Takes as long for any token."""
        self._refresh()
        found: str | None = None
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _refresh(self) -> None:
        seen = stamp(self._path)
        if seen == self._stamp:
            return
        self._stamp = seen
        try:
            self._digests = _read(self._path)
        except ConfigError as error:
            # Whoever broke the file meant to change who may enter: until that is clear, nobody may.
            self._digests = ()
            _LOG.error("no token is taken any more: %s", error)


def _read(path: Path) -> tuple[tuple[str, bytes], ...]:
    text = read_file(path, "token file", secret=True).decode("utf-8", "replace")
    digests: list[tuple[str, bytes]] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            raise ConfigError(f"line {number} of the token file {path} is malformed", _HINT)
        digests.append((match["name"], bytes.fromhex(match["digest"])))
    if not digests:
        raise ConfigError(f"the token file {path} names no token", _HINT)
    return tuple(digests)
