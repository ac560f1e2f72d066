"""What an operator sees: metrics, logs, spans."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from raw_edge import RawEdge

import host_bridge
from host_bridge import serving
from host_bridge.messages import HEADER_BYTES, Kind
from host_bridge.server.logs import configure_logs, log
from host_bridge.server.metrics import serve_metrics
from host_bridge.server.stats import Histogram, Stats
from neucodex_lava.errors import BridgeError

REPOSITORY = Path(host_bridge.__file__).parents[1]

WATCHED = """
import sys, threading, urllib.request
sys.path.insert(0, "tests/bridge")
from conftest import FakeBatchTail
from host_bridge import serve_forever
serve_forever(FakeBatchTail(), port=0, metrics_port=int(sys.argv[1]), grace_s=0,
              on_listening=lambda host, port: print(f"{host}:{port}", flush=True))
"""


@contextmanager
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def values(text):
    """Name with labels, to value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_the_servers_counts(make_batch_tail, unused_tcp_port):
    tail = make_batch_tail()
    sample = tail.codes(1)[0]
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(unused_tcp_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with RawEdge(address, tail) as edge:
            edge.open()
            for t in (1, 2):
                edge.code(sample[t - 1], 0, t)
                assert edge.get().kind is Kind.LOGITS
            edge.send(Kind.END_SAMPLE, 0, 2)
            edge.code(sample[0], 0, 1)  # an ended sample
            assert edge.end()[0] == "OUT_OF_RANGE"
        with RawEdge(address, tail) as edge:
            edge.open()
            url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
            found = values(urllib.request.urlopen(url, timeout=10).read().decode())
    finally:
        process.kill()
        process.communicate()
    assert found["neucodex_sessions", ()] == 1
    assert found["neucodex_sessions_opened_total", ()] == 2
    assert found["neucodex_steps_total", ()] == 2
    assert found["neucodex_samples_total", ()] == 1
    assert found["neucodex_refused_total", (("status", "OUT_OF_RANGE"),)] == 1
    assert found["neucodex_queued_steps", ()] == 0
    assert found["neucodex_batch_size_count", ()] == 2
    assert found["neucodex_batch_size_bucket", (("le", "1.0"),)] == 2
    assert found["neucodex_step_seconds_bucket", (("le", "+Inf"),)] == 2
    assert found["neucodex_received_bytes_total", ()] > 5 * HEADER_BYTES


@pytest.fixture
def unused_tcp_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_metrics_port_in_use_is_named(unused_tcp_port):
    stop = serve_metrics(Stats(), lambda: 0, unused_tcp_port)
    try:
        with pytest.raises(BridgeError, match=f"cannot listen on 127.0.0.1:{unused_tcp_port}") as e:
            serve_metrics(Stats(), lambda: 0, unused_tcp_port)
        assert "--metrics-port" in e.value.hint
    finally:
        stop()


def test_histogram_counts_values_at_their_upper_bound():
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 5):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert histogram.total == 12


def test_json_logs_carry_the_session(make_tail):
    stream, tail = io.StringIO(), make_tail()
    with restored_logging():
        configure_logs("json", stream)
        with serving(tail) as address, RawEdge(address, tail, session=0xAB) as edge:
            edge.open()
            edge.code(tail.codes(0)[0][0], 3, 2)
            edge.end()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    of_session = [line for line in lines if line.get("session") == f"{0xAB:016x}"]
    assert [line["event"] for line in of_session] == ["opened", "refused", "ended"]
    opened, refused, _ = of_session
    assert (opened["bundle"], opened["peer"], opened["epoch"]) == (tail.model, "anyone", 0)
    assert (refused["status"], refused["level"]) == ("OUT_OF_RANGE", "warning")
    assert "sample 3 timestep 2" in refused["reason"]
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert lines[0]["event"].startswith("listening on 127.0.0.1:")


def test_text_logs_name_the_session_and_json_keeps_tracebacks():
    with restored_logging():
        stream = io.StringIO()
        configure_logs("text", stream)
        log(logging.INFO, "0" * 16, "opened", ": bundle x", peer="me")
        assert stream.getvalue().endswith(f" INFO session {'0' * 16} opened: bundle x\n")
        stream = io.StringIO()
        configure_logs("json", stream)
        try:
            raise KeyError("why")
        except KeyError as error:
            log(logging.ERROR, "0" * 16, "refused", "", error)
        assert "KeyError: 'why'" in json.loads(stream.getvalue())["exception"]


def test_a_header_that_is_no_text_leaves_no_traceback_in_the_log():
    with restored_logging():
        stream = io.StringIO()
        configure_logs("text", stream)
        library = logging.getLogger("grpc._cython.cygrpc")
        # As gRPC says it of a user agent with a flipped bit, and of a defect of ours.
        library.error("Invalid encoding on %s", b"grpc-pyt\xe8on", exc_info=KeyError("noise"))
        assert stream.getvalue() == ""
        library.error("Unexpected [%s] raised by servicer method", KeyError(), exc_info=KeyError())
        assert "raised by servicer method" in stream.getvalue()


def test_a_full_disk_under_the_log_stops_nothing(make_tail, capfd):
    tail = make_tail()
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails as well
    with restored_logging():
        configure_logs("json", full)
        with serving(tail) as address, RawEdge(address, tail) as edge:
            assert edge.open().kind is Kind.OPENED
            edge.code(tail.codes(0)[0][0], 0, 1)
            assert edge.get().kind is Kind.LOGITS
    with pytest.raises(OSError, match="No space left"):
        full.close()
    assert capfd.readouterr().err == ""


TRACED = """
import sys
sys.path[:0] = ["tests/bridge", "tests/support"]
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
from conftest import FakeTail
from raw_edge import RawEdge
from host_bridge import serving
from host_bridge.messages import Kind
tail = FakeTail()
with serving(tail) as address, RawEdge(address, tail, session=0xAB) as edge:
    edge.open()
    edge.code(tail.codes(0)[0][0], 0, 1)
    edge.get()
    edge.send(Kind.END_SAMPLE, 0, 1)
    edge.send(Kind.CLOSE)
    edge.end()
(span,) = spans.get_finished_spans()
print(span.name, span.attributes["neucodex.session"], [event.name for event in span.events])
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )
    return done.stdout.strip()


def test_a_session_is_a_span_where_the_environment_names_a_collector():
    found = run(TRACED, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert found == f"session {0xAB:016x} ['sample']"


def test_nothing_of_opentelemetry_is_imported_otherwise():
    code = """
import sys
sys.path.insert(0, "tests/bridge")
from conftest import FakeTail
from host_bridge import serving
with serving(FakeTail()):
    rooms = ("opentelemetry", "prometheus_client", "structlog")
    print([name for name in sys.modules if name.startswith(rooms)])
"""
    assert run(code) == "[]"
