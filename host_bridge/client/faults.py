"""What a failed call means, in one line with the way out."""

from __future__ import annotations

from typing import Any, Final

from host_bridge._grpc import grpc
from neucodex_lava.errors import BridgeError

_START: Final = "start it with: neucodex serve BUNDLE"
_MAX_DETAIL: Final = 120


def silent(target: str, timeout_s: float, where: str) -> BridgeError:
    """The error for an answer that did not come in time.

    Args:
        target: host:port.
        timeout_s: how long it was waited for, in seconds.
        where: sample and timestep; empty before the session was open.
    """
    if where:
        return BridgeError(
            f"no answer from the cloud server at {target} within {timeout_s:g} s at {where}",
            "is it overloaded, or the link down? a larger timeout waits longer",
        )
    return BridgeError(
        f"no answer from {target} within {timeout_s:g} s",
        f"is a neucodex server listening there? {_START}",
    )


def explain(target: str, error: Any, where: str) -> BridgeError:
    """The error for a call that gRPC ended.

    Args:
        target: host:port.
        error: the `grpc.RpcError`.
        where: sample and timestep; empty before the session was open.
    """
    code, status = error.code(), grpc().StatusCode
    detail = _last_words(error.details() or "")
    if code is status.RESOURCE_EXHAUSTED:
        return BridgeError(
            f"the cloud server at {target} refuses: {detail}",
            "try again later, or let it hold more",
        )
    if code is status.UNIMPLEMENTED:
        return BridgeError(f"{target} is a gRPC server but no neucodex server", _START)
    if where:
        return BridgeError(f"lost the cloud server at {target} at {where}: {detail}", _START)
    return BridgeError(f"cannot reach a cloud server at {target}: {detail}", _START)


def _last_words(details: str) -> str:
    # gRPC nests the cause last: "failed to connect to all addresses; last error: ...: refused (111)"
    words = details.splitlines()[0].rsplit(": ", 1)[-1] if details else "no reason given"
    return "".join(c if c.isprintable() else "?" for c in words[:_MAX_DETAIL].rstrip("]"))
