"""A server's counts for Prometheus, made when somebody asks: counting itself stays cheap."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from host_bridge.server.stats import Histogram, Stats
from neucodex_lava.errors import BridgeError, MissingDependencyError

HOST: Final = "127.0.0.1"

_LOG: Final = logging.getLogger(__name__)

_COUNTERS: Final = {
    "sessions_opened": ("sessions", "Sessions opened"),
    "steps": ("steps", "Timesteps run and answered"),
    "samples": ("samples", "Samples ended by the edge"),
    "busy": ("busy", "Timesteps answered by BUSY"),
    "received_bytes": ("bytes_in", "Message bytes received, headers included"),
    "sent_bytes": ("bytes_out", "Message bytes sent, headers included"),
}
_HISTOGRAMS: Final = {
    "batch_size": ("batch_sizes", "Timesteps run together"),
    "queue_seconds": ("queue_s", "Wait of a timestep for its turn"),
    "step_seconds": ("step_s", "The tail's work on a batch"),
}


class _Collector:
    """Reads the counts at every scrape."""

    def __init__(self, core: Any, stats: Stats, open_sessions: Callable[[], int]) -> None:
        self._core = core
        self._stats = stats
        self._open_sessions = open_sessions

    def collect(self) -> Iterator[Any]:
        """The metric families, as prometheus_client asks for them."""
        core, stats = self._core, self._stats
        for name, value, text in (
            ("sessions", self._open_sessions(), "Streams open now"),
            ("queued_steps", stats.queued, "Timesteps that wait for their turn"),
        ):
            yield core.GaugeMetricFamily(f"neucodex_{name}", text, value=value)
        for name, (attribute, text) in _COUNTERS.items():
            value = getattr(stats, attribute)
            yield core.CounterMetricFamily(f"neucodex_{name}", text, value=value)
        text = "Sessions refused or ended by ERROR, by gRPC status"
        refused = core.CounterMetricFamily("neucodex_refused", text, labels=["status"])
        for status, count in sorted(stats.refused.items()):
            refused.add_metric([status], count)
        yield refused
        for name, (attribute, text) in _HISTOGRAMS.items():
            histogram: Histogram = getattr(stats, attribute)
            yield core.HistogramMetricFamily(
                f"neucodex_{name}", text, buckets=_buckets(histogram), sum_value=histogram.total
            )


def serve_metrics(stats: Stats, open_sessions: Callable[[], int], port: int) -> Callable[[], None]:
    """Answer Prometheus on loopback, ``http://127.0.0.1:PORT/metrics``, from a thread of its own.

    Args:
        stats: what to tell.
        open_sessions: how many streams are open now.
        port: TCP port; 0 takes a free one, which the log names.

    Returns:
        What ends it.

    Raises:
        BridgeError: the port cannot be listened on.
        MissingDependencyError: prometheus_client is not installed.
    """
    try:
        client: Any = importlib.import_module("prometheus_client")
        core: Any = importlib.import_module("prometheus_client.core")
    except ImportError as error:
        raise MissingDependencyError(
            "metrics need prometheus-client, which is not installed",
            'pip install "neucodex-lava[cloud]"',
        ) from error
    registry = client.CollectorRegistry()
    registry.register(_Collector(core, stats, open_sessions))
    try:
        server, thread = client.start_http_server(port, addr=HOST, registry=registry)
    except OSError as error:
        raise BridgeError(
            f"cannot listen on {HOST}:{port}: {(error.strerror or str(error)).lower()}",
            "take another port with --metrics-port",
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    _LOG.info("metrics on http://%s:%d/metrics", HOST, server.server_port)
    return stop


def _buckets(histogram: Histogram) -> list[tuple[str, int]]:
    """Upper ends and how many values lie at or below them."""
    buckets: list[tuple[str, int]] = []
    below = 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), below))
    return buckets
