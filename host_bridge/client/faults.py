"""What a failed call means: worth another try or not, in one line with the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from host_bridge._grpc import grpc
from host_bridge.handshake import MAX_WAIT_MS
from neucodex_lava.errors import BridgeError

FINAL: Final = frozenset(
    {
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
        "OUT_OF_RANGE",
    }
)
"""Statuses that another try would only meet again."""

GAP: Final = "OUT_OF_RANGE"
"""A message is missing in the order: a defect, or lost on a connection that was damaged elsewhere."""

_NEVER_DAMAGE: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
"""The final statuses that a damaged connection does not bring about by itself."""

_START: Final = "start it with: neucodex serve BUNDLE"
_RETRY_AFTER: Final = "retry-after-ms"
_MAX_DETAIL: Final = 120


class Setback(Exception):
    """The link failed in a way that another try may mend; never leaves this package.

    Args:
        error: what to raise when nobody tries again.
        retry_after_s: what the server asks to wait before that, in seconds.
        cut: whether the connection is suspect, not only the stream.
    """

    def __init__(
        self, error: BridgeError, retry_after_s: float = 0.0, *, cut: bool = False
    ) -> None:
        super().__init__(error)
        self.error, self.retry_after_s, self.cut = error, retry_after_s, cut


def refused(error: BridgeError, retry_after_s: float = 0.0) -> Exception:
    """What to raise for an ERROR message: its status decides."""
    return error if error.status in FINAL else Setback(error, retry_after_s)


def silent(target: str, timeout_s: float, where: str) -> Setback:
    """The setback of an answer that did not come in time.

    Args:
        target: host:port.
        timeout_s: how long it was waited for, in seconds.
        where: sample and timestep; empty before the session was open.
    """
    if where:
        error = BridgeError(
            f"no answer from the cloud server at {target} within {timeout_s:g} s at {where}",
            "is it overloaded, or the link down? a larger timeout waits longer",
            "DEADLINE_EXCEEDED",
        )
    else:
        error = BridgeError(
            f"no answer from {target} within {timeout_s:g} s",
            f"is a neucodex server listening there? {_START}",
            "DEADLINE_EXCEEDED",
        )
    return Setback(error, cut=True)


def explain(target: str, error: Any, where: str, was_open: bool) -> Exception:
    """What to raise for a call that gRPC ended without an ERROR message: a setback, or the end.

    Args:
        target: host:port.
        error: the `grpc.RpcError`.
        where: sample and timestep; empty before the session was open.
        was_open: whether a server has taken this session before: after that only a refusal of who we
            are is believed, because a damaged connection shows as any other status.
    """
    code, known = error.code(), grpc().StatusCode
    detail = _last_words(error.details() or "")
    if code is known.RESOURCE_EXHAUSTED:
        text, hint = f"the cloud server at {target} refuses: {detail}", "try again later"
    elif code in (known.UNAUTHENTICATED, known.PERMISSION_DENIED):
        text, hint = f"the cloud server at {target} refuses: {detail}", "see docs/security.md"
    elif code is known.UNIMPLEMENTED:
        text, hint = f"{target} is a gRPC server but no neucodex server", _START
    elif where:
        text, hint = f"lost the cloud server at {target} at {where}: {detail}", _START
    else:
        text, hint = f"cannot reach a cloud server at {target}: {detail}", _START
    told = BridgeError(text, hint, code.name)
    if code.name in (_NEVER_DAMAGE if was_open else FINAL):
        return told
    cut = code is not known.RESOURCE_EXHAUSTED
    return Setback(told, _retry_after_s(error.trailing_metadata() or ()), cut=cut)


def _retry_after_s(metadata: Iterable[tuple[str, str | bytes]]) -> float:
    for name, value in metadata:
        if name == _RETRY_AFTER and isinstance(value, str) and value.isdecimal():
            return min(int(value[:9]), MAX_WAIT_MS) * 1e-3
    return 0.0


def _last_words(details: str) -> str:
    # gRPC nests the cause last: "failed to connect to all addresses; last error: ...: refused (111)"
    words = details.splitlines()[0].rsplit(": ", 1)[-1] if details else "no reason given"
    return "".join(c if c.isprintable() else "?" for c in words[:_MAX_DETAIL].rstrip("]"))
