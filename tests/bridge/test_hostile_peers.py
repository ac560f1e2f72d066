"""Peers that are absent, silent, foreign or malicious, on both sides."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from host_bridge import EdgeClient, serving
from host_bridge.handshake import Open, Opened, Refusal
from host_bridge.messages import Kind, Message, decode, encode
from neucodex_lava.errors import BridgeError, ProtocolError

PATH = "/neucodex.v1.Bridge/Infer"


def edge(address, tail, timeout_s=5.0):
    return EdgeClient(
        address,
        model=tail.model,
        code_shape=tail.code_shape,
        t_max=4,
        timeout_s=timeout_s,
        patience_s=0.0,
    )


@contextmanager
def silent_listener() -> Iterator[str]:
    """Accepts TCP connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held = []

        def accept():
            try:
                while True:
                    held.append(listener.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in held:
            connection.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_silent_server_is_given_up_after_the_timeout(make_tail):
    with silent_listener() as address:
        client = edge(address, make_tail(), timeout_s=0.4)
        start = time.monotonic()
        with pytest.raises(BridgeError) as caught:
            client.open()
        elapsed_s = time.monotonic() - start
    assert caught.value.message == f"no answer from {address} within 0.4 s"
    assert "neucodex serve BUNDLE" in caught.value.hint
    assert 0.4 <= elapsed_s < 4.0


def test_unreachable_port_is_named_with_the_way_out(make_tail):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BridgeError) as caught:
        edge(address, make_tail()).open()
    assert caught.value.message.startswith(f"cannot reach a cloud server at {address}: ")
    assert "refused" in caught.value.message
    assert caught.value.hint == "start it with: neucodex serve BUNDLE"


def test_tail_that_hangs_is_given_up_after_the_timeout(make_tail):
    leave = threading.Event()
    tail = make_tail(before_step=lambda: leave.wait(20))
    with serving(tail, grace_s=0.1) as address, edge(address, tail, timeout_s=0.4) as client:
        client.start_sample()
        with pytest.raises(BridgeError) as caught:
            client.step(tail.codes(0)[0, 0])
        leave.set()
    said = f"no answer from the cloud server at {address} within 0.4 s at sample 0, timestep 1"
    assert caught.value.message == said


