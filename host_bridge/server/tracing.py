"""OpenTelemetry spans, one a session, where the environment names a collector."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from neucodex_lava.errors import MissingDependencyError

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def session_spans() -> Callable[[str, Mapping[str, Any]], Any] | None:
    """What starts a session's span: its number and attributes in, a span out. None: nobody traces.

    The exporter is OpenTelemetry's own, over OTLP and gRPC, and reads its other settings from the
    environment as well (``OTEL_SERVICE_NAME``, ``OTEL_EXPORTER_OTLP_HEADERS``, ...). A process that has
    set up a tracer provider keeps it.

    Raises:
        MissingDependencyError: the environment asks for spans, and OpenTelemetry is not installed.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        trace: Any = importlib.import_module("opentelemetry.trace")
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    except ImportError as error:
        raise MissingDependencyError(
            f"{' or '.join(_ENDPOINTS)} asks for spans, and OpenTelemetry is not installed",
            'pip install "neucodex-lava[otel]"',
        ) from error
    if not isinstance(trace.get_tracer_provider(), sdk.TracerProvider):
        os.environ.setdefault("OTEL_SERVICE_NAME", "neucodex")
        provider = sdk.TracerProvider()
        provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("host_bridge.server")

    def start(session: str, attributes: Mapping[str, Any]) -> Any:
        named = {f"neucodex.{name}": value for name, value in attributes.items()}
        return tracer.start_span("session", attributes={"neucodex.session": session, **named})

    return start
