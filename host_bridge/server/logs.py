"""Log lines of sessions: text that names the session, and the same as fields for JSON."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

from host_bridge.handshake import Refusal
from neucodex_lava.errors import MissingDependencyError

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler

LogFormat = Literal["text", "json"]

_LOG: Final = logging.getLogger("host_bridge.server")
_FIELDS: Final = "neucodex"
_LEVELS: Final = {"INTERNAL": logging.ERROR, "UNAVAILABLE": logging.INFO}
"""Of refusals by status, where it is not a warning: our own end is none."""


def log(
    level: int,
    session: str,
    event: str,
    more: str = "",
    error: Exception | None = None,
    **fields: Any,
) -> None:
    """Write a line about a session.

    Args:
        level: of the logging module.
        session: its number, 16 hex digits.
        event: one word: opened, refused, ended.
        more: the rest of the text; in JSON the fields say it.
        error: whose traceback the line carries.
        fields: what JSON says beside session and event.
    """
    if not _LOG.isEnabledFor(level):
        return
    extra = {_FIELDS: {"session": session, "event": event, **fields}}
    _LOG.log(level, "session %s %s%s", session, event, more, extra=extra, exc_info=error)


def log_refusal(session: str, peer: str, reason: Refusal, error: Exception) -> None:
    """Write that a session was refused, or ended; a defect of ours with its traceback."""
    log(
        _LEVELS.get(reason.status, logging.WARNING),
        session,
        "refused",
        f": {reason.message}",
        error if reason.status == "INTERNAL" else None,
        peer=peer,
        status=reason.status,
        reason=reason.message,
    )


class _LossyHandler(_StreamHandler):
    """Serving goes on when a log line cannot be written, for instance to a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lose the line; logging would write a traceback to the same full disk."""


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    # gRPC writes a traceback for each header that is no text: any stranger could fill the log so.
    return not str(record.msg).startswith("Invalid encoding on")


def configure_logs(form: LogFormat, stream: TextIO | None = None) -> None:
    """Have this process write its log, from INFO on.

    Args:
        form: ``text``, or ``json`` with one object a line: `timestamp`, `level`, `event`, and for a
            line about a session `session`, `peer`, `bundle`, `status`, ...
        stream: where to; stderr by default.

    Raises:
        MissingDependencyError: ``json`` without structlog.
    """
    handler = _LossyHandler(sys.stderr if stream is None else stream)
    if form == "json":
        handler.setFormatter(_json_formatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    handler.addFilter(_is_ours_to_tell)


def _json_formatter() -> logging.Formatter:
    try:
        structlog: Any = importlib.import_module("structlog")
    except ImportError as error:
        raise MissingDependencyError(
            "--log-format json needs structlog, which is not installed",
            'pip install "neucodex-lava[cloud]"',
        ) from error

    def session_fields(_logger: Any, _name: str, event: dict[str, Any]) -> dict[str, Any]:
        return {**event, **getattr(event["_record"], _FIELDS, {})}

    stdlib, processors = structlog.stdlib, structlog.processors
    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            stdlib.add_log_level,
            processors.TimeStamper(fmt="iso", utc=True),
            session_fields,
        ],
        processors=[
            stdlib.ProcessorFormatter.remove_processors_meta,
            processors.format_exc_info,
            processors.JSONRenderer(),
        ],
    )