@contextmanager
def foreign_server(answer) -> Iterator[str]:
    """A gRPC server on our method that answers each message with `answer(raw)`; None ends it."""

    def infer(requests, _context):
        for raw in requests:
            reply = answer(raw)
            if reply is None:
                return
            yield reply

    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.stream_stream_rpc_method_handler(infer)
    handler = grpc.method_handlers_generic_handler("neucodex.v1.Bridge", {"Infer": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def opened(raw, tail, **changes):
    message = decode(raw, 10_000)
    fields = {"kind": Kind.OPENED, "session": message.session} | changes
    payload = Opened(tail.model, tail.classes, 4, 1.0).to_bytes()
    return encode(Message(**({"payload": payload} | fields)))


@pytest.mark.parametrize(
    ("make_answer", "says"),
    [
        (lambda raw, tail: b"hello", "message of 5 bytes"),
        (lambda raw, tail: raw, "the cloud server answered OPEN for sample 0 timestep 0, expected"),
        (lambda raw, tail: opened(raw, tail, session=1), "answered OPENED"),
        (lambda raw, tail: opened(raw, tail, payload=b"{}"), "OPENED lacks the field classes"),
        (
            lambda raw, tail: opened(raw, tail, payload=Opened("0" * 64, 2, 4, 1.0).to_bytes()),
            "answered for another bundle",
        ),
        (
            lambda raw, tail: opened(
                raw, tail, kind=Kind.ERROR, payload=Refusal("ProtocolError", "no", "").to_bytes()
            ),
            "^no$",
        ),
    ],
)
def test_malformed_answers_to_open_are_protocol_errors(make_tail, make_answer, says):
    tail = make_tail()
    with foreign_server(lambda raw: make_answer(raw, tail)) as address:
        client = edge(address, tail)
        with pytest.raises(ProtocolError, match=says):
            client.open()
        with pytest.raises(BridgeError, match="is not open"):
            client.start_sample()


def test_answer_for_another_timestep_is_refused(make_tail):
    tail = make_tail()

    def answer(raw):
        message = decode(raw, 10_000)
        if message.kind is Kind.OPEN:
            return opened(raw, tail)
        return encode(Message(Kind.LOGITS, message.session, timestep=2, payload=bytes(44)))

    with foreign_server(answer) as address, edge(address, tail) as client:
        client.start_sample()
        with pytest.raises(ProtocolError, match="sample 0 timestep 2, expected LOGITS for 0 and 1"):
            client.step(tail.codes(0)[0, 0])


def test_server_that_ends_the_session_is_named(make_tail):
    with foreign_server(lambda raw: None) as address, pytest.raises(BridgeError) as caught:
        edge(address, make_tail()).open()
    assert caught.value.message == f"the cloud server at {address} ended the session"


def test_grpc_server_of_another_kind_is_named(make_tail):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(BridgeError, match="is a gRPC server but no neucodex server"):
            edge(f"127.0.0.1:{port}", make_tail()).open()
    finally:
        server.stop(None).wait()


def talk(address, raws):
    """Send raw bytes as a stranger would; the decoded answers, then the status's name."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(PATH)(iter(raws))
        answers = []
        try:
            answers.extend(decode(raw, 10_000) for raw in call)
        except grpc.RpcError as error:
            return answers, error.code().name
        return answers, call.code().name


def open_bytes(tail, session=7):
    asked = Open(tail.model, tail.code_shape, 1, 4, {})
    return encode(Message(Kind.OPEN, session, payload=asked.to_bytes()))


def code_bytes(timestep, payload=bytes(3), session=7):
    return encode(Message(Kind.CODE, session, 0, 0, timestep, 1, payload))


@pytest.mark.parametrize(
    ("raws", "says"),
    [
        ([b""], "message of 0 bytes"),
        ([b"GET / HTTP/1.1\r\n" * 4], "not a neucodex message"),
        ([code_bytes(1)], "CODE before OPEN"),
        ([None, code_bytes(2)], "expected timestep 1 of a sample from 0 on"),
        ([None, code_bytes(1), code_bytes(3)], "expected sample 0 timestep 2"),
        ([None, code_bytes(1, bytes(2))], "code of 2 bytes"),
        ([None, code_bytes(1, b"\xff\xff\xff")], "padding bits"),
        ([None, code_bytes(1)[:-1]], "says it carries 3 bytes but carries 2"),
        ([None, code_bytes(1, session=8)], "in the stream of session"),
        ([None, None], "a second OPEN"),
    ],
)
def test_server_refuses_with_an_error_message_and_goes_on(make_tail, raws, says):
    tail = make_tail()
    with serving(tail) as address:
        answers, status = talk(address, [open_bytes(tail) if raw is None else raw for raw in raws])
        refusal = Refusal.from_bytes(answers[-1].payload)
        assert (answers[-1].kind, status) == (Kind.ERROR, refusal.status)
        assert refusal.type == "ProtocolError"
        assert says in refusal.message
        assert answers[0].kind is (Kind.OPENED if raws[0] is None else Kind.ERROR)
        with edge(address, tail) as client:
            assert client.classes == 10
    gc.collect()  # A refused stream's frames refer to each other.
    assert len(tail.alive) == 0


def test_message_beyond_the_limit_is_cut_off_by_the_transport(make_tail):
    tail = make_tail()
    with serving(tail) as address:
        answers, status = talk(address, [bytes(4096 + 29 + 1)])
    assert (answers, status) == ([], "RESOURCE_EXHAUSTED")
