"""What a server said: a message, a setback, or the end."""

from __future__ import annotations

import math
import time
from typing import Final

from host_bridge.client.channels import MAX_REPLY_PAYLOAD
from host_bridge.client.faults import Setback, refused
from host_bridge.client.stream import Stream
from host_bridge.handshake import Refusal
from host_bridge.messages import DAMAGED, Kind, Message, decode
from neucodex_lava.errors import BridgeError, ProtocolError

_LAST_WORDS_S: Final = 0.5
_MAY_SAY_WHEN: Final = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


def hear(stream: Stream, raw: bytes, until: float = math.inf) -> Message:
    """Decode what a server said.

    Args:
        stream: that it came over.
        raw: the message.
        until: after that the end of a call is not waited for, in seconds of `time.monotonic()`.

    Raises:
        Setback: damaged on its way, or an ERROR that another try may mend.
        BridgeError: an ERROR for good, or a malformed message.
    """
    try:
        message = decode(raw, MAX_REPLY_PAYLOAD)
    except ProtocolError as error:
        if error.status == DAMAGED:
            raise Setback(error) from error
        raise
    if message.kind is not Kind.ERROR:
        return message
    error = Refusal.from_bytes(message.payload).error()
    raise refused(error, _asked_to_wait_s(stream, error, until))


def _asked_to_wait_s(stream: Stream, error: BridgeError, until: float) -> float:
    # The server says it at the end of the call, after the ERROR.
    if error.status not in _MAY_SAY_WHEN:
        return 0.0
    try:
        stream.receive(min(_LAST_WORDS_S, max(0.0, until - time.monotonic())))
    except Setback as end:
        return end.retry_after_s
    except BridgeError:
        pass
    return 0.0
