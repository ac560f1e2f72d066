"""The one exception tree. Every error a user can cause is a `NeucodexError`: one line that says
what, where, the limit and the value found, and a hint that says what to do.

The command line prints `message` (and `hint`) and exits with status 2. Anything else that escapes is
a defect of ours and keeps its traceback.
"""

from __future__ import annotations


class NeucodexError(Exception):
    """Base of all errors a user can cause or must act on.

    Args:
        message: one line, no final full stop needed: what is wrong, where, the limit, the value.
        hint: one line: the way out. Empty when the message says it all.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint)


class ConfigError(NeucodexError):
    """A value in a configuration or on the command line is outside what is allowed."""


class DataError(NeucodexError):
    """A dataset is missing, truncated or not what it should be."""


class NetError(NeucodexError):
    """A network breaks a rule of the integer semantics or a limit of the hardware."""


class OverflowInRunError(NetError):
    """A synaptic sum left the 24-bit range during a run, so results would differ from the chip."""


class FormatError(NeucodexError):
    """A file is not in the format it should be in (NetX HDF5, safetensors, ledger JSON)."""


class BundleError(FormatError):
    """A bundle is incomplete, changed, too new, or does not fit its base."""


class SimulationError(NeucodexError):
    """A simulation could not start, or one of its processes failed or died."""


class MissingDependencyError(NeucodexError):
    """A part of neucodex-lava was asked for whose optional packages are not installed."""


class BridgeError(NeucodexError):
    """The host bridge failed: server unreachable, silent, or refusing.

    Args:
        message, hint: as `NeucodexError`.
        status: name of the gRPC status that says so on the wire, such as ``"UNAVAILABLE"``; empty
            where there is none.
    """

    def __init__(self, message: str, hint: str = "", status: str = "") -> None:
        super().__init__(message, hint)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.hint, self.status)


class ProtocolError(BridgeError):
    """A message on the wire is malformed or breaks the protocol."""
