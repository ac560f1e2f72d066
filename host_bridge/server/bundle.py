"""A bundle as it is served: its tail, what reads its codes, and what runs its steps."""

from __future__ import annotations

from typing import Final

from host_bridge.codecs import Decoder, Tables, check_shape, limit_bytes
from host_bridge.handshake import short
from host_bridge.messages import MAX_JSON_BYTES
from host_bridge.tail import Tail
from neucodex_lava.errors import BridgeError, ConfigError, NeucodexError

_TABLES_HINT: Final = "give both sides the same bundle, with its coding tables"


class ServedBundle:
    """One tail, for any number of sessions.

    Args:
        tail: what computes; its attribute `coding`, where it has one, are the bundle's coding tables.

    Attributes:
        coding: sha256 of the coding tables; empty for none.
        payload_limit: the longest payload that a session of it may send, in bytes.

    Raises:
        ConfigError: a tail beyond the wire's limits.
    """

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        tables: Tables | None = getattr(tail, "coding", None)
        try:
            check_shape(tail.code_shape, tail.code_bits)
            self._plain = Decoder(tail.code_shape, tail.code_bits)
            self._coded = (
                None if tables is None else Decoder(tail.code_shape, tail.code_bits, tables)
            )
        except NeucodexError as error:
            raise ConfigError(f"bundle {tail.model}: {error.message}") from error
        self.coding = "" if tables is None else tables.sha256
        self.payload_limit = max(MAX_JSON_BYTES, limit_bytes(tail.code_shape, tail.code_bits))

    def decoder_for(self, coding: str | None) -> Decoder:
        """What reads the codes of a session that uses these coding tables, by sha256; None: none.

        Raises:
            BridgeError: other tables than the bundle's; status FAILED_PRECONDITION.
        """
        if coding is None:
            return self._plain
        if self._coded is None or coding != self.coding:
            ours = f"has {short(self.coding)}" if self.coding else "has none"
            raise BridgeError(
                f"the edge uses coding tables {short(coding)}, the server's bundle {ours}",
                _TABLES_HINT,
                "FAILED_PRECONDITION",
            )
        return self._coded
