"""What an edge asks for in OPEN, held against what is served."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from host_bridge.codecs import Decoder
from host_bridge.handshake import Open, short
from host_bridge.messages import Message
from host_bridge.server.bundle import ServedBundle
from neucodex_lava.errors import BridgeError, ProtocolError


@dataclass(frozen=True)
class Opening:
    """What is known of a session once its OPEN has been accepted.

    Args:
        bundle: what it runs on, whatever is served later.
        number, epoch: of the session.
        t_max: most timesteps of a sample.
        deadline_s: longest wait of a timestep for its turn, in seconds.
        decoder: of its codes.
        versions: what the edge runs, for logs.
    """

    bundle: ServedBundle
    number: int
    epoch: int
    t_max: int
    deadline_s: float
    decoder: Decoder
    versions: Mapping[str, str]

    @property
    def name(self) -> str:
        """The session's number for logs, 16 hex digits."""
        return f"{self.number:016x}"


def accept(message: Message, bundles: Mapping[str, ServedBundle]) -> Opening:
    """Read an OPEN.

    Raises:
        ProtocolError: malformed, or codes or timesteps that are not the bundle's.
        BridgeError: a bundle, or coding tables, that are not served.
    """
    asked = Open.from_bytes(message.payload)
    bundle = bundles.get(asked.model)
    if bundle is None:
        served = ", ".join(short(model) for model in bundles)
        raise BridgeError(
            f"the server serves bundle {served}, the edge runs {short(asked.model)}",
            "give both sides the same bundle: neucodex serve BUNDLE",
            "FAILED_PRECONDITION",
        )
    tail = bundle.tail
    theirs, ours = (asked.code_shape, asked.code_bits), (tail.code_shape, tail.code_bits)
    if theirs != ours:
        raise ProtocolError(
            f"the edge sends codes of shape {theirs[0]} at {theirs[1]} bit, "
            f"bundle {short(asked.model)} takes {ours[0]} at {ours[1]} bit",
            status="FAILED_PRECONDITION",
        )
    if asked.t_max > tail.t_max:
        raise ProtocolError(
            f"the edge asks for {asked.t_max} timesteps, the tail takes {tail.t_max} at most",
            status="OUT_OF_RANGE",
        )
    return Opening(
        bundle,
        message.session,
        message.epoch,
        asked.t_max,
        asked.deadline_ms / 1000 if asked.deadline_ms else math.inf,
        bundle.decoder_for(asked.coding),
        asked.versions,
    )
